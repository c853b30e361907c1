//! Configuration records, idempotency keys and orphaned requests.

use async_trait::async_trait;
use sqlx::postgres::{PgQueryResult, PgRow};
use uuid::Uuid;

use super::rows::{Bound, Reading, signed, text};
use super::{PostgresStore, answered, errors, within_limit, written};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::records::{Claim, MOST_ORPHANS, RecordKind, Records, RememberedAnswer, StoredRecord};

const ALL: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 ORDER BY key";
const BY_ID: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 AND id = $2";
const BY_KEY: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = $1 AND key = $2";

// Each change tells the other nodes of it, at its commit.
const INSERT: &str = "WITH changed AS ( \
         INSERT INTO records (kind, id, key, body, version, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, 1, $5, $6) RETURNING version) \
     SELECT version, pg_notify('eml_records', current_schema()) FROM changed";
const UPDATE: &str = "WITH changed AS ( \
         UPDATE records SET key = $1, body = $2, updated_at = $3, version = version + 1 \
         WHERE kind = $4 AND id = $5 AND version = $6 RETURNING version) \
     SELECT version, pg_notify('eml_records', current_schema()) FROM changed";
const REMOVE: &str = "WITH changed AS ( \
         DELETE FROM records WHERE kind = $1 AND id = $2 RETURNING version) \
     SELECT version, pg_notify('eml_records', current_schema()) FROM changed";

/// Takes a key that is new, has expired, or whose request died with its node, and forgets some of the other expired ones, passing over
/// those that another request is forgetting right now.
const CLAIM_KEY: &str = "WITH forgotten AS ( \
         DELETE FROM idempotency_keys WHERE key IN ( \
             SELECT key FROM idempotency_keys WHERE claimed_at < $5 AND key <> $1 \
             ORDER BY claimed_at LIMIT 100 FOR UPDATE SKIP LOCKED) \
     ) \
     INSERT INTO idempotency_keys AS claim (key, request_hash, status, body, claimed_at) \
     VALUES ($1, $2, 0, $3, $4) \
     ON CONFLICT (key) DO UPDATE SET request_hash = excluded.request_hash, status = 0, \
         body = excluded.body, claimed_at = excluded.claimed_at \
     WHERE claim.claimed_at < $5 OR (claim.status = 0 AND claim.claimed_at < $6 \
         AND claim.request_hash = excluded.request_hash)";
const READ_KEY: &str = "SELECT key, request_hash, status, body FROM idempotency_keys WHERE key = $1";
const SETTLE_KEY: &str =
    "UPDATE idempotency_keys SET request_hash = $1, status = $2, body = $3 WHERE key = $4";
const FREE_KEY: &str = "DELETE FROM idempotency_keys WHERE key = $1";

/// Keeps a request, and drops those that are too many before it.
const KEEP_ORPHAN: &str = "WITH kept AS ( \
         INSERT INTO orphan_events (provider, name, fields, at) VALUES ($1, $2, $3, $4) RETURNING id \
     ) \
     DELETE FROM orphan_events WHERE id <= (SELECT id FROM kept) - $5";

/// How often a key may be given free between the failed claim and the look at it.
const MOST_CLAIMS: u32 = 5;

impl PostgresStore {
    /// Runs a statement that changes something, on a connection that was just found to be alive.
    pub(super) async fn change(&self, query: Bound) -> Result<PgQueryResult, StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        written(query.execute(&mut *connection)).await
    }
}

#[async_trait]
impl Records for PostgresStore {
    async fn all(&self, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError> {
        let query = sqlx::query(ALL).bind(kind.as_str());
        answered(query.fetch_all(&self.pool)).await?.iter().map(record).collect()
    }

    async fn by_id(&self, kind: RecordKind, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_ID).bind(kind.as_str()).bind(id);
        answered(query.fetch_optional(&self.pool)).await?.as_ref().map(record).transpose()
    }

    async fn by_key(&self, kind: RecordKind, key: &str) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_KEY).bind(kind.as_str()).bind(text(key));
        answered(query.fetch_optional(&self.pool)).await?.as_ref().map(record).transpose()
    }

    async fn insert(&self, kind: RecordKind, record: StoredRecord) -> Result<(), StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        let query = sqlx::query(INSERT)
            .bind(kind.as_str())
            .bind(record.id)
            .bind(text(&record.key))
            .bind(record.body.to_string())
            .bind(record.created_at.millis())
            .bind(record.updated_at.millis());
        let inserted = within_limit(query.execute(&mut *connection)).await;
        inserted.map(drop).map_err(|error| taken(&error, record.key))
    }

    async fn update(&self, kind: RecordKind, record: StoredRecord) -> Result<u64, StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        let query = sqlx::query(UPDATE)
            .bind(text(&record.key))
            .bind(record.body.to_string())
            .bind(record.updated_at.millis())
            .bind(kind.as_str())
            .bind(record.id)
            .bind(signed(record.version));
        let row = within_limit(query.fetch_optional(&mut *connection)).await;
        let row = row.map_err(|error| taken(&error, record.key))?.ok_or(StoreError::Changed)?;
        Reading { row: &row, table: "records", named_by: "version" }.number("version")
    }

    async fn remove(&self, kind: RecordKind, id: Uuid) -> Result<bool, StoreError> {
        let removed = self.change(sqlx::query(REMOVE).bind(kind.as_str()).bind(id)).await?;
        Ok(removed.rows_affected() > 0)
    }

    async fn claim_key(&self, claim: Claim<'_>) -> Result<Option<RememberedAnswer>, StoreError> {
        for _ in 0..MOST_CLAIMS {
            let query = sqlx::query(CLAIM_KEY)
                .bind(text(claim.key))
                .bind(text(claim.request_hash))
                .bind("")
                .bind(claim.now.millis())
                .bind(claim.expired_before.millis())
                .bind(claim.abandoned_before.millis());
            if self.change(query).await?.rows_affected() > 0 {
                return Ok(None);
            }
            let found = sqlx::query(READ_KEY).bind(text(claim.key)).fetch_optional(&self.pool);
            if let Some(row) = answered(found).await? {
                return remembered(&row).map(Some);
            }
        }
        Err(StoreError::Unavailable("an idempotency key is given free again and again".to_owned()))
    }

    async fn settle_key(&self, key: &str, answer: Option<RememberedAnswer>) -> Result<(), StoreError> {
        let query = match &answer {
            None => sqlx::query(FREE_KEY).bind(text(key)),
            Some(answer) => sqlx::query(SETTLE_KEY)
                .bind(text(&answer.request_hash))
                .bind(i32::from(answer.status))
                .bind(text(&answer.body))
                .bind(text(key)),
        };
        self.change(query).await.map(drop)
    }

    async fn keep_orphan(
        &self,
        provider: &str,
        name: &str,
        fields: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(KEEP_ORPHAN).bind(text(provider)).bind(text(name)).bind(text(fields));
        self.change(query.bind(at.millis()).bind(MOST_ORPHANS)).await.map(drop)
    }
}

/// The error of a write that may have met a name in use.
fn taken(error: &sqlx::Error, key: String) -> StoreError {
    if errors::is_double(error) { StoreError::Exists(key) } else { errors::from_write(error) }
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
