//! How a command fails: a message on standard error and an exit code.

use std::process::ExitCode;

use super::output;
use crate::config::ConfigProblem;
use crate::store::StoreError;

/// A failed command. Codes: 1 failed, 69 dependency down, 75 outcome unknown, try later, 77 not permitted, 78 bad configuration.
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

    /// The configuration can be used, but warnings were not to be let pass.
    #[must_use]
    pub(super) fn warned(count: usize) -> Self {
        Self { code: 78, message: format!("{count} of the warnings above count as faults: --deny-warnings") }
    }

    pub(super) fn report(self) -> ExitCode {
        output::talk(&self.message);
        ExitCode::from(self.code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let message = format!("{error:#}");
        let code = error.downcast_ref::<StoreError>().map_or(1, code_of);
        Self { code, message }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { code: code_of(&error), message: error.to_string() }
    }
}

/// The exit code for an error of the store: only a store that is away is a dependency that is down.
const fn code_of(error: &StoreError) -> u8 {
    match error {
        StoreError::Unavailable(_) => 69,
        StoreError::InDoubt(_) => 75,
        StoreError::Refused(_) => 78,
        StoreError::Fenced(_) | StoreError::Corrupt { .. } | StoreError::Exists(_) | StoreError::Changed => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_a_store_that_is_away_from_a_request_that_is_wrong() {
        for (error, want) in [
            (StoreError::Unavailable("away".to_owned()), 69),
            (StoreError::InDoubt("broken".to_owned()), 75),
            (StoreError::Refused("other product".to_owned()), 78),
            (StoreError::Exists("ann".to_owned()), 1),
        ] {
            let wrapped = anyhow::Error::new(error.clone()).context("while starting");
            assert_eq!(
                (Failure::from(error.clone()).code, Failure::from(wrapped).code),
                (want, want),
                "{error}"
            );
        }
    }
}
