//! The journal: an append-only list of facts per entity, with the current summary beside it.
//!
//! Products: memory, SQLite and PostgreSQL. All pass the contract suite in
//! `tests/it/journal_contract.rs`.

use async_trait::async_trait;

use super::error::StoreError;
use super::inspection::Inspection;
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef, Summary};

/// What one actor wants stored: facts of one entity that follow each other.
#[derive(Debug, Clone)]
pub struct Append {
    /// The thing they happened to.
    pub entity: EntityRef,
    /// The number of the last fact the actor knows; the first new one is the next.
    pub after_seq: u64,
    /// The facts, numbered from `after_seq + 1` without gaps.
    pub facts: Vec<FactRecord>,
    /// The summary after them; `Unchanged` never with an entity's first facts.
    pub summary: Summary,
    /// Names by which providers have come to know the entity; stored if not yet there.
    pub refs: Vec<ProviderRef>,
}

/// What became of one append of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Durable.
    Stored,
    /// Somebody else wrote this entity first: its last number is another. Nothing of this append
    /// was stored; the rest of the batch was.
    Conflict {
        /// The last number found.
        found_seq: u64,
    },
}

/// A fact with its place among all facts of the store.
#[derive(Debug, Clone)]
pub struct Positioned {
    /// Grows with each fact stored; gaps are possible.
    pub position: u64,
    /// The shard of its entity, as [`crate::domain::placement::shard_of`] tells.
    pub shard: u16,
    /// The fact.
    pub record: FactRecord,
}

/// Where facts are kept.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Stores a batch in one transaction and tells the outcome of each append, in order.
    ///
    /// # Errors
    /// When nothing of the batch was stored, or when that cannot be known (`StoreError::InDoubt`).
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<AppendOutcome>, StoreError>;

    /// Facts of one entity with numbers above `after_seq`, in order, `limit` at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError>;

    /// All facts of many entities, in order of entity and number: what taking over a shard reads. An
    /// entity that is named twice is told once. The caller bounds how many it asks for at a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn facts_of(&self, entities: &[EntityRef]) -> Result<Vec<FactRecord>, StoreError>;

    /// The entities of one kind in these shards that must be taken up again when their owner is gone;
    /// no shards means all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn open_entities(&self, kind: EntityKind, shards: &[u16]) -> Result<Vec<EntityRef>, StoreError>;

    /// Facts of these shards behind `position`, in order, `limit` at most; no shards means all.
    ///
    /// Positions are handed out before the commit. With several writers, 101 may therefore be seen
    /// before 100 is, and a reader that has gone past 101 never comes back for 100. The facts of one
    /// shard have one writer, which commits one batch after the other, so within a shard they do
    /// appear in order. Whoever must miss nothing keeps a cursor per shard and moves each to the last
    /// position seen *in that shard*, as the outbox relay does.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError>;

    /// How far a reader has come in each shard it has begun, by shard.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError>;

    /// Notes how far a reader has come. A cursor only moves forward: an older position changes
    /// nothing, so that a relay which lost its shards cannot undo what its successor did.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError>;

    /// The last position given out, 0 when empty.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn last_position(&self) -> Result<u64, StoreError>;

    /// The entity that a provider knows by this name.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError>;

    /// Whether the store can be written right now.
    ///
    /// # Errors
    /// When it cannot.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What the product says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn inspect(&self) -> Result<Inspection, StoreError>;
}
