//! Reading facts, heads and names.

use async_trait::async_trait;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;

use super::rows::{Reading, kind, limit, shard, signed, text};
use super::{PostgresStore, answered, append, cursors};
use crate::domain::id::FactId;
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};

/// The head tells from which month on the entity has facts, which spares looking into older ones.
const FACTS_OF: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body \
     FROM facts WHERE entity_kind = $1 AND entity_id = $2 AND seq > $3 \
     AND at >= (SELECT since FROM heads WHERE entity_kind = $1 AND entity_id = $2) \
     ORDER BY seq LIMIT $4";

const FACTS_AFTER: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body \
     FROM facts WHERE position > $1 ORDER BY position LIMIT $2";

const FACTS_OF_SHARDS: &str = "SELECT position, shard, entity_kind, entity_id, seq, fact_id, at, kind, body \
     FROM facts WHERE position > $1 AND shard = ANY($3) ORDER BY position LIMIT $2";

const LAST_POSITION: &str = "SELECT coalesce(max(position), 0) FROM facts";

const OPEN_OF: &str = "SELECT entity_kind, entity_id FROM heads WHERE entity_kind = $1 AND is_open";

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

    async fn open_entities(&self, kind: EntityKind) -> Result<Vec<EntityRef>, StoreError> {
        let rows = answered(sqlx::query(OPEN_OF).bind(self::kind(kind)).fetch_all(&self.pool)).await?;
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
            query = query.bind(shards.iter().map(|number| shard(*number)).collect::<Vec<_>>());
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
    };
    Ok(Positioned { position: reading.number("position")?, shard: reading.shard("shard")?, record })
}
