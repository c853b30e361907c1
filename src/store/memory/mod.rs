//! The store that lives in the process: for tests, demonstrations and nodes that keep nothing.
//!
//! It grows with every fact and forgets all of it when the process ends.

mod cache;
mod history;
mod journal;
mod records;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use cache::MemoryCache;
pub use records::Orphan;

/// All three stores in memory. Every operation is atomic and never waits.
#[derive(Default)]
pub struct MemoryStore {
    facts: Mutex<journal::Facts>,
    records: Mutex<records::Shelves>,
}

impl MemoryStore {
    /// The journal and the history, which change together.
    fn facts(&self) -> MutexGuard<'_, journal::Facts> {
        lock(&self.facts)
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
