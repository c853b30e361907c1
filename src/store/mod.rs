//! Where things are kept, by role: journal, configuration records, call history.

pub mod archive;
pub mod bus;
pub mod cache;
pub mod error;
pub mod history;
pub mod inspection;
pub mod journal;
pub mod memory;
pub mod migration;
mod plan;
pub mod postgres;
pub mod records;
pub mod redis;
pub mod sqlite;

use std::sync::Arc;

pub use error::StoreError;
pub use inspection::Inspection;
pub use migration::{Migration, migrate, migrations};

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
    fn of<S: journal::Journal + records::Records + history::History>(store: S) -> Self {
        let store = Arc::new(store);
        Self { journal: store.clone(), records: store.clone(), history: store }
    }
}

fn is_postgres(url: &str) -> bool {
    postgres::SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

fn unknown() -> StoreError {
    StoreError::Refused("store URL must be `postgres://…`, `sqlite://PATH` or `memory:`".to_owned())
}

/// A URL as it may be shown: without the password in it.
#[must_use]
pub fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{place}")
}

/// Opens the stores behind a URL: `postgres://…` for a database, `sqlite://PATH` for a file that is
/// created when missing, or `memory:` for a store that ends with the process.
///
/// # Errors
/// `Refused` for any other scheme and for a file that was not made by this program or by a newer
/// one, `Unavailable` when the file cannot be opened.
pub async fn open(url: &str) -> Result<Stores, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return Ok(Stores::of(sqlite::SqliteStore::open(url).await?));
    }
    if is_postgres(url) {
        return Ok(Stores::of(postgres::PostgresStore::open(url).await?));
    }
    if url == "memory:" {
        return Ok(Stores::of(memory::MemoryStore::default()));
    }
    Err(unknown())
}
