//! `eml check-config` and `eml config …`.

use std::path::Path;

use super::{Failure, output};
use crate::config::{self, Loaded, without_secret};
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
        output::talk(format_args!("warning: {warning}"));
    }
    if !arguments.offline {
        reach_store(&settings.store_url()).await?;
    }
    if arguments.deny_warnings && !warnings.is_empty() {
        return Err(Failure::warned(warnings.len()));
    }
    output::line(format_args!("configuration is good"));
    Ok(())
}

/// Opens the store that is there. One that is not there yet is not made: a check leaves no traces.
async fn reach_store(url: &str) -> Result<(), Failure> {
    let path = url.strip_prefix("sqlite://").map(Path::new);
    if let Some(path) = path.filter(|path| !path.exists()) {
        can_be_made(path)?;
        output::talk(format_args!("the store {} will be made at the first start", path.display()));
        return Ok(());
    }
    let stores = store::open(url).await?;
    Ok(stores.journal.ping().await?)
}

/// Whether the nearest folder that exists can take a new file.
fn can_be_made(path: &Path) -> Result<(), Failure> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::failed(error.to_string()))?;
    let folder = absolute.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let is_fit = folder.metadata().is_ok_and(|found| found.is_dir() && !found.permissions().readonly());
    if is_fit {
        return Ok(());
    }
    let why = format!("the store {} cannot be made in {}", path.display(), folder.display());
    Err(Failure::dependency(why))
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
    match value.as_str() {
        _ if is_secret && is_set => "\"(hidden)\"".to_owned(),
        Some(url) if key.rsplit('.').next() == Some("url") => format!("\"{}\"", without_secret(url)),
        Some(_) | None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_makes_no_store_but_tells_where_none_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/eml.db");
        assert!(reach_store(&format!("sqlite://{}", path.display())).await.is_ok());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "nothing was made");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below_a_file = file.join("eml.db");
        assert!(reach_store(&format!("sqlite://{}", below_a_file.display())).await.is_err());
        assert!(reach_store("memory:").await.is_ok());
    }
}
