//! Grants: what lets somebody in for a while.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::{Reading, limit, signed, text};
use super::{PostgresStore, answered, counters, revocations, written};
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::Counted;
use crate::store::error::StoreError;
use crate::store::grants::{FORGOTTEN_AT_A_TIME, Grant, GrantKind, Grants, Revocation};

const PUT: &str = "INSERT INTO grants (kind, key, subject, body, version, created_at, expires_at) \
     VALUES ($1, $2, $3, $4, 1, $5, $6) ON CONFLICT (kind, key) DO UPDATE SET subject = excluded.subject, \
     body = excluded.body, version = 1, created_at = excluded.created_at, \
     expires_at = excluded.expires_at WHERE grants.expires_at <= excluded.created_at";
const GET: &str = "SELECT kind, key, subject, body, version, created_at, expires_at FROM grants \
     WHERE kind = $1 AND key = $2 AND expires_at > $3";
const ABOUT: &str = "SELECT kind, key, subject, body, version, created_at, expires_at FROM grants \
     WHERE kind = $1 AND subject = $2 AND expires_at > $3 ORDER BY created_at, key";
const REPLACE: &str = "UPDATE grants SET subject = $1, body = $2, expires_at = $3, version = version + 1 \
     WHERE kind = $4 AND key = $5 AND version = $6 AND created_at = $7 RETURNING version";
const TAKE: &str = "DELETE FROM grants WHERE kind = $1 AND key = $2 AND expires_at > $3 \
     RETURNING kind, key, subject, body, version, created_at, expires_at";
const TAKE_ALL: &str = "DELETE FROM grants WHERE kind = $1 AND subject = $2";

/// Passes over those that another node is forgetting or changing right now.
const FORGET: &str = "DELETE FROM grants WHERE (kind, key) IN (SELECT kind, key FROM grants \
     WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

#[async_trait]
impl Grants for PostgresStore {
    async fn put(&self, grant: Grant) -> Result<(), StoreError> {
        let query = sqlx::query(PUT)
            .bind(grant.kind.as_str())
            .bind(text(&grant.key).into_owned())
            .bind(grant.subject)
            .bind(grant.body.to_string())
            .bind(grant.created_at.millis())
            .bind(grant.expires_at.millis());
        let put = self.change(query).await?;
        if put.rows_affected() > 0 { Ok(()) } else { Err(StoreError::Exists(grant.key)) }
    }

    async fn get(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let query = sqlx::query(GET).bind(kind.as_str()).bind(text(key)).bind(now.millis());
        answered(query.fetch_optional(&self.pool)).await?.as_ref().map(grant).transpose()
    }

    async fn about(&self, kind: GrantKind, subject: Uuid, now: Timestamp) -> Result<Vec<Grant>, StoreError> {
        let query = sqlx::query(ABOUT).bind(kind.as_str()).bind(subject).bind(now.millis());
        answered(query.fetch_all(&self.pool)).await?.iter().map(grant).collect()
    }

    async fn replace(&self, grant: Grant) -> Result<u64, StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        let query = sqlx::query(REPLACE)
            .bind(grant.subject)
            .bind(grant.body.to_string())
            .bind(grant.expires_at.millis())
            .bind(grant.kind.as_str())
            .bind(text(&grant.key))
            .bind(signed(grant.version))
            .bind(grant.created_at.millis());
        let row = written(query.fetch_optional(&mut *connection)).await?.ok_or(StoreError::Changed)?;
        Reading { row: &row, table: "grants", named_by: "version" }.number("version")
    }

    async fn take(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        let query = sqlx::query(TAKE).bind(kind.as_str()).bind(text(key)).bind(now.millis());
        written(query.fetch_optional(&mut *connection)).await?.as_ref().map(grant).transpose()
    }

    async fn take_all(&self, kind: GrantKind, subject: Uuid) -> Result<u64, StoreError> {
        let taken = self.change(sqlx::query(TAKE_ALL).bind(kind.as_str()).bind(subject)).await?;
        Ok(taken.rows_affected())
    }

    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for statement in [FORGET, counters::FORGET, revocations::FORGET] {
            let query = sqlx::query(statement).bind(now.millis()).bind(limit(FORGOTTEN_AT_A_TIME));
            forgotten += self.change(query).await?.rows_affected();
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
        counters::count(&self.pool, key, (window, most), now).await
    }

    async fn forget_count(&self, key: &str) -> Result<(), StoreError> {
        self.change(sqlx::query(counters::FORGET_ONE).bind(text(key).into_owned())).await.map(drop)
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.change(revocations::putting(revocation)).await.map(drop)
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<(Vec<Revocation>, Timestamp), StoreError> {
        revocations::since(&self.control, since).await
    }
}

fn grant(row: &PgRow) -> Result<Grant, StoreError> {
    let reading = Reading { row, table: "grants", named_by: "key" };
    let body = serde_json::from_str(reading.get("body")?).map_err(|_| reading.corrupt("body"))?;
    let kind = GrantKind::from_word(reading.get("kind")?).ok_or_else(|| reading.corrupt("kind"))?;
    Ok(Grant {
        kind,
        key: reading.get("key")?,
        subject: reading.get("subject")?,
        body,
        version: reading.number("version")?,
        created_at: Timestamp::from_millis(reading.get("created_at")?),
        expires_at: Timestamp::from_millis(reading.get("expires_at")?),
    })
}
