//! Bringing the tables up to date, and telling how they stand.

use std::collections::HashMap;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::{SqliteStore, errors, path_of};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::migrations::{self, Migration};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const HAS_TABLE: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations')";
const APPLIED: &str =
    "SELECT version, CAST(strftime('%s', installed_on) AS INTEGER) FROM _sqlx_migrations WHERE success";

/// Runs what is pending.
pub(super) async fn bring_up_to_date(writer: &SqlitePool) -> Result<(), StoreError> {
    MIGRATIONS.run(writer).await.map_err(|error| errors::migration(&error))
}

/// All migrations with the time at which each was applied. Makes no file.
pub(in crate::store) async fn migrations(url: &str) -> Result<Vec<Migration>, StoreError> {
    let path = path_of(url)?;
    let seconds = if path.exists() {
        let file = SqliteConnectOptions::new().filename(&path).read_only(true).disable_statement_logging();
        applied(file).await.map_err(|error| errors::from(&error))?
    } else {
        HashMap::new()
    };
    let at = |version| {
        let seconds = seconds.get(&version).copied();
        seconds.map(|seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000)))
    };
    Ok(migrations::list(&MIGRATIONS, at))
}

/// Opening brings the tables up to date.
pub(in crate::store) async fn migrate(url: &str) -> Result<(), StoreError> {
    SqliteStore::open(url).await?.close().await;
    Ok(())
}

/// When each migration was applied, in seconds since 1970 UTC.
async fn applied(file: SqliteConnectOptions) -> Result<HashMap<i64, i64>, sqlx::Error> {
    let mut connection = file.connect().await?;
    let has_table = sqlx::query_scalar(HAS_TABLE).fetch_one(&mut connection).await?;
    let rows: Vec<(i64, i64)> =
        if has_table { sqlx::query_as(APPLIED).fetch_all(&mut connection).await? } else { Vec::new() };
    connection.close().await?;
    Ok(rows.into_iter().collect())
}
