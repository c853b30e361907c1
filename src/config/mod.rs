//! The configuration: defaults, files, environment, flags, and what may be wrong with them.

mod load;
mod oidc;
mod problem;
mod settings;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use load::{DEFAULTS, Loaded, PREFIX, Sources, load, variable_of};
pub use oidc::Oidc;
pub use problem::ConfigProblem;
pub use settings::*;

/// Reads files and environment; nothing is checked yet.
///
/// # Errors
/// When a file that was named cannot be read.
pub fn gather(file: Option<&Path>, environment: BTreeMap<String, String>) -> Result<Sources, ConfigProblem> {
    let unreadable = |path: &Path, error: &std::io::Error| ConfigProblem {
        code: "EML-0101",
        place: path.display().to_string(),
        message: format!("cannot be read: {error}"),
        excerpt: None,
    };
    let mut sources = Sources::default();
    let (path, is_named) = match file {
        Some(path) => (path.to_owned(), true),
        None => (PathBuf::from("config.toml"), false),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => sources.files.push((path.display().to_string(), text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => {}
        Err(error) => return Err(unreadable(&path, &error)),
    }
    let folder = path.parent().unwrap_or(Path::new("")).join("config.d");
    let mut parts: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .map_err(|error| unreadable(&folder, &error))?;
    parts.retain(|part| part.extension().is_some_and(|ending| ending == "toml"));
    parts.sort();
    for part in parts {
        let text = std::fs::read_to_string(&part).map_err(|error| unreadable(&part, &error))?;
        sources.files.push((part.display().to_string(), text));
    }
    let is_set_twice =
        |name: &&String| load::from_file(name).is_some_and(|key| environment.contains_key(key));
    if let Some(name) = environment.keys().find(is_set_twice) {
        let plain = load::from_file(name).unwrap_or_default();
        let message = format!("is set together with {plain}; keep one of them");
        return Err(ConfigProblem::plain("EML-0105", name.as_str(), message));
    }
    for (name, value) in environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match load::from_file(&name) {
            Some(target) => {
                let path = PathBuf::from(&value);
                let secret = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                sources.environment.insert(target.to_owned(), secret.trim_end().to_owned());
            }
            None => {
                sources.environment.insert(name, value);
            }
        }
    }
    Ok(sources)
}
