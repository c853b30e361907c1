//! Configuration records, idempotency keys and orphaned requests in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use async_trait::async_trait;
use uuid::Uuid;

use super::MemoryStore;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::members::Change;
use crate::store::records::{Claim, RecordKind, Records, RememberedAnswer, StoredRecord};

/// Most orphaned requests kept; the oldest give way.
const MOST_ORPHANS: usize = 1_000;

/// What is kept beside the journal.
#[derive(Default)]
pub(super) struct Shelves {
    records: BTreeMap<(RecordKind, Uuid), StoredRecord>,
    ids: BTreeMap<(RecordKind, String), Uuid>,
    answers: HashMap<String, (Timestamp, RememberedAnswer)>,
    /// The keys of `answers` by age, so that forgetting looks at old ones only.
    ages: BTreeSet<(Timestamp, String)>,
    orphans: VecDeque<Orphan>,
}

/// A provider's request that belongs to no known call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Name of the provider section.
    pub provider: String,
    /// Which callback it was.
    pub name: String,
    /// Its fields.
    pub fields: String,
    /// When it arrived.
    pub at: Timestamp,
}

impl Shelves {
    /// Drops the idempotency keys that were claimed before a point in time.
    fn forget(&mut self, expired_before: Timestamp) {
        while let Some((claimed_at, _)) = self.ages.first()
            && *claimed_at < expired_before
        {
            if let Some((_, key)) = self.ages.pop_first() {
                self.answers.remove(&key);
            }
        }
    }
}

impl MemoryStore {
    /// The orphaned requests that are still kept, oldest first.
    #[must_use]
    pub fn orphans(&self) -> Vec<Orphan> {
        self.shelves().orphans.iter().cloned().collect()
    }
}

#[async_trait]
impl Records for MemoryStore {
    async fn all(&self, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError> {
        let shelves = self.shelves();
        let by_key = shelves.ids.range((kind, String::new())..).take_while(|((other, _), _)| *other == kind);
        Ok(by_key.filter_map(|(_, id)| shelves.records.get(&(kind, *id)).cloned()).collect())
    }

    async fn by_id(&self, kind: RecordKind, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        Ok(self.shelves().records.get(&(kind, id)).cloned())
    }

    async fn by_key(&self, kind: RecordKind, key: &str) -> Result<Option<StoredRecord>, StoreError> {
        let shelves = self.shelves();
        let id = shelves.ids.get(&(kind, key.to_owned()));
        Ok(id.and_then(|id| shelves.records.get(&(kind, *id)).cloned()))
    }

    async fn insert(&self, kind: RecordKind, mut record: StoredRecord) -> Result<(), StoreError> {
        let mut shelves = self.shelves();
        let place = (kind, record.key.clone());
        if shelves.ids.contains_key(&place) || shelves.records.contains_key(&(kind, record.id)) {
            return Err(StoreError::Exists(record.key));
        }
        record.version = 1;
        shelves.ids.insert(place, record.id);
        shelves.records.insert((kind, record.id), record);
        self.news.tell(Change::Records);
        Ok(())
    }

    async fn update(&self, kind: RecordKind, record: StoredRecord) -> Result<u64, StoreError> {
        let mut shelves = self.shelves();
        let stored = shelves.records.get(&(kind, record.id));
        let Some(stored) = stored.filter(|stored| stored.version == record.version).cloned() else {
            return Err(StoreError::Changed);
        };
        let place = (kind, record.key.clone());
        if shelves.ids.get(&place).is_some_and(|owner| *owner != record.id) {
            return Err(StoreError::Exists(record.key));
        }
        let version = stored.version.saturating_add(1);
        shelves.ids.remove(&(kind, stored.key));
        shelves.ids.insert(place, record.id);
        let changed = StoredRecord { version, created_at: stored.created_at, ..record };
        shelves.records.insert((kind, changed.id), changed);
        self.news.tell(Change::Records);
        Ok(version)
    }

    async fn remove(&self, kind: RecordKind, id: Uuid) -> Result<bool, StoreError> {
        let mut shelves = self.shelves();
        let Some(record) = shelves.records.remove(&(kind, id)) else { return Ok(false) };
        shelves.ids.remove(&(kind, record.key));
        self.news.tell(Change::Records);
        Ok(true)
    }

    async fn claim_key(&self, claim: Claim<'_>) -> Result<Option<RememberedAnswer>, StoreError> {
        let mut shelves = self.shelves();
        shelves.forget(claim.expired_before);
        let known = shelves.answers.get(claim.key).cloned();
        if let Some((claimed_at, stored)) = known {
            let is_abandoned = stored.status == 0 && claimed_at < claim.abandoned_before;
            if !is_abandoned || stored.request_hash != claim.request_hash {
                return Ok(Some(stored));
            }
            shelves.ages.remove(&(claimed_at, claim.key.to_owned()));
        }
        let running =
            RememberedAnswer { request_hash: claim.request_hash.to_owned(), status: 0, body: String::new() };
        shelves.answers.insert(claim.key.to_owned(), (claim.now, running));
        shelves.ages.insert((claim.now, claim.key.to_owned()));
        Ok(None)
    }

    async fn settle_key(&self, key: &str, answer: Option<RememberedAnswer>) -> Result<(), StoreError> {
        let mut shelves = self.shelves();
        match answer {
            None => {
                if let Some((claimed_at, _)) = shelves.answers.remove(key) {
                    shelves.ages.remove(&(claimed_at, key.to_owned()));
                }
            }
            Some(answer) => {
                if let Some((_, stored)) = shelves.answers.get_mut(key) {
                    *stored = answer;
                }
            }
        }
        Ok(())
    }

    async fn keep_orphan(
        &self,
        provider: &str,
        name: &str,
        fields: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut shelves = self.shelves();
        if shelves.orphans.len() == MOST_ORPHANS {
            shelves.orphans.pop_front();
        }
        shelves.orphans.push_back(Orphan {
            provider: provider.to_owned(),
            name: name.to_owned(),
            fields: fields.to_owned(),
            at,
        });
        Ok(())
    }
}
