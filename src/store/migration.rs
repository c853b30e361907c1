//! Migrations: what was done to the tables of a store, and what is still to do. Forward only.

use std::collections::BTreeSet;

use sqlx::migrate::Migrator;

use super::error::StoreError;
use super::{is_postgres, postgres, sqlite, unknown};

/// One change of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number; they are applied in this order.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// Whether it was applied.
    pub is_applied: bool,
}

/// The changes of the tables of a store, applied and pending; none for a store without tables.
///
/// # Errors
/// When the store cannot be read.
pub async fn migrations(url: &str) -> Result<Vec<Migration>, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return Ok(listed(&sqlite::MIGRATIONS, &sqlite::applied(url).await?));
    }
    if is_postgres(url) {
        return Ok(listed(&postgres::MIGRATIONS, &postgres::applied(url).await?));
    }
    if url == "memory:" { Ok(Vec::new()) } else { Err(unknown()) }
}

/// Applies what is pending; answers what that was.
///
/// # Errors
/// When the store cannot be written.
pub async fn migrate(url: &str) -> Result<Vec<Migration>, StoreError> {
    let mut pending = migrations(url).await?;
    pending.retain(|migration| !migration.is_applied);
    // Opening a store brings it up to date.
    drop(super::open(url).await?);
    Ok(pending)
}

fn listed(migrator: &Migrator, applied: &BTreeSet<i64>) -> Vec<Migration> {
    let known = migrator.iter().map(|migration| Migration {
        version: migration.version,
        description: migration.description.to_string(),
        is_applied: applied.contains(&migration.version),
    });
    known.collect()
}
