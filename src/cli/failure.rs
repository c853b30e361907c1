//! How a command fails: a message on standard error and an exit code.

use std::process::ExitCode;

use crate::config::ConfigProblem;

/// A failed command. Codes: 1 failed, 69 dependency down, 77 not permitted, 78 bad configuration.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Something it needs is not there.
    #[must_use]
    pub fn dependency(message: impl Into<String>) -> Self {
        Self { code: 69, message: message.into() }
    }

    /// It may not be done.
    #[must_use]
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self { code: 77, message: message.into() }
    }

    /// The configuration is of no use.
    #[must_use]
    pub fn config(problems: &[ConfigProblem]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Self { code: 78, message: lines.join("\n") }
    }

    pub(super) fn report(self) -> ExitCode {
        eprintln!("{}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let message = format!("{error:#}");
        match error.downcast_ref::<crate::store::StoreError>() {
            Some(_) => Self::dependency(message),
            None => Self::failed(message),
        }
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        Self::dependency(error.to_string())
    }
}
