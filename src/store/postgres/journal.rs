//! Reading facts, heads, names and cursors.

use async_trait::async_trait;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;

use super::rows::{Reading, code, limit, signed};
use super::{PostgresStore, append, errors};
use crate::domain::id::FactId;
use crate::domain::record::{EntityKind, EntityRef, FactRecord, ProviderRef};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};

/// The head spares a look into partitions from before the entity's first fact.
const FACTS_OF: &str = "SELECT position, entity_kind, entity_id, seq, shard, fact_id, at, kind, body \
     FROM facts WHERE entity_kind = $1 AND entity_id = $2 AND seq > $3 AND at >= ( \
     SELECT first_at FROM heads WHERE entity_kind = $1 AND entity_id = $2) ORDER BY seq LIMIT $4";

const FACTS_AFTER: &str = "SELECT position, entity_kind, entity_id, seq, shard, fact_id, at, kind, body \
     FROM facts WHERE position > $1 ORDER BY position LIMIT $2";

const SHARD_FACTS_AFTER: &str = "SELECT position, entity_kind, entity_id, seq, shard, fact_id, at, kind, \
     body FROM facts WHERE position > $1 AND shard = ANY($3) ORDER BY position LIMIT $2";

const LAST_POSITION: &str = "SELECT coalesce(max(position), 0) FROM facts";

const OPEN_OF: &str = "SELECT entity_kind, entity_id FROM heads WHERE entity_kind = $1 AND is_open";

const NAMED: &str = "SELECT entity_kind, entity_id FROM provider_refs WHERE provider = $1 AND reference = $2";

const CURSORS: &str = "SELECT reader, shard, position FROM outbox_cursors WHERE reader = $1";

const MOVE_CURSORS: &str = "INSERT INTO outbox_cursors (reader, shard, position) \
     SELECT $1, * FROM unnest($2::smallint[], $3::bigint[]) ON CONFLICT (reader, shard) \
     DO UPDATE SET position = excluded.position WHERE outbox_cursors.position < excluded.position";

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
            .bind(code(entity.kind))
            .bind(entity.id)
            .bind(signed(after_seq))
            .bind(self::limit(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| Ok(fact(row)?.record)).collect()
    }

    async fn open_entities(&self, kind: EntityKind) -> Result<Vec<EntityRef>, StoreError> {
        let query = sqlx::query(OPEN_OF).bind(code(kind));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| Reading { row, table: "heads", named_by: "entity_id" }.entity()).collect()
    }

    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError> {
        let text = if shards.is_empty() { FACTS_AFTER } else { SHARD_FACTS_AFTER };
        let mut query = sqlx::query(text).bind(signed(position)).bind(self::limit(limit));
        if !shards.is_empty() {
            query = query.bind(shards.iter().map(|shard| number(*shard)).collect::<Vec<_>>());
        }
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(fact).collect()
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(LAST_POSITION);
        let last = query.fetch_one(&self.pool).await.map_err(|error| errors::from(&error))?;
        Ok(last.unsigned_abs())
    }

    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
        let query = sqlx::query(CURSORS).bind(reader);
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        let cursor = |row: &PgRow| {
            let reading = Reading { row, table: "outbox_cursors", named_by: "reader" };
            let shard = reading.get::<i16>("shard")?.unsigned_abs();
            Ok((shard, reading.number("position")?))
        };
        rows.iter().map(cursor).collect()
    }

    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
        let shards: Vec<_> = cursors.iter().map(|(shard, _)| number(*shard)).collect();
        let positions: Vec<_> = cursors.iter().map(|(_, position)| signed(*position)).collect();
        let query = sqlx::query(MOVE_CURSORS).bind(reader).bind(shards).bind(positions);
        query.execute(&self.pool).await.map(|_| ()).map_err(|error| errors::from(&error))
    }

    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError> {
        let query = sqlx::query(NAMED).bind(&*reference.provider).bind(&*reference.reference);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| errors::from(&error))?;
        row.map(|row| Reading { row: &row, table: "provider_refs", named_by: "entity_id" }.entity())
            .transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let done = sqlx::query(PROBE).execute(&self.pool).await;
        done.map(|_| ()).map_err(|error| errors::from(&error))
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let row = sqlx::query(INSPECT).fetch_one(&self.pool).await.map_err(|error| errors::from(&error))?;
        let reading = Reading { row: &row, table: "server", named_by: "clock" };
        let version: &str = reading.get("version")?;
        // Packagers add their own words behind the number.
        let version = version.split(' ').next().unwrap_or(version);
        let clock = Timestamp::from_millis(reading.get("clock")?);
        Ok(Inspection { product: format!("PostgreSQL {version}"), clock: Some(clock) })
    }
}

fn number(shard: u16) -> i16 {
    i16::try_from(shard).unwrap_or(i16::MAX)
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
    let shard = reading.get::<i16>("shard")?.unsigned_abs();
    Ok(Positioned { position: reading.number("position")?, shard, record })
}
