//! The store in PostgreSQL: what several nodes share.
//!
//! Three small pools: one for the batches of the journal, whose connections are not tested before
//! use since a batch tells by itself whether it may be tried again, one for nodes and shards, and one
//! for everything else, whose connections are. Two more connections listen for changes and renew the
//! lease of the node. Every wait has an end, on the server and on this side of the wire.

mod append;
mod archive;
mod audit;
mod batch;
mod counters;
mod cursors;
mod errors;
mod grants;
mod history;
mod journal;
mod members;
mod partitions;
mod records;
mod revocations;
mod rows;
mod schema;
mod transaction;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::error::StoreError;
use crate::domain::node::NodeRef;
use crate::domain::time::Clock;
use members::Listening;
pub use members::PostgresHeart;
use partitions::Partitions;
pub(super) use schema::{migrate, migrations};

/// How a URL of this product may start.
pub const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Name of our connections in the server's lists, unless the URL has its own.
const APPLICATION_NAME: &str = "eml";
/// How long a request waits for a connection, a new one included. Below the five seconds that a
/// provider waits for the answer to a webhook.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long this side waits for an answer before it gives the connection up. A little more than the
/// server's own limit, so that this one only matters when the server or the network is frozen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// What the server is told for each connection. A node that freezes within a transaction holds locks
/// that keep others from declaring it dead, so the server ends such a transaction.
const SERVER_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("tcp_user_timeout", "10s"),
];
/// Batches that may be under way at a time.
const BATCH_CONNECTIONS: u32 = 4;
/// Other statements that may be under way at a time.
const OTHER_CONNECTIONS: u32 = 8;
/// Statements about who lives and owns what that may be under way at a time. Lists and records must
/// not hold them up: they are what a take-over waits for.
const CONTROL_CONNECTIONS: u32 = 3;
/// How long an unused connection is kept; each is a process of the server.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// All three stores in one PostgreSQL database.
#[derive(Clone)]
pub struct PostgresStore {
    /// For batches of the journal only.
    batches: PgPool,
    /// For everything else.
    pool: PgPool,
    /// For nodes and shards.
    control: PgPool,
    /// For connections outside of the pools.
    options: PgConnectOptions,
    partitions: Arc<Partitions>,
    listening: Arc<Listening>,
    /// The incarnation that batches are written under, if any.
    fence: Option<NodeRef>,
}

impl PostgresStore {
    /// Connects to `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (`?host=/FOLDER` for a Unix socket),
    /// brings the tables up to date, under a lock that other nodes wait for, and makes partitions for
    /// the months around now.
    ///
    /// # Errors
    /// `Refused` when the URL is wrong, the login or the database is unknown, or the tables were made
    /// by a newer program; `Unavailable` when the server cannot be reached.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = options(url)?;
        schema::bring_up_to_date(&options).await?;
        let pool = tested_pool(OTHER_CONNECTIONS).connect_lazy_with(options.clone());
        let control = tested_pool(CONTROL_CONNECTIONS).connect_lazy_with(options.clone());
        // A batch finds out by itself, which spares it a round trip.
        let batches = pool_of(BATCH_CONNECTIONS).test_before_acquire(false);
        let batches = batches.connect_lazy_with(options.clone());
        let partitions = Arc::new(Partitions::default());
        partitions.make_around(&pool, Clock.now()).await?;
        let listening = Arc::default();
        Ok(Self { batches, pool, control, options, partitions, listening, fence: None })
    }

    /// The same store for one incarnation of a node: its batches are refused with `Fenced` once the
    /// incarnation is declared dead or replaced.
    #[must_use]
    pub fn fenced(&self, node: NodeRef) -> Self {
        Self { fence: Some(node), ..self.clone() }
    }

    /// Waits for work under way and closes all connections.
    pub async fn close(&self) {
        self.listening.end();
        self.control.close().await;
        self.batches.close().await;
        self.pool.close().await;
    }
}

/// Whether a URL belongs to this product.
pub(super) fn is_named_by(url: &str) -> bool {
    SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

/// Reads a URL and adds what we ask of every connection.
fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| errors::from(&error))?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name(APPLICATION_NAME),
    };
    Ok(options.options(SERVER_LIMITS).disable_statement_logging())
}

fn pool_of(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
}

/// Connections that are tested before each use, so that a restart of the server stays unnoticed, and
/// after it: one whose answer was not waited for must not keep its place until the network gives up.
fn tested_pool(connections: u32) -> PgPoolOptions {
    pool_of(connections).after_release(|connection, _| {
        Box::pin(async move {
            let answer = tokio::time::timeout(ACQUIRE_TIMEOUT, connection.ping()).await;
            answer.map_err(|_| frozen())?.map(|()| true)
        })
    })
}

/// Waits for an answer of the server, but not for ever.
async fn answered<T>(answer: impl Future<Output = Result<T, sqlx::Error>> + Send) -> Result<T, StoreError> {
    within_limit(answer).await.map_err(|error| errors::from(&error))
}

/// The same for a statement that changes something and commits by itself: when the connection breaks,
/// nobody knows whether it did.
async fn written<T>(answer: impl Future<Output = Result<T, sqlx::Error>> + Send) -> Result<T, StoreError> {
    within_limit(answer).await.map_err(|error| errors::from_write(&error))
}

async fn within_limit<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| frozen())?
}

/// The error of a server or a network that does not answer.
fn frozen() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
