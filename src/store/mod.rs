//! Where things are kept, by role: journal, configuration records, call history, grants, audit trail.

pub mod archive;
pub mod audit;
pub mod bus;
pub mod cache;
pub mod error;
pub mod grants;
pub mod history;
pub mod inspection;
pub mod journal;
pub mod members;
pub mod memory;
pub mod migrations;
pub mod mongodb;
mod plan;
pub mod postgres;
pub mod rabbitmq;
pub mod records;
pub mod redis;
pub mod sqlite;

use std::sync::Arc;

use crate::domain::node::NodeRef;
pub use error::StoreError;
pub use inspection::Inspection;

/// The stores of a node, whichever products stand behind them.
#[derive(Clone)]
pub struct Stores {
    /// Facts.
    pub journal: Arc<dyn journal::Journal>,
    /// Configuration records.
    pub records: Arc<dyn records::Records>,
    /// What lets somebody in for a while.
    pub grants: Arc<dyn grants::Grants>,
    /// Who did what.
    pub audit: Arc<dyn audit::AuditLog>,
    /// Summaries of calls.
    pub history: Arc<dyn history::History>,
    /// What is over, kept for reports.
    pub archive: Arc<dyn archive::Archive>,
    /// Whether the archive is a product of its own, to which facts must be brought.
    pub archive_is_apart: bool,
    /// Short-lived values.
    pub cache: Arc<dyn cache::Cache>,
    /// Events and work.
    pub bus: Arc<dyn bus::Bus>,
    /// Who lives and who owns what, where several nodes can share the store.
    pub members: Option<Arc<dyn members::Members>>,
}

/// Which product fills each role, by its URL.
#[derive(Debug, Clone, Copy)]
pub struct StoreUrls<'a> {
    /// Journal, records, history, grants and audit trail.
    pub store: &'a str,
    /// The archive; `store:` for the store itself.
    pub archive: &'a str,
    /// The cache; `memory:` for this process.
    pub cache: &'a str,
    /// The bus; `memory:` for this process.
    pub bus: &'a str,
}

/// One product that keeps everything.
trait Whole: archive::Shelf + records::Records + grants::Grants + audit::AuditLog + Clone {}

impl<S: archive::Shelf + records::Records + grants::Grants + audit::AuditLog + Clone> Whole for S {}

impl Stores {
    /// The same stores for one run of a node: its batches are refused with `Fenced` once that is no
    /// longer the living one. A store that no other node can share stays as it is.
    #[must_use]
    pub fn fenced(&self, node: &NodeRef) -> Self {
        match &self.members {
            Some(members) => Self { journal: members.journal_of(node), ..self.clone() },
            None => self.clone(),
        }
    }

    /// The same with nodes that can share it.
    fn shared<S: Whole + members::Members>(store: S) -> Self {
        Self { members: Some(Arc::new(store.clone())), ..Self::of(store) }
    }

    /// One product that keeps everything, and this process for the rest.
    fn of<S: Whole>(store: S) -> Self {
        let archive = Arc::new(archive::SameStore(store.clone()));
        let store = Arc::new(store);
        Self {
            journal: store.clone(),
            records: store.clone(),
            grants: store.clone(),
            audit: store.clone(),
            history: store,
            archive,
            archive_is_apart: false,
            cache: Arc::new(memory::MemoryCache::default()),
            bus: Arc::new(memory::MemoryBus::default()),
            members: None,
        }
    }
}

/// Opens every role. Only the store itself must be there; the others may come later.
///
/// # Errors
/// As `open`, and `Refused` for a URL that names no product of its role.
pub async fn open_all(urls: StoreUrls<'_>) -> Result<Stores, StoreError> {
    let mut stores = open(urls.store).await?;
    if urls.archive != archive::SAME_STORE {
        stores.archive = archive::open(urls.archive).await?;
        stores.archive_is_apart = true;
    }
    stores.cache = cache::open(urls.cache)?;
    stores.bus = bus::open(urls.bus).await?;
    Ok(stores)
}

fn is_memory(url: &str) -> bool {
    url == "memory:"
}

fn unknown_product() -> StoreError {
    StoreError::Refused("store URL must be `postgres://…`, `sqlite://PATH` or `memory:`".to_owned())
}

/// Opens the stores behind a URL: `postgres://…` for a database, `sqlite://PATH` for a file that is
/// created when missing, or `memory:` for a store that ends with the process.
///
/// # Errors
/// `Refused` for any other scheme and for tables that were not made by this program or by a newer
/// one, `Unavailable` when the file cannot be opened or the server not reached.
pub async fn open(url: &str) -> Result<Stores, StoreError> {
    if url.starts_with(sqlite::SCHEME) {
        return Ok(Stores::of(sqlite::SqliteStore::open(url).await?));
    }
    if postgres::is_named_by(url) {
        return Ok(Stores::shared(postgres::PostgresStore::open(url).await?));
    }
    if is_memory(url) {
        return Ok(Stores::shared(memory::MemoryStore::default()));
    }
    Err(unknown_product())
}
