//! Configuration records, idempotency keys and orphaned requests.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::rows::{Reading, signed};
use super::{SqliteStore, errors};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::records::{Claim, MOST_ORPHANS, RecordKind, Records, RememberedAnswer, StoredRecord};

const ALL: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = ? ORDER BY key";
const BY_ID: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = ? AND id = ?";
const BY_KEY: &str =
    "SELECT id, key, body, version, created_at, updated_at FROM records WHERE kind = ? AND key = ?";
const INSERT: &str = "INSERT INTO records (kind, id, key, body, version, created_at, updated_at) \
     VALUES (?, ?, ?, ?, 1, ?, ?)";
const UPDATE: &str = "UPDATE records SET key = ?, body = ?, updated_at = ?, version = version + 1 \
     WHERE kind = ? AND id = ? AND version = ? RETURNING version";
const REMOVE: &str = "DELETE FROM records WHERE kind = ? AND id = ?";

const FORGET_KEYS: &str = "DELETE FROM idempotency_keys WHERE claimed_at < ?";
const CLAIM_KEY: &str = "INSERT INTO idempotency_keys (key, request_hash, status, body, claimed_at) \
     VALUES (?, ?, 0, ?, ?) ON CONFLICT (key) DO UPDATE SET claimed_at = excluded.claimed_at \
     WHERE status = 0 AND request_hash = excluded.request_hash AND claimed_at < ?";
const READ_KEY: &str = "SELECT key, request_hash, status, body FROM idempotency_keys WHERE key = ?";
const SETTLE_KEY: &str = "UPDATE idempotency_keys SET request_hash = ?, status = ?, body = ? WHERE key = ?";
const FREE_KEY: &str = "DELETE FROM idempotency_keys WHERE key = ?";

const DROP_ORPHANS: &str = "DELETE FROM orphan_events WHERE id <= ?";
const KEEP_ORPHAN: &str = "INSERT INTO orphan_events (provider, name, fields, at) VALUES (?, ?, ?, ?)";

#[async_trait]
impl Records for SqliteStore {
    async fn all(&self, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError> {
        let query = sqlx::query(ALL).bind(kind.as_str());
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(record).collect()
    }

    async fn by_id(&self, kind: RecordKind, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_ID).bind(kind.as_str()).bind(id.as_bytes().as_slice());
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(record).transpose()
    }

    async fn by_key(&self, kind: RecordKind, key: &str) -> Result<Option<StoredRecord>, StoreError> {
        let query = sqlx::query(BY_KEY).bind(kind.as_str()).bind(key);
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(record).transpose()
    }

    async fn insert(&self, kind: RecordKind, record: StoredRecord) -> Result<(), StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(INSERT)
            .bind(kind.as_str())
            .bind(record.id.as_bytes().as_slice())
            .bind(&*record.key)
            .bind(record.body.to_string())
            .bind(record.created_at.millis())
            .bind(record.updated_at.millis());
        let inserted = query.execute(&mut *connection).await;
        inserted.map(|_| ()).map_err(|error| taken(&error, record.key))
    }

    async fn update(&self, kind: RecordKind, record: StoredRecord) -> Result<u64, StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(UPDATE)
            .bind(&*record.key)
            .bind(record.body.to_string())
            .bind(record.updated_at.millis())
            .bind(kind.as_str())
            .bind(record.id.as_bytes().as_slice())
            .bind(signed(record.version));
        let row = query.fetch_optional(&mut *connection).await.map_err(|error| taken(&error, record.key))?;
        let row = row.ok_or(StoreError::Changed)?;
        Reading { row: &row, table: "records", named_by: "version" }.number("version")
    }

    async fn remove(&self, kind: RecordKind, id: Uuid) -> Result<bool, StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(REMOVE).bind(kind.as_str()).bind(id.as_bytes().as_slice());
        let removed = query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
        Ok(removed.rows_affected() > 0)
    }

    async fn claim_key(&self, claim: Claim<'_>) -> Result<Option<RememberedAnswer>, StoreError> {
        let mut transaction = self.writer.begin().await?;
        match run_claim(transaction.connection(), &claim).await {
            Ok(found) => {
                transaction.commit().await?;
                found.as_ref().map(remembered).transpose()
            }
            Err(error) => {
                transaction.roll_back().await;
                Err(errors::from(&error))
            }
        }
    }

    async fn settle_key(&self, key: &str, answer: Option<RememberedAnswer>) -> Result<(), StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = match &answer {
            None => sqlx::query(FREE_KEY).bind(key),
            Some(answer) => sqlx::query(SETTLE_KEY)
                .bind(&*answer.request_hash)
                .bind(answer.status)
                .bind(&*answer.body)
                .bind(key),
        };
        query.execute(&mut *connection).await.map(|_| ()).map_err(|error| errors::from(&error))
    }

    async fn keep_orphan(
        &self,
        provider: &str,
        name: &str,
        fields: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(KEEP_ORPHAN).bind(provider).bind(name).bind(fields).bind(at.millis());
        let kept = query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
        let drop = sqlx::query(DROP_ORPHANS).bind(kept.last_insert_rowid() - MOST_ORPHANS);
        drop.execute(&mut *connection).await.map(|_| ()).map_err(|error| errors::from(&error))
    }
}

/// Answers what is there already, or `None` when the key is now this request's.
async fn run_claim(
    connection: &mut sqlx::SqliteConnection,
    claim: &Claim<'_>,
) -> Result<Option<SqliteRow>, sqlx::Error> {
    sqlx::query(FORGET_KEYS).bind(claim.expired_before.millis()).execute(&mut *connection).await?;
    let insert = sqlx::query(CLAIM_KEY)
        .bind(claim.key.to_owned())
        .bind(claim.request_hash.to_owned())
        .bind("")
        .bind(claim.now.millis())
        .bind(claim.abandoned_before.millis());
    if insert.execute(&mut *connection).await?.rows_affected() > 0 {
        return Ok(None);
    }
    sqlx::query(READ_KEY).bind(claim.key.to_owned()).fetch_optional(connection).await
}

/// The error of a write that may have met a name in use.
fn taken(error: &sqlx::Error, key: String) -> StoreError {
    if errors::is_double(error) { StoreError::Exists(key) } else { errors::from(error) }
}

fn record(row: &SqliteRow) -> Result<StoredRecord, StoreError> {
    let reading = Reading { row, table: "records", named_by: "id" };
    let body = serde_json::from_str(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    Ok(StoredRecord {
        id: reading.uuid("id")?,
        key: reading.get("key")?,
        body,
        version: reading.number("version")?,
        created_at: Timestamp::from_millis(reading.get("created_at")?),
        updated_at: Timestamp::from_millis(reading.get("updated_at")?),
    })
}

fn remembered(row: &SqliteRow) -> Result<RememberedAnswer, StoreError> {
    let reading = Reading { row, table: "idempotency_keys", named_by: "key" };
    Ok(RememberedAnswer {
        request_hash: reading.get("request_hash")?,
        status: reading.get("status")?,
        body: reading.get("body")?,
    })
}
