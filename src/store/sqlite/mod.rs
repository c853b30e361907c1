//! The store in one SQLite file: the default of a node that runs alone.
//!
//! One connection writes, a few read. The write-ahead log lets them work side by side, and every
//! commit is on the disk before it is answered (`synchronous = FULL`).

mod append;
mod archive;
mod audit;
mod checkpoint;
mod counters;
mod cursors;
mod errors;
mod grants;
mod history;
mod journal;
mod records;
mod revocations;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};

use super::error::StoreError;
use checkpoint::Checkpointer;
pub use counters::RunningCounter;
pub(super) use schema::{migrate, migrations};
use writer::Writer;

/// How a URL of this product starts; the path of the file follows.
pub const SCHEME: &str = "sqlite://";

/// How long a statement waits for another program that has locked the file. Below the five
/// seconds that a provider waits for the answer to a webhook.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for a free connection before the store counts as overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers that may work at a time.
const READERS: u32 = 3;
/// How long an unused connection besides the writer is kept; each holds a thread and its cache.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Page cache of the writer in KiB: the inner pages of the indexes that appends touch.
const WRITER_CACHE_KIB: u32 = 8_192;
/// Page cache of a reader in KiB.
const READER_CACHE_KIB: u32 = 1_024;
/// Pages of 4 KiB in the write-ahead log before the writer itself moves them into the file, which
/// makes an append wait. Usually the checkpointer has moved nearly all of them by then.
const CHECKPOINT_PAGES: u32 = 8_000;
/// Bytes that the write-ahead log keeps on the disk after a burst.
const LOG_LIMIT: u32 = 64 * 1024 * 1024;

/// All three stores in one SQLite file.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    checkpointer: Checkpointer,
}

impl SqliteStore {
    /// Opens `sqlite://PATH`, creating the file and its folder when missing, and brings its tables
    /// up to date.
    ///
    /// # Errors
    /// `Refused` when the URL names no file, or the file is none of ours or was made by a newer
    /// program; `Unavailable` when it cannot be opened.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let path = path_of(url)?;
        create_folder(&path)?;
        let file = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        let writer = pool(1).idle_timeout(None).connect_with(writing(file.clone()));
        let writer = writer.await.map_err(|error| errors::from(&error))?;
        schema::bring_up_to_date(&writer).await?;
        let readers = pool(READERS).connect_lazy_with(reading(file.clone()));
        let checkpointer = Checkpointer::new(pool(1).connect_lazy_with(moving(file)));
        Ok(Self { writer: Writer::new(writer), readers, checkpointer })
    }

    /// Waits for work under way, moves the write-ahead log into the file and closes it.
    pub async fn close(&self) {
        self.checkpointer.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Whether the file of a URL is there.
#[must_use]
pub fn exists(url: &str) -> bool {
    path_of(url).is_ok_and(|path| path.exists())
}

/// Connections that are only closed when they are idle or broken.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(None)
}

fn writing(file: SqliteConnectOptions) -> SqliteConnectOptions {
    file.create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .pragma("journal_size_limit", LOG_LIMIT.to_string())
        .thread_name(|_| "store-writer".to_owned())
}

fn reading(file: SqliteConnectOptions) -> SqliteConnectOptions {
    file.pragma("cache_size", format!("-{READER_CACHE_KIB}"))
        .pragma("query_only", "ON")
        .thread_name(|i| format!("store-reader-{i}"))
}

fn moving(file: SqliteConnectOptions) -> SqliteConnectOptions {
    file.synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
        .thread_name(|_| "store-log".to_owned())
}

/// The path in a URL of this product.
fn path_of(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix(SCHEME).unwrap_or_default();
    if path.is_empty() || path.contains('?') {
        return Err(StoreError::Refused(format!("store URL must be `{SCHEME}PATH` without options")));
    }
    Ok(PathBuf::from(path))
}

fn create_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .map_err(|error| StoreError::Unavailable(format!("cannot create {}: {error}", folder.display())))
}
