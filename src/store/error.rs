//! What can go wrong in a store.

/// Why a store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or is overloaded; nothing was stored, trying again may help.
    #[error("store is not available: {0}")]
    Unavailable(String),
    /// The connection broke while committing: it may or may not have been stored.
    #[error("outcome of the commit is unknown: {0}")]
    InDoubt(String),
    /// This node was declared dead or runs under a newer incarnation: it may never write again.
    #[error("node is fenced: {0}")]
    Fenced(String),
    /// What was read does not fit what we write.
    #[error("corrupt value in {table}.{column} of {id}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
    },
    /// A unique name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// The record was changed by somebody else since it was read.
    #[error("record was changed since it was read")]
    Changed,
    /// The request cannot be carried out by this store.
    #[error("store refuses: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::InDoubt(_) => true,
            Self::Corrupt { .. } | Self::Exists(_) | Self::Changed | Self::Fenced(_) | Self::Refused(_) => {
                false
            }
        }
    }
}
