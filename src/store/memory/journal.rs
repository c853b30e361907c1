//! Facts in memory: one list of all, and per entity the places of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;

use super::MemoryStore;
use super::history::Calls;
use crate::domain::id::FactId;
use crate::domain::placement::shard_of;
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef, Summary};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};
use crate::store::plan::{self, Heads};

/// Everything that appends change.
#[derive(Default)]
pub(super) struct Facts {
    /// All facts; a fact's position is its index plus one.
    all: Vec<FactRecord>,
    ids: HashSet<FactId>,
    streams: HashMap<EntityRef, Stream>,
    refs: HashMap<ProviderRef, EntityRef>,
    /// How far each reader has come, by shard.
    cursors: HashMap<String, BTreeMap<u16, u64>>,
    pub(super) calls: Calls,
}

/// The facts of one entity.
#[derive(Default)]
struct Stream {
    /// Indices into the list of all facts; the fact with number `n` is at `n - 1`.
    places: Vec<usize>,
    is_open: bool,
}

impl Facts {
    /// How many facts were decided in a span of time, in milliseconds.
    pub(super) fn count_at(&self, span: &std::ops::Range<i64>) -> usize {
        self.all.iter().filter(|fact| span.contains(&fact.at.millis())).count()
    }

    fn heads(&self, batch: &[Append]) -> Heads {
        let mut heads = Heads::default();
        for append in batch {
            let seq = self.streams.get(&append.entity).map_or(0, |stream| stream.places.len() as u64);
            heads.note(append.entity, seq);
        }
        heads
    }

    /// Whether a fact of the append is in the store already, or twice in the append.
    fn has_doubles(&self, append: &Append) -> bool {
        let mut fresh = HashSet::with_capacity(append.facts.len());
        append.facts.iter().any(|fact| self.ids.contains(&fact.id) || !fresh.insert(fact.id))
    }

    fn store(&mut self, append: Append) {
        let stream = self.streams.entry(append.entity).or_default();
        stream.is_open = append.summary.is_open();
        for fact in append.facts {
            stream.places.push(self.all.len());
            self.ids.insert(fact.id);
            self.all.push(fact);
        }
        for reference in append.refs {
            self.refs.entry(reference).or_insert(append.entity);
        }
        match append.summary {
            Summary::Call(call) => self.calls.put(*call),
            Summary::Agent { .. } | Summary::Unchanged { .. } => {}
        }
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<AppendOutcome>, StoreError> {
        plan::check(&batch)?;
        // Held to the end, so that nobody is declared dead in the middle of a batch.
        let _fence = self.hold_fence()?;
        let mut facts = self.facts();
        let mut heads = facts.heads(&batch);
        let mut outcomes = Vec::with_capacity(batch.len());
        for append in batch {
            let mut outcome = heads.outcome(&append);
            if outcome == AppendOutcome::Stored && facts.has_doubles(&append) {
                outcome = AppendOutcome::Conflict { found_seq: heads.seq(append.entity) };
            }
            outcomes.push(outcome);
            if outcome == AppendOutcome::Stored {
                heads.advance(&append);
                facts.store(append);
            }
        }
        Ok(outcomes)
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        let facts = self.facts();
        let places = facts.streams.get(&entity).map_or(&[][..], |stream| &stream.places);
        let known = usize::try_from(after_seq).unwrap_or(usize::MAX);
        Ok(places.iter().skip(known).take(limit).filter_map(|place| facts.all.get(*place).cloned()).collect())
    }

    async fn facts_of(&self, entities: &[EntityRef]) -> Result<Vec<FactRecord>, StoreError> {
        let facts = self.facts();
        let entities: BTreeSet<_> = entities.iter().collect();
        let streams = entities.into_iter().filter_map(|entity| facts.streams.get(entity));
        let places = streams.flat_map(|stream| &stream.places);
        Ok(places.filter_map(|place| facts.all.get(*place).cloned()).collect())
    }

    async fn open_entities(&self, kind: EntityKind, shards: &[u16]) -> Result<Vec<EntityRef>, StoreError> {
        let facts = self.facts();
        let open = facts.streams.iter().filter(|(entity, stream)| entity.kind == kind && stream.is_open);
        let is_wanted = |entity: &EntityRef| shards.is_empty() || shards.contains(&shard_of(*entity));
        Ok(open.map(|(entity, _)| *entity).filter(is_wanted).collect())
    }

    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError> {
        let facts = self.facts();
        let known = usize::try_from(position).unwrap_or(usize::MAX);
        let behind = facts.all.iter().skip(known).zip(position.saturating_add(1)..);
        let placed = behind.map(|(record, position)| (record, position, shard_of(record.entity)));
        Ok(placed
            .filter(|(_, _, shard)| shards.is_empty() || shards.contains(shard))
            .take(limit)
            .map(|(record, position, shard)| Positioned { position, shard, record: record.clone() })
            .collect())
    }

    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
        let facts = self.facts();
        let cursors = facts.cursors.get(reader).into_iter().flatten();
        Ok(cursors.map(|(shard, position)| (*shard, *position)).collect())
    }

    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
        let mut facts = self.facts();
        let stored = facts.cursors.entry(reader.to_owned()).or_default();
        for (shard, position) in cursors {
            let cursor = stored.entry(*shard).or_default();
            *cursor = (*cursor).max(*position);
        }
        Ok(())
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        Ok(self.facts().all.len() as u64)
    }

    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError> {
        Ok(self.facts().refs.get(reference).copied())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        Ok(Inspection::embedded("memory of this process"))
    }
}
