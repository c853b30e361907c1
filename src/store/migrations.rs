//! How the tables of a store stand, and bringing them up to date: what `eml migrate` shows and does.

use sqlx::migrate::Migrator;

use super::error::StoreError;
use super::{is_memory, postgres, sqlite, unknown_product};
use crate::domain::time::Timestamp;

/// One step in the life of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number, which grows with each step.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// When it was applied, or `None` while it is pending.
    pub applied_at: Option<Timestamp>,
}

impl Migration {
    /// Whether it is still to be applied.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.applied_at.is_none()
    }
}

/// All migrations this program knows for a store, oldest first. Changes nothing: a file that does not
/// exist is not made, all its migrations are pending. A store in memory has none.
///
/// # Errors
/// `Refused` for a URL of no product, `Unavailable` when the store cannot be reached.
pub async fn status(url: &str) -> Result<Vec<Migration>, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return sqlite::migrations(url).await;
    }
    if postgres::is_named_by(url) {
        return postgres::migrations(url).await;
    }
    if is_memory(url) { Ok(Vec::new()) } else { Err(unknown_product()) }
}

/// Applies what is pending, under a lock that other nodes wait for, and answers as `status` does.
///
/// # Errors
/// As for `status`; also `Refused` when the tables were made by a newer program.
pub async fn up(url: &str) -> Result<Vec<Migration>, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        sqlite::migrate(url).await?;
    } else if postgres::is_named_by(url) {
        postgres::migrate(url).await?;
    }
    status(url).await
}

/// The migrations of a product, with what `applied_at` knows of each.
pub(super) fn list(migrator: &Migrator, applied_at: impl Fn(i64) -> Option<Timestamp>) -> Vec<Migration> {
    let migration = |known: &sqlx::migrate::Migration| Migration {
        version: known.version,
        description: known.description.to_string(),
        applied_at: applied_at(known.version),
    };
    migrator.iter().map(migration).collect()
}
