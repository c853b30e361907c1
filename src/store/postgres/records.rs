//! Configuration records, idempotency keys and orphaned requests.

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::{Reading, signed};
use super::{PostgresStore, errors};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::records::{Claim, MOST_ORPHANS, RecordKind, Records, RememberedAnswer, StoredRecord};

const ALL: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 ORDER BY key";
const BY_ID: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 AND id = $2";
const BY_KEY: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 AND key = $2";
const INSERT: &str = "INSERT INTO records (kind, id, key, body, version, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, 1, $5, $6)";
const UPDATE: &str = "UPDATE records SET key = $1, body = $2, updated_at = $3, version = version + 1 \
     WHERE kind = $4 AND id = $5 AND version = $6 RETURNING version";
const REMOVE: &str = "DELETE FROM records WHERE kind = $1 AND id = $2";

const FORGET_KEYS: &str = "DELETE FROM idempotency_keys WHERE claimed_at < $1";
const CLAIM_KEY: &str = "INSERT INTO idempotency_keys AS known (key, request_hash, status, body, claimed_at) \
     VALUES ($1, $2, 0, $3, $4) ON CONFLICT (key) DO UPDATE SET claimed_at = excluded.claimed_at \
     WHERE known.status = 0 AND known.request_hash = excluded.request_hash AND known.claimed_at < $5";
const READ_KEY: &str = "SELECT key, request_hash, status, body FROM idempotency_keys WHERE key = $1";
const SETTLE_KEY: &str =
    "UPDATE idempotency_keys SET request_hash = $1, status = $2, body = $3 WHERE key = $4";
const FREE_KEY: &str = "DELETE FROM idempotency_keys WHERE key = $1";

const KEEP_ORPHAN: &str = "INSERT INTO orphan_events (provider, name, fields, at) VALUES ($1, $2, $3, $4) \
     RETURNING id";
const DROP_ORPHANS: &str = "DELETE FROM orphan_events WHERE id <= $1";

#[async_trait]
impl Records for PostgresStore {
    async fn all(&self, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError> {
        let query = sqlx::query(ALL).bind(kind.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(record).collect()
    }

    async fn by_id(&self, kind: RecordKind, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_ID).bind(kind.as_str()).bind(id);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(record).transpose()
    }

    async fn by_key(&self, kind: RecordKind, key: &str) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_KEY).bind(kind.as_str()).bind(key);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(record).transpose()
    }

    async fn insert(&self, kind: RecordKind, record: StoredRecord) -> Result<(), StoreError> {
        let query = sqlx::query(INSERT)
            .bind(kind.as_str())
            .bind(record.id)
            .bind(&*record.key)
            .bind(record.body.to_string())
            .bind(record.created_at.millis())
            .bind(record.updated_at.millis());
        let inserted = query.execute(&self.pool).await;
        inserted.map(|_| ()).map_err(|error| errors::taken(&error, record.key))
    }

    async fn update(&self, kind: RecordKind, record: StoredRecord) -> Result<u64, StoreError> {
        let query = sqlx::query(UPDATE)
            .bind(&*record.key)
            .bind(record.body.to_string())
            .bind(record.updated_at.millis())
            .bind(kind.as_str())
            .bind(record.id)
            .bind(signed(record.version));
        let row = query.fetch_optional(&self.pool).await;
        let row = row.map_err(|error| errors::taken(&error, record.key))?.ok_or(StoreError::Changed)?;
        Reading { row: &row, table: "records", named_by: "version" }.number("version")
    }

    async fn remove(&self, kind: RecordKind, id: Uuid) -> Result<bool, StoreError> {
        let query = sqlx::query(REMOVE).bind(kind.as_str()).bind(id);
        let removed = query.execute(&self.pool).await.map_err(|error| errors::from(&error))?;
        Ok(removed.rows_affected() > 0)
    }

    async fn claim_key(&self, claim: Claim<'_>) -> Result<Option<RememberedAnswer>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(|error| errors::from(&error))?;
        let found = run_claim(&mut connection, &claim).await.map_err(|error| errors::from(&error))?;
        found.as_ref().map(remembered).transpose()
    }

    async fn settle_key(&self, key: &str, answer: Option<RememberedAnswer>) -> Result<(), StoreError> {
        let query = match &answer {
            None => sqlx::query(FREE_KEY).bind(key),
            Some(answer) => sqlx::query(SETTLE_KEY)
                .bind(&*answer.request_hash)
                .bind(i32::from(answer.status))
                .bind(&*answer.body)
                .bind(key),
        };
        query.execute(&self.pool).await.map(|_| ()).map_err(|error| errors::from(&error))
    }

    async fn keep_orphan(
        &self,
        provider: &str,
        name: &str,
        fields: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_scalar(KEEP_ORPHAN).bind(provider).bind(name).bind(fields).bind(at.millis());
        let id: i64 = query.fetch_one(&self.pool).await.map_err(|error| errors::from(&error))?;
        let drop = sqlx::query(DROP_ORPHANS).bind(id - MOST_ORPHANS);
        drop.execute(&self.pool).await.map(|_| ()).map_err(|error| errors::from(&error))
    }
}

/// Answers what is there already, or `None` when the key is now this request's.
async fn run_claim(connection: &mut PgConnection, claim: &Claim<'_>) -> Result<Option<PgRow>, sqlx::Error> {
    sqlx::query(FORGET_KEYS).bind(claim.expired_before.millis()).execute(&mut *connection).await?;
    loop {
        let insert = sqlx::query(CLAIM_KEY)
            .bind(claim.key)
            .bind(claim.request_hash)
            .bind("")
            .bind(claim.now.millis())
            .bind(claim.abandoned_before.millis());
        if insert.execute(&mut *connection).await?.rows_affected() > 0 {
            return Ok(None);
        }
        // Freed in between, it is claimed in the next round.
        if let Some(row) = sqlx::query(READ_KEY).bind(claim.key).fetch_optional(&mut *connection).await? {
            return Ok(Some(row));
        }
    }
}

fn record(row: &PgRow) -> Result<StoredRecord, StoreError> {
    let reading = Reading { row, table: "records", named_by: "id" };
    let body = serde_json::from_str(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    Ok(StoredRecord {
        id: reading.get("id")?,
        key: reading.get("key")?,
        body,
        version: reading.number("version")?,
        created_at: Timestamp::from_millis(reading.get("created_at")?),
        updated_at: Timestamp::from_millis(reading.get("updated_at")?),
    })
}

fn remembered(row: &PgRow) -> Result<RememberedAnswer, StoreError> {
    let reading = Reading { row, table: "idempotency_keys", named_by: "key" };
    let status = u16::try_from(reading.get::<i32>("status")?).map_err(|_| reading.corrupt("status"))?;
    Ok(RememberedAnswer { request_hash: reading.get("request_hash")?, status, body: reading.get("body")? })
}
