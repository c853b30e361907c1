//! `eml check-config` and `eml config …`.

use super::{Failure, output};
use crate::config::{self, Loaded};
use crate::store;

/// How to check.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Does not try to open the store.
    #[arg(long)]
    offline: bool,
    /// Fails on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Show {
    /// The values that apply; secrets are hidden.
    #[command(name = "show")]
    Values {
        /// Also where each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// The defaults, with unit and meaning of each key.
    Default,
    /// The variables that set each key.
    Env,
}

pub(super) async fn run(arguments: &Arguments, loaded: Result<Loaded, Failure>) -> Result<(), Failure> {
    let settings = loaded?.settings;
    let mut warnings = Vec::new();
    if settings.providers.is_empty() {
        warnings.push("no provider: no calls can come; add a [providers.NAME] section");
    }
    if settings.public_url().starts_with("http://") {
        warnings.push("server.public_url is not https: providers send secrets to it");
    }
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if !arguments.offline {
        let stores = store::open(&settings.store_url()).await?;
        stores.journal.ping().await?;
    }
    if arguments.deny_warnings && !warnings.is_empty() {
        return Err(Failure::config(&[]));
    }
    output::line(format_args!("configuration is good"));
    Ok(())
}

pub(super) fn show(show: &Show, loaded: Result<Loaded, Failure>) -> Result<(), Failure> {
    match show {
        Show::Default => output::line(config::DEFAULTS.trim_end()),
        Show::Env => {
            for (key, (value, _)) in loaded?.values {
                output::line(format_args!("{}={}", config::variable_of(&key), plain(&key, &value)));
            }
        }
        Show::Values { origin } => {
            for (key, (value, from)) in loaded?.values {
                let value = plain(&key, &value);
                if *origin {
                    output::line(format_args!("{key} = {value}    # {from}"));
                } else {
                    output::line(format_args!("{key} = {value}"));
                }
            }
        }
    }
    Ok(())
}

/// A value as it may be seen.
fn plain(key: &str, value: &toml::Value) -> String {
    let is_secret = key.contains("auth_token");
    let is_set = value.as_str().is_none_or(|text| !text.is_empty());
    if is_secret && is_set { "\"(hidden)\"".to_owned() } else { value.to_string() }
}
