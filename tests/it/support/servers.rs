//! Servers of a test's own, which it may stop, kill and start again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::services::not_run;

/// A set of the four servers.
pub(crate) struct Servers {
    folder: TempDir,
    addresses: HashMap<String, String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services")
}

impl Servers {
    /// Starts them; `None` (said aloud) where `scripts/test` did not find them, which with `CI=true`
    /// is a failure.
    pub(crate) fn up() -> Option<Self> {
        Self::up_only(&["postgres", "redis", "rabbit", "mongo"])
    }

    /// The same for some of them.
    pub(crate) fn up_only(wanted: &[&str]) -> Option<Self> {
        if std::env::var_os("EML_TEST_SERVICES").is_none() {
            return not_run("EML_TEST_SERVICES is not set; ./scripts/test starts the servers");
        }
        let folder = tempfile::Builder::new().prefix("eml-faults").tempdir().unwrap();
        let mut command = Command::new(script());
        // All of them are to be its own, whatever the other tests use; one that is given is not started.
        for name in ["postgres", "redis", "rabbit", "mongo"] {
            let variable = format!("EML_TEST_{}", name.to_uppercase());
            if wanted.contains(&name) {
                command.env_remove(variable);
            } else {
                command.env(variable, "not wanted");
            }
        }
        let started = command.arg("up").arg(folder.path()).status().unwrap();
        assert!(started.success(), "servers start");
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        let pairs = env.lines().filter_map(|line| line.split_once('='));
        let addresses = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Self { folder, addresses })
    }

    /// The address of one: postgres, redis, rabbit or mongo.
    pub(crate) fn url(&self, name: &str) -> &str {
        &self.addresses[&format!("EML_TEST_{}", name.to_uppercase())]
    }

    /// Does something to one: start, stop or kill.
    pub(crate) fn run(&self, verb: &str, name: &str) {
        let done = Command::new(script()).arg(verb).arg(self.folder.path()).arg(name).status().unwrap();
        assert!(done.success(), "{verb} {name}");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("down").arg(self.folder.path()).status();
    }
}
