//! `eml serve`: a node until it is told to stop.

use super::Failure;
use crate::app;
use crate::config::Settings;
use crate::telemetry::logs;

/// How to serve.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Arguments {
    /// Address and port of API, `WebSockets` and webhooks.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
}

pub(super) async fn run(settings: Settings) -> Result<(), Failure> {
    logs::init(&settings.telemetry.log_format, &settings.telemetry.log_level);
    let node = app::start(&settings).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %node.address,
        store = %settings.store_url(),
        "node is ready"
    );
    if settings.providers.is_empty() {
        tracing::warn!(
            "no provider is configured, so no calls can come; see [providers.NAME] in config.toml"
        );
    }
    stopped().await;
    tracing::info!("node is being stopped");
    node.stop().await;
    Ok(())
}

/// Waits until the program is asked to stop.
pub(super) async fn stopped() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}
