//! Where things are kept, by role: journal, configuration records, call history.

pub mod archive;
pub mod bus;
pub mod cache;
pub mod error;
pub mod history;
pub mod journal;
pub mod memory;
pub mod migrations;
mod plan;
pub mod postgres;
pub mod records;
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
}

impl Stores {
    /// One product behind every role.
    #[must_use]
    pub fn of<S: journal::Journal + records::Records + history::History>(store: S) -> Self {
        let store = Arc::new(store);
        Self { journal: store.clone(), records: store.clone(), history: store }
    }
}

/// Opens the stores behind a URL and brings their tables up to date: `sqlite://PATH` for a file that
/// is created when missing, `postgres://USER:PASSWORD@HOST/DATABASE` for a server, or `memory:` for a
/// store that ends with the process.
///
/// # Errors
/// `Refused` for any other scheme and for tables that were not made by this program or by a newer
/// one, `Unavailable` when the file cannot be opened or the server not reached.
pub async fn open(url: &str) -> Result<Stores, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return Ok(Stores::of(sqlite::SqliteStore::open(url).await?));
    }
    if postgres::is_named_by(url) {
        return Ok(Stores::of(postgres::PostgresStore::open(url).await?));
    }
    if is_memory(url) {
        return Ok(Stores::of(memory::MemoryStore::default()));
    }
    Err(unknown_product())
}

fn is_memory(url: &str) -> bool {
    url == "memory:"
}

fn unknown_product() -> StoreError {
    StoreError::Refused(
        "store URL must be `sqlite://PATH`, `postgres://USER:PASSWORD@HOST/DATABASE` or `memory:`".to_owned(),
    )
}
