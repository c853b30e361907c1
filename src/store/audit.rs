//! The audit trail: one chain of entries over all nodes, in the order of their commits, without gaps.
//!
//! Products: memory, SQLite and PostgreSQL. All pass the contract suite in `tests/it/audit_contract.rs`.

mod chain;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use chain::{Break, ChainEnd, Wrong, verify};
pub(super) use chain::{Columns, Link, adopt_all, seal_all};

use super::error::StoreError;
use crate::domain::identity::{AuditEntry, Sealed};
use crate::domain::time::Timestamp;

/// Which entries are wanted; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// A type of event; a `*` at its end stands for anything.
    pub what: Option<String>,
    /// Who acted, as an id with its prefix, or `host` or `unknown`.
    pub actor: Option<String>,
    /// What it was done to, as an id with its prefix.
    pub subject: Option<String>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether it lets an entry through.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        let is_like = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => entry.what.starts_with(start),
            None => entry.what == *pattern,
        };
        self.what.as_ref().is_none_or(is_like)
            && self.actor.as_ref().is_none_or(|actor| *actor == entry.actor.word())
            && self.subject.as_ref().is_none_or(|subject| Some(subject) == entry.subject.as_ref())
            && self.from.is_none_or(|from| entry.at >= from)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// Where audit entries are kept. They are never changed and never removed.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Appends entries in one transaction, each with the next number and its hash
    /// ([`crate::domain::identity::chain_hash`]). Answers with the number of the last.
    ///
    /// # Errors
    /// When nothing was stored, or when that cannot be known (`StoreError::InDoubt`).
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError>;

    /// Takes entries over from another store, with their numbers and hashes. Answers with the number of
    /// the last.
    ///
    /// # Errors
    /// `Refused` when they are not what comes next in this chain; else as `append_audit`.
    async fn adopt_audit(&self, entries: Vec<Sealed>) -> Result<u64, StoreError>;

    /// Entries that a filter lets through with numbers below `before` (absent = the newest), newest
    /// first, `limit` at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Sealed>, StoreError>;

    /// Entries above a number in order, `limit` at most: what checks the chain and tells of it.
    ///
    /// # Errors
    /// When the store cannot be read; `Corrupt` when an entry is kept among those of something else
    /// than it says of itself.
    async fn audit_after(&self, number: u64, limit: usize) -> Result<Vec<Sealed>, StoreError>;

    /// The end of the chain as the last append left it, kept apart from the entries.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit_end(&self) -> Result<ChainEnd, StoreError>;
}
