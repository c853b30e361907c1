//! The store that lives in the process: for tests, demonstrations and nodes that keep nothing.
//!
//! It grows with every fact and forgets all of it when the process ends.

mod archive;
mod audit;
mod bus;
mod cache;
mod grants;
mod history;
mod journal;
mod members;
mod records;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use bus::MemoryBus;
pub use cache::MemoryCache;
pub use records::Orphan;

use super::archive::Item;
use super::error::StoreError;
use super::members::fenced;
use crate::domain::node::NodeRef;

/// All stores in memory. Every operation is atomic and never waits. Clones share what they keep.
#[derive(Clone, Default)]
pub struct MemoryStore {
    facts: Arc<Mutex<journal::Facts>>,
    records: Arc<Mutex<records::Shelves>>,
    passes: Arc<Mutex<grants::Passes>>,
    chain: Arc<Mutex<audit::Chain>>,
    items: Arc<Mutex<BTreeMap<(String, String), Item>>>,
    roster: Arc<Mutex<members::Roster>>,
    news: members::News,
    /// The run of a node that batches are written under, if any.
    fence: Option<NodeRef>,
}

impl MemoryStore {
    /// The same store for one run of a node: its batches are refused with `Fenced` once that is no
    /// longer the living one. So nodes that are only simulated can share one store.
    #[must_use]
    pub fn fenced(&self, node: NodeRef) -> Self {
        Self { fence: Some(node), ..self.clone() }
    }

    /// The roster, held while a batch is stored, if this store's own run may write.
    fn hold_fence(&self) -> Result<Option<MutexGuard<'_, members::Roster>>, StoreError> {
        let Some(node) = &self.fence else { return Ok(None) };
        let roster = self.roster();
        if roster.may_write(node) { Ok(Some(roster)) } else { Err(fenced(node)) }
    }

    /// Who lives and who owns what. Taken before the facts where both are needed.
    fn roster(&self) -> MutexGuard<'_, members::Roster> {
        lock(&self.roster)
    }

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

    /// Grants, and what counts and takes away.
    fn passes(&self) -> MutexGuard<'_, grants::Passes> {
        lock(&self.passes)
    }

    /// The audit trail.
    fn chain(&self) -> MutexGuard<'_, audit::Chain> {
        lock(&self.chain)
    }
}

/// A panic elsewhere leaves no half-made change behind, since none is made before all checks passed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
