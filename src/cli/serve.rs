//! `eml serve`: a node until it is told to stop.

use super::{Failure, output};
use crate::app;
use crate::cluster::lease::EndReason;
use crate::config::{Settings, without_secret};
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
        store = %without_secret(&settings.store_url()),
        "node is ready"
    );
    if let Some(link) = node.first_link().await? {
        // Not for the log: it is as good as a password.
        output::talk(format!("no user yet; make the first admin until {}:\n  {}", link.expires_at, link.url));
    }
    if settings.providers.is_empty() {
        tracing::warn!(
            "no provider is configured, so no calls can come; see [providers.NAME] in config.toml"
        );
    }
    let ended = tokio::select! {
        () = stopped() => None,
        () = node.engine.drained() => None,
        reason = node.ended() => Some(reason),
    };
    match ended {
        // Others have taken over. Nothing in this process may go on, so another one begins.
        Some(reason @ (EndReason::Fenced | EndReason::BeatLost)) => Err(start_afresh(reason)),
        Some(EndReason::Left) | None => {
            tracing::info!("node is being stopped");
            node.stop().await;
            Ok(())
        }
    }
}

/// Replaces this process by a fresh one of the same program, with nothing left in memory: it comes back
/// under a new run of the node, as it would after a crash. Returns only when that fails.
fn start_afresh(reason: EndReason) -> Failure {
    use std::os::unix::process::CommandExt as _;
    tracing::error!(reason = reason.as_str(), "this run of the node is over; the program starts afresh");
    let failed = |error: std::io::Error| Failure::failed(format!("cannot start afresh: {error}"));
    match std::env::current_exe() {
        Ok(program) => failed(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec()),
        Err(error) => failed(error),
    }
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
