//! Bringing the tables up to date, and telling how they stand.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::{answered, errors, options};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::migrations::{self, Migration};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const HAS_TABLE: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
const APPLIED: &str = "SELECT version, (extract(epoch FROM installed_on) * 1000)::bigint \
     FROM _sqlx_migrations WHERE success";

/// Runs what is pending, on a connection of its own: a migration, or waiting for the one of another
/// node, may take longer than statements usually may.
pub(super) async fn bring_up_to_date(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = connect(&options.clone().options([("statement_timeout", "0")])).await?;
    let done = MIGRATIONS.run(&mut connection).await.map_err(|error| errors::migration(&error));
    // Closing also gives the lock free when a migration failed; that it fails itself is no matter.
    let _ = connection.close().await;
    done
}

/// All migrations with the time at which each was applied.
pub(in crate::store) async fn migrations(url: &str) -> Result<Vec<Migration>, StoreError> {
    let mut connection = connect(&options(url)?).await?;
    let has_table = sqlx::query_scalar(HAS_TABLE).fetch_one(&mut connection);
    let applied: HashMap<i64, i64> = if answered(has_table).await? {
        answered(sqlx::query_as(APPLIED).fetch_all(&mut connection)).await?.into_iter().collect()
    } else {
        HashMap::new()
    };
    let _ = connection.close().await;
    Ok(migrations::list(&MIGRATIONS, |version| applied.get(&version).copied().map(Timestamp::from_millis)))
}

/// Applies what is pending.
pub(in crate::store) async fn migrate(url: &str) -> Result<(), StoreError> {
    bring_up_to_date(&options(url)?).await
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let late = |_| StoreError::Unavailable("server does not answer".to_owned());
    connected.map_err(late)?.map_err(|error| errors::from(&error))
}
