//! News of changes, on a connection of its own that is opened again whenever it breaks.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::store::members::{CHANGES_KEPT, Change};
use crate::store::postgres::{ACQUIRE_TIMEOUT, frozen};

const NODES: &str = "eml_nodes";
const RECORDS: &str = "eml_records";

/// Channels are those of the whole database; what another schema tells is not for us.
const SCHEMA: &str = "SELECT coalesce(current_schema()::text, '')";

/// How long nothing may come before the connection is tested.
const QUIET: Duration = Duration::from_secs(3);
/// How long a broken connection is not opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens for all who want to know, from the first of them on.
pub(in crate::store::postgres) struct Listening {
    sender: broadcast::Sender<Change>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Default for Listening {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CHANGES_KEPT), task: Mutex::default() }
    }
}

impl Listening {
    pub(super) fn receiver(&self, options: &PgConnectOptions) -> broadcast::Receiver<Change> {
        let changes = self.sender.subscribe();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(listen(options.clone(), self.sender.clone())));
        } else {
            let _ = self.sender.send(Change::Unknown);
        }
        changes
    }

    /// Closes the connection.
    pub(in crate::store::postgres) fn end(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}

async fn listen(options: PgConnectOptions, sender: broadcast::Sender<Change>) {
    // One line for an outage, not one for each try.
    let mut is_told = false;
    loop {
        match connect(&options).await {
            Ok((listener, schema)) => {
                is_told = false;
                // Whatever was told before was missed.
                let _ = sender.send(Change::Unknown);
                let Err(error) = follow(listener, &schema, &sender).await;
                tracing::warn!(%error, "no news of other nodes for a moment");
                let _ = sender.send(Change::Unknown);
            }
            Err(error) if is_told => tracing::debug!(%error, "still no news of other nodes"),
            Err(error) => {
                tracing::warn!(%error, "no news of other nodes");
                is_told = true;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A connection that listens, and the schema it belongs to.
async fn connect(options: &PgConnectOptions) -> Result<(PgListener, String), sqlx::Error> {
    // One pool for each, as a connection that died without a word would keep the next one out.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool.max_lifetime(None).idle_timeout(None).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    // A new connection is our own affair, since we must say that there was a gap.
    listener.eager_reconnect(false);
    soon(listener.listen_all([NODES, RECORDS])).await?;
    let schema = soon(sqlx::query_scalar(SCHEMA).fetch_one(&mut listener)).await?;
    Ok((listener, schema))
}

/// Tells what comes until the connection breaks.
async fn follow(
    mut listener: PgListener,
    schema: &str,
    sender: &broadcast::Sender<Change>,
) -> Result<Infallible, sqlx::Error> {
    loop {
        let Ok(news) = tokio::time::timeout(QUIET, listener.try_recv()).await else {
            soon(sqlx::query("SELECT 1").execute(&mut listener)).await?;
            continue;
        };
        let Some(news) = news? else { return Err(lost()) };
        let change = match news.channel() {
            NODES => Change::Nodes,
            RECORDS => Change::Records,
            // We listen to no other.
            _ => Change::Unknown,
        };
        if news.payload() == schema {
            let _ = sender.send(change);
        }
    }
}

async fn soon<T>(answer: impl Future<Output = Result<T, sqlx::Error>> + Send) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ACQUIRE_TIMEOUT, answer).await.unwrap_or_else(|_| Err(frozen()))
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into())
}
