//! The store that lives in the process: for tests, demonstrations and nodes that keep nothing.
//!
//! It grows with every fact and forgets all of it when the process ends.

mod archive;
mod bus;
mod cache;
mod history;
mod journal;
mod records;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use bus::MemoryBus;
pub use cache::MemoryCache;
pub use records::Orphan;

use super::archive::Item;

/// All stores in memory. Every operation is atomic and never waits. Clones share what they keep.
#[derive(Clone, Default)]
pub struct MemoryStore {
    facts: Arc<Mutex<journal::Facts>>,
    records: Arc<Mutex<records::Shelves>>,
    items: Arc<Mutex<BTreeMap<(String, String), Item>>>,
}

impl MemoryStore {
    /// The journal and the history, which change together.
    fn facts(&self) -> MutexGuard<'_, journal::Facts> {
        lock(&self.facts)
    }

    /// What the archive keeps beside the journal, by kind and id.
    fn items(&self) -> MutexGuard<'_, BTreeMap<(String, String), Item>> {
        lock(&self.items)
    }

    /// The configuration records and what lives beside them.
    fn shelves(&self) -> MutexGuard<'_, records::Shelves> {
        lock(&self.records)
    }
}

/// A panic elsewhere leaves no half-made change behind, since none is made before all checks passed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
