//! Where things are kept, by role: journal, configuration records, call history.

pub mod archive;
pub mod bus;
pub mod cache;
pub mod error;
pub mod history;
pub mod journal;
pub mod memory;
mod plan;
pub mod records;
pub mod redis;
pub mod sqlite;

use std::sync::Arc;

pub use error::StoreError;

/// The stores of a node, whichever products stand behind them.
#[derive(Clone)]
pub struct Stores {
    /// Facts.
    pub journal: Arc<dyn journal::Journal>,
    /// Configuration records.
    pub records: Arc<dyn records::Records>,
    /// Summaries of calls.
    pub history: Arc<dyn history::History>,
    /// What lives for a short time; in this process unless another one is put here.
    pub cache: Arc<dyn cache::Cache>,
}

impl Stores {
    /// One product behind every role.
    fn of<S: journal::Journal + records::Records + history::History>(store: S) -> Self {
        let store = Arc::new(store);
        let cache = Arc::new(memory::MemoryCache::default());
        Self { journal: store.clone(), records: store.clone(), history: store, cache }
    }
}

/// Opens the stores behind a URL: `sqlite://PATH` for a file that is created when missing, or
/// `memory:` for a store that ends with the process.
///
/// # Errors
/// `Refused` for any other scheme and for a file that was not made by this program or by a newer
/// one, `Unavailable` when the file cannot be opened.
pub async fn open(url: &str) -> Result<Stores, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return Ok(Stores::of(sqlite::SqliteStore::open(url).await?));
    }
    if url == "memory:" {
        return Ok(Stores::of(memory::MemoryStore::default()));
    }
    Err(StoreError::Refused("store URL must be `sqlite://PATH` or `memory:`".to_owned()))
}
