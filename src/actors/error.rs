//! Why an actor did not answer as wished.

use crate::store::StoreError;

/// Why a question to an actor has no good answer. `R` is the machine's own refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError<R: std::error::Error> {
    /// The machine refuses; nothing happened.
    #[error("{0}")]
    Refused(R),
    /// The facts could not be stored; nothing happened.
    #[error("{0}")]
    Store(StoreError),
    /// Too much is waiting to be stored; come back later.
    #[error("overloaded")]
    Overloaded,
    /// The actor failed too often and is put aside for a while.
    #[error("put aside after repeated failures")]
    Quarantined,
    /// The actor did not answer in time, or failed while answering.
    #[error("no answer in time")]
    Unavailable,
}
