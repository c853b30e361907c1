//! The store in PostgreSQL: for nodes whose facts must outlive their machine, alone or as many.
//!
//! One connection writes batches, a pool does the rest. Nothing here keeps state that another node
//! could change, except the set of partitions that are known to exist.

mod append;
mod archive;
mod errors;
mod fence;
mod history;
mod journal;
mod partitions;
mod records;
mod rows;

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};
use tokio::sync::Mutex;

pub use fence::Fence;
use partitions::Partitions;

use super::error::StoreError;

/// How URLs of this product start.
pub const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// How long a request waits for a connection before the store counts as not available. Below the
/// five seconds that a provider waits for the answer to a webhook.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections for everything but batches.
const CONNECTIONS: u32 = 8;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long one statement may take, in milliseconds.
const STATEMENT_TIMEOUT: &str = "10000";
/// How long a connection in a transaction may say nothing, in milliseconds: a node that was frozen
/// must not hold locks that others wait for.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10000";

/// The list that the migrator keeps.
const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success";

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Journal, records and history in one PostgreSQL database.
#[derive(Clone)]
pub struct PostgresStore {
    /// One connection for batches, so that they commit in the order in which they are sent; absent
    /// until it is needed and after it broke.
    writer: Arc<Mutex<Option<PgConnection>>>,
    options: PgConnectOptions,
    pool: PgPool,
    partitions: Partitions,
    fence: Option<Fence>,
}

impl PostgresStore {
    /// Connects to `postgres://USER:PASSWORD@HOST/DATABASE` and brings its tables up to date.
    ///
    /// # Errors
    /// `Refused` when the URL makes no sense or the database was made by a newer program,
    /// `Unavailable` when it cannot be reached.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = options(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_with(options.clone())
            .await
            .map_err(|error| errors::from(&error))?;
        MIGRATIONS.run(&pool).await.map_err(|error| errors::migration(&error))?;
        let store =
            Self { writer: Arc::default(), options, pool, partitions: Partitions::default(), fence: None };
        store.partitions.make_ahead(&store.pool).await?;
        Ok(store)
    }

    /// The same store for one incarnation of a node: it stores nothing once that is declared dead.
    #[must_use]
    pub fn fenced(self, fence: Fence) -> Self {
        Self { fence: Some(fence), ..self }
    }

    /// A connection for batches. Tables that were small when a statement was planned grow, so plans
    /// that read them whole are ruled out.
    async fn connect_writer(&self) -> Result<PgConnection, StoreError> {
        let options = self.options.clone().options([
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        match tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await {
            Ok(connected) => connected.map_err(|error| errors::from(&error)),
            Err(_) => Err(StoreError::Unavailable("no connection in time".to_owned())),
        }
    }

    /// Ends all connections once nobody uses them.
    pub async fn close(&self) {
        drop(self.writer.lock().await.take());
        self.pool.close().await;
    }
}

/// How to connect.
fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| errors::from(&error))?;
    Ok(options
        .application_name("eml")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            // Compiling a statement would take longer than any of ours runs.
            ("jit", "off"),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        ])
        .disable_statement_logging())
}

/// Versions of the migrations that were applied, without applying any.
pub(super) async fn applied(url: &str) -> Result<BTreeSet<i64>, StoreError> {
    let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, options(url)?.connect()).await;
    let connected = connection.map_err(|_| StoreError::Unavailable("no connection in time".to_owned()))?;
    let mut connection = connected.map_err(|error| errors::from(&error))?;
    let found = sqlx::query_scalar(APPLIED).fetch_all(&mut connection).await;
    match found {
        Ok(versions) => Ok(versions.into_iter().collect()),
        Err(error) if errors::is_without_table(&error) => Ok(BTreeSet::new()),
        Err(error) => Err(errors::from(&error)),
    }
}
