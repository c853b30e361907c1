//! Grants: what lets somebody in for a while.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::rows::{Reading, signed};
use super::{SqliteStore, counters, errors, revocations};
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::Counted;
use crate::store::error::StoreError;
use crate::store::grants::{FORGOTTEN_AT_A_TIME, Grant, GrantKind, Grants, Revocation};

const PUT: &str = "INSERT INTO grants (kind, key, subject, body, version, created_at, expires_at) \
     VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET subject = excluded.subject, \
     body = excluded.body, version = 1, created_at = excluded.created_at, \
     expires_at = excluded.expires_at WHERE grants.expires_at <= excluded.created_at";
const GET: &str = "SELECT kind, key, subject, body, version, created_at, expires_at FROM grants \
     WHERE kind = ? AND key = ? AND expires_at > ?";
const ABOUT: &str = "SELECT kind, key, subject, body, version, created_at, expires_at FROM grants \
     WHERE kind = ? AND subject = ? AND expires_at > ? ORDER BY created_at, key";
const REPLACE: &str = "UPDATE grants SET subject = ?, body = ?, expires_at = ?, version = version + 1 \
     WHERE kind = ? AND key = ? AND version = ? AND created_at = ? RETURNING version";
const TAKE: &str = "DELETE FROM grants WHERE kind = ? AND key = ? AND expires_at > ? \
     RETURNING kind, key, subject, body, version, created_at, expires_at";
const TAKE_ALL: &str = "DELETE FROM grants WHERE kind = ? AND subject = ?";
const FORGET: &str = "DELETE FROM grants WHERE (kind, key) IN \
     (SELECT kind, key FROM grants WHERE expires_at <= ? LIMIT ?)";
const PAGE: &str = "SELECT kind, key, subject, body, version, created_at, expires_at FROM grants \
     WHERE (kind, key) > (?, ?) AND expires_at > ? ORDER BY kind, key LIMIT ?";

#[async_trait]
impl Grants for SqliteStore {
    async fn put(&self, grant: Grant) -> Result<(), StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(PUT)
            .bind(grant.kind.as_str())
            .bind(&*grant.key)
            .bind(grant.subject.as_bytes().as_slice())
            .bind(grant.body.to_string())
            .bind(grant.created_at.millis())
            .bind(grant.expires_at.millis());
        let put = query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
        if put.rows_affected() > 0 { Ok(()) } else { Err(StoreError::Exists(grant.key)) }
    }

    async fn get(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let query = sqlx::query(GET).bind(kind.as_str()).bind(key).bind(now.millis());
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(grant).transpose()
    }

    async fn about(&self, kind: GrantKind, subject: Uuid, now: Timestamp) -> Result<Vec<Grant>, StoreError> {
        let query =
            sqlx::query(ABOUT).bind(kind.as_str()).bind(subject.as_bytes().as_slice()).bind(now.millis());
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(grant).collect()
    }

    async fn replace(&self, grant: Grant) -> Result<u64, StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(REPLACE)
            .bind(grant.subject.as_bytes().as_slice())
            .bind(grant.body.to_string())
            .bind(grant.expires_at.millis())
            .bind(grant.kind.as_str())
            .bind(&*grant.key)
            .bind(signed(grant.version))
            .bind(grant.created_at.millis());
        let row = query.fetch_optional(&mut *connection).await.map_err(|error| errors::from(&error))?;
        let row = row.ok_or(StoreError::Changed)?;
        Reading { row: &row, table: "grants", named_by: "version" }.number("version")
    }

    async fn take(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(TAKE).bind(kind.as_str()).bind(key).bind(now.millis());
        let row = query.fetch_optional(&mut *connection).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(grant).transpose()
    }

    async fn take_all(&self, kind: GrantKind, subject: Uuid) -> Result<u64, StoreError> {
        let mut connection = self.writer.connection().await?;
        let query = sqlx::query(TAKE_ALL).bind(kind.as_str()).bind(subject.as_bytes().as_slice());
        let taken = query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
        Ok(taken.rows_affected())
    }

    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for statement in [FORGET, counters::FORGET, revocations::FORGET] {
            // The connection is given back between, so that batches of the journal come in.
            let mut connection = self.writer.connection().await?;
            let query =
                sqlx::query(statement).bind(now.millis()).bind(super::rows::limit(FORGOTTEN_AT_A_TIME));
            let done = query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
            forgotten += done.rows_affected();
        }
        Ok(forgotten)
    }

    async fn count(
        &self,
        key: &str,
        window: Millis,
        most: u64,
        now: Timestamp,
    ) -> Result<Counted, StoreError> {
        counters::count(&self.writer, key, (window, most), now).await
    }

    async fn forget_count(&self, key: &str) -> Result<(), StoreError> {
        counters::forget(&self.writer, key).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        revocations::put(&self.writer, revocation).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<(Vec<Revocation>, Timestamp), StoreError> {
        revocations::since(&self.readers, since).await
    }
}

impl SqliteStore {
    /// Grants that still count at `now` in a fixed order behind that of a kind and key, `limit` at most.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn grants_behind(
        &self,
        after: Option<&Grant>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        let (kind, key) = after.map_or(("", ""), |last| (last.kind.as_str(), &*last.key));
        let query = sqlx::query(PAGE).bind(kind).bind(key).bind(now.millis()).bind(super::rows::limit(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(grant).collect()
    }
}

fn grant(row: &SqliteRow) -> Result<Grant, StoreError> {
    let reading = Reading { row, table: "grants", named_by: "key" };
    let body = serde_json::from_str(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    let kind = GrantKind::from_word(reading.get("kind")?).ok_or_else(|| reading.corrupt("kind"))?;
    Ok(Grant {
        kind,
        key: reading.get("key")?,
        subject: reading.uuid("subject")?,
        body,
        version: reading.number("version")?,
        created_at: Timestamp::from_millis(reading.get("created_at")?),
        expires_at: Timestamp::from_millis(reading.get("expires_at")?),
    })
}
