//! `eml explain` and `eml version`.

use super::{Failure, output};
use crate::domain::catalogue;

/// What to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A code, as in EML-1014.
    code: String,
}

/// How to print the version.
#[derive(Debug, clap::Args)]
pub(super) struct Version {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let entry = catalogue::find(&arguments.code).ok_or_else(|| {
        Failure::failed(format!("there is no code {}; codes look like EML-1014", arguments.code))
    })?;
    output::line(format_args!(
        "{}: {}\n\n{}\n\nWhat to do: {}",
        entry.code, entry.title, entry.what, entry.fix
    ));
    Ok(())
}

pub(super) fn version(arguments: &Version) {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), option_env!("EML_COMMIT").unwrap_or("unknown"));
    if arguments.json {
        output::line(serde_json::json!({ "version": version, "commit": commit }));
    } else {
        output::line(format_args!("eml {version} ({commit})"));
    }
}
