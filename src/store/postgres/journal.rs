//! Reading facts, heads and names.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::{self, Reading, kind, limit, signed, text};
use super::{PostgresStore, answered, append, cursors};
use crate::domain::id::{CommandId, FactId};
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};

/// The head tells from which month on the entity has facts, which spares looking into older ones.
const FACTS_OF: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body, cause \
     FROM facts WHERE entity_kind = $1 AND entity_id = $2 AND seq > $3 \
     AND at >= (SELECT since FROM heads WHERE entity_kind = $1 AND entity_id = $2) \
     ORDER BY seq LIMIT $4";

/// As for one entity, for each of many. `OFFSET 0` keeps the server from joining the other way round,
/// through the whole of the facts.
const FACTS_OF_MANY: &str = "SELECT fact.* \
     FROM unnest($1::smallint[], $2::uuid[]) AS wanted (kind, id) \
     JOIN heads ON entity_kind = wanted.kind AND entity_id = wanted.id \
     CROSS JOIN LATERAL (SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body, cause \
         FROM facts WHERE facts.entity_kind = heads.entity_kind AND facts.entity_id = heads.entity_id \
         AND at >= heads.since OFFSET 0) AS fact";

const FACTS_AFTER: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body, cause \
     FROM facts WHERE position > $1 ORDER BY position LIMIT $2";

const FACTS_OF_SHARDS: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body, cause \
     FROM facts WHERE position > $1 AND shard = ANY($3) ORDER BY position LIMIT $2";

const LAST_POSITION: &str = "SELECT coalesce(max(position), 0) FROM facts";

const OPEN_OF: &str = "SELECT entity_kind, entity_id FROM heads WHERE entity_kind = $1 AND is_open";

const OPEN_IN: &str =
    "SELECT entity_kind, entity_id FROM heads WHERE entity_kind = $1 AND shard = ANY($2) AND is_open";

const NAMED: &str = "SELECT entity_kind, entity_id FROM provider_refs WHERE provider = $1 AND reference = $2";

/// Commits, since only that shows that the disk takes it.
const PROBE: &str = "UPDATE probe SET beat = beat + 1 WHERE id = 1";

const INSPECT: &str = "SELECT current_setting('server_version') AS version, \
     floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS clock";

#[async_trait]
impl Journal for PostgresStore {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<AppendOutcome>, StoreError> {
        append::append(self, &batch).await
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        let query = sqlx::query(FACTS_OF)
            .bind(kind(entity.kind))
            .bind(entity.id)
            .bind(signed(after_seq))
            .bind(self::limit(limit));
        let rows = answered(query.fetch_all(&self.pool)).await?;
        rows.iter().map(|row| Ok(fact(row)?.record)).collect()
    }

    async fn facts_of(&self, entities: &[EntityRef]) -> Result<Vec<FactRecord>, StoreError> {
        let entities: BTreeSet<_> = entities.iter().copied().collect();
        let query = sqlx::query(FACTS_OF_MANY)
            .bind(entities.iter().map(|entity| kind(entity.kind)).collect::<Vec<_>>())
            .bind(entities.iter().map(|entity| entity.id).collect::<Vec<_>>());
        let rows = answered(query.fetch_all(&self.pool)).await?;
        let mut facts: Vec<_> =
            rows.iter().map(|row| Ok(fact(row)?.record)).collect::<Result<_, StoreError>>()?;
        // Here, since the server would do it on its disk; they come nearly sorted.
        facts.sort_by_key(|fact| (fact.entity, fact.seq));
        Ok(facts)
    }

    async fn open_entities(&self, kind: EntityKind, shards: &[u16]) -> Result<Vec<EntityRef>, StoreError> {
        let statement = if shards.is_empty() { OPEN_OF } else { OPEN_IN };
        let mut query = sqlx::query(statement).bind(self::kind(kind));
        if !shards.is_empty() {
            query = query.bind(rows::shards(shards));
        }
        let rows = answered(query.fetch_all(&self.pool)).await?;
        rows.iter().map(|row| Reading { row, table: "heads", named_by: "entity_id" }.entity()).collect()
    }

    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError> {
        let statement = if shards.is_empty() { FACTS_AFTER } else { FACTS_OF_SHARDS };
        let mut query = sqlx::query(statement).bind(signed(position)).bind(self::limit(limit));
        if !shards.is_empty() {
            query = query.bind(rows::shards(shards));
        }
        answered(query.fetch_all(&self.pool)).await?.iter().map(fact).collect()
    }

    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
        cursors::read(&self.pool, reader).await
    }

    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
        cursors::advance(&self.pool, reader, cursors).await
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        let last = answered(sqlx::query_scalar::<_, i64>(LAST_POSITION).fetch_one(&self.pool)).await?;
        Ok(last.unsigned_abs())
    }

    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError> {
        let query = sqlx::query(NAMED).bind(text(&reference.provider)).bind(text(&reference.reference));
        let row = answered(query.fetch_optional(&self.pool)).await?;
        row.map(|row| Reading { row: &row, table: "provider_refs", named_by: "entity_id" }.entity())
            .transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        answered(sqlx::query(PROBE).execute(&self.pool)).await.map(drop)
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let row = answered(sqlx::query(INSPECT).fetch_one(&self.pool)).await?;
        let reading = Reading { row: &row, table: "server", named_by: "clock" };
        let version: &str = reading.get("version")?;
        // Packagers add their own words behind the number.
        let version = version.split(' ').next().unwrap_or(version);
        let clock = Timestamp::from_millis(reading.get("clock")?);
        Ok(Inspection { product: format!("PostgreSQL {version}"), clock: Some(clock) })
    }
}

fn fact(row: &PgRow) -> Result<Positioned, StoreError> {
    let reading = Reading { row, table: "facts", named_by: "position" };
    let body = RawValue::from_string(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    let record = FactRecord {
        id: FactId::from_uuid(reading.get("fact_id")?),
        entity: reading.entity()?,
        seq: reading.number("seq")?,
        at: Timestamp::from_millis(reading.get("at")?),
        kind: reading.get::<&str>("kind")?.into(),
        body,
        cause: reading.get::<Option<Uuid>>("cause")?.map(CommandId::from_uuid),
    };
    Ok(Positioned { position: reading.number("position")?, shard: reading.shard("shard")?, record })
}
