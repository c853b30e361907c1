//! Reading facts, heads and names.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use async_trait::async_trait;
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::rows::{ManyRows, Reading, limit, signed};
use super::{SqliteStore, append, cursors, errors};
use crate::domain::id::{CommandId, FactId};
use crate::domain::placement::shard_of;
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};

const FACTS_OF: &str = "SELECT position, entity_kind, entity_id, seq, fact_id, at, kind, body, cause FROM facts \
     WHERE entity_kind = ? AND entity_id = ? AND seq > ? ORDER BY seq LIMIT ?";

const FACTS_AFTER: &str = "SELECT position, entity_kind, entity_id, seq, fact_id, at, kind, body, cause FROM facts \
     WHERE position > ? ORDER BY position LIMIT ?";

static FACTS_OF_MANY: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::find(
        "SELECT position, entity_kind, entity_id, seq, fact_id, at, kind, body, cause FROM facts \
         WHERE (entity_kind, entity_id)",
        2,
    )
});

const LAST_POSITION: &str = "SELECT coalesce(max(position), 0) FROM facts";

const OPEN_OF: &str =
    "SELECT entity_kind, entity_id, seq, is_open FROM heads WHERE entity_kind = ? AND is_open = 1";

const OPEN_IN: &str = "SELECT entity_kind, entity_id, seq, is_open FROM heads \
     WHERE entity_kind = ? AND is_open = 1 AND shard IN (SELECT value FROM json_each(?))";

const ENTITIES_AFTER: &str = "SELECT entity_kind, entity_id, seq, is_open FROM heads \
     WHERE (entity_kind, entity_id) > (?, ?) ORDER BY entity_kind, entity_id LIMIT ?";

const NAMED: &str = "SELECT entity_kind, entity_id FROM provider_refs WHERE provider = ? AND reference = ?";

/// Commits, since only that shows that the disk takes it.
const PROBE: &str = "UPDATE probe SET beat = beat + 1 WHERE id = 1";

/// The head of one stream.
pub(super) struct Head {
    pub(super) entity: EntityRef,
    pub(super) seq: u64,
    pub(super) is_open: bool,
}

impl Head {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let reading = Reading { row, table: "heads", named_by: "entity_id" };
        Ok(Self { entity: entity(&reading)?, seq: reading.number("seq")?, is_open: reading.get("is_open")? })
    }
}

#[async_trait]
impl Journal for SqliteStore {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<AppendOutcome>, StoreError> {
        let outcomes = append::append(&self.writer, &batch).await?;
        self.checkpointer.count(batch.iter().map(|append| append.facts.len()).sum());
        Ok(outcomes)
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        let query = sqlx::query(FACTS_OF)
            .bind(entity.kind.code())
            .bind(entity.id.as_bytes().as_slice())
            .bind(signed(after_seq))
            .bind(self::limit(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| Ok(fact(row)?.record)).collect()
    }

    async fn facts_of(&self, entities: &[EntityRef]) -> Result<Vec<FactRecord>, StoreError> {
        let entities: BTreeSet<_> = entities.iter().copied().collect();
        let entities: Vec<_> = entities.into_iter().collect();
        let mut connection = self.readers.acquire().await.map_err(|error| errors::from(&error))?;
        let rows = FACTS_OF_MANY.fetch(&mut connection, &entities, append::bind_entity).await;
        let rows = rows.map_err(|error| errors::from(&error))?;
        let mut facts: Vec<_> =
            rows.iter().map(|row| Ok(fact(row)?.record)).collect::<Result<_, StoreError>>()?;
        facts.sort_by_key(|fact| (fact.entity, fact.seq));
        Ok(facts)
    }

    async fn open_entities(&self, kind: EntityKind, shards: &[u16]) -> Result<Vec<EntityRef>, StoreError> {
        let mut query = sqlx::query(if shards.is_empty() { OPEN_OF } else { OPEN_IN }).bind(kind.code());
        if !shards.is_empty() {
            query = query.bind(serde_json::json!(shards).to_string());
        }
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| Ok(Head::read(row)?.entity)).collect()
    }

    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError> {
        // A file has one node, which owns all shards, so a choice of them is rare and needs no index.
        let (mut found, mut position) = (Vec::new(), position);
        loop {
            let query = sqlx::query(FACTS_AFTER).bind(signed(position)).bind(self::limit(limit));
            let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
            for row in &rows {
                let fact = fact(row)?;
                position = fact.position;
                if found.len() < limit && (shards.is_empty() || shards.contains(&fact.shard)) {
                    found.push(fact);
                }
            }
            if rows.len() < limit || found.len() == limit {
                return Ok(found);
            }
        }
    }

    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
        cursors::read(&self.readers, reader).await
    }

    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
        cursors::advance(&self.writer, reader, cursors).await
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(LAST_POSITION);
        let last = query.fetch_one(&self.readers).await.map_err(|error| errors::from(&error))?;
        Ok(last.unsigned_abs())
    }

    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError> {
        let query = sqlx::query(NAMED).bind(&*reference.provider).bind(&*reference.reference);
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
        row.map(|row| entity(&Reading { row: &row, table: "provider_refs", named_by: "entity_id" }))
            .transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.connection().await?;
        let done = sqlx::query(PROBE).execute(&mut *connection).await;
        done.map(|_| ()).map_err(|error| errors::from(&error))
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let query = sqlx::query_scalar::<_, String>("SELECT sqlite_version()");
        let version = query.fetch_one(&self.readers).await.map_err(|error| errors::from(&error))?;
        Ok(Inspection::embedded(format!("SQLite {version}")))
    }
}

impl SqliteStore {
    /// Entities in a fixed order behind `after`, `limit` at most.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn entities(
        &self,
        after: Option<EntityRef>,
        limit: usize,
    ) -> Result<Vec<EntityRef>, StoreError> {
        let (kind, id) =
            after.map_or((0, Vec::new()), |last| (last.kind.code(), last.id.as_bytes().to_vec()));
        let query = sqlx::query(ENTITIES_AFTER).bind(kind).bind(id).bind(self::limit(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| Ok(Head::read(row)?.entity)).collect()
    }
}

fn entity(reading: &Reading<'_>) -> Result<EntityRef, StoreError> {
    let kind = EntityKind::from_code(reading.get("entity_kind")?);
    let kind = kind.ok_or_else(|| reading.corrupt("entity_kind"))?;
    Ok(EntityRef { kind, id: reading.uuid("entity_id")? })
}

fn fact(row: &SqliteRow) -> Result<Positioned, StoreError> {
    let reading = Reading { row, table: "facts", named_by: "position" };
    let body = RawValue::from_string(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    let cause = reading.get::<Option<&[u8]>>("cause")?.map(Uuid::from_slice).transpose();
    let record = FactRecord {
        id: FactId::from_uuid(reading.uuid("fact_id")?),
        entity: entity(&reading)?,
        seq: reading.number("seq")?,
        at: Timestamp::from_millis(reading.get("at")?),
        kind: reading.get::<&str>("kind")?.into(),
        body,
        cause: cause.map_err(|_| reading.corrupt("cause"))?.map(CommandId::from_uuid),
    };
    Ok(Positioned { position: reading.number("position")?, shard: shard_of(record.entity), record })
}
