//! Which incarnation of a node may write: its row, and how others take it away.
//!
//! A batch holds `FOR KEY SHARE` on the row until its commit. A beat changes no key, so the two do not
//! hinder each other. Whoever declares the incarnation dead, or starts another one, takes the row
//! `FOR UPDATE`: that waits for batches under way, and every later batch finds no living row.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::rows::text;
use super::{PostgresStore, answered, written};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

const LOCK: &str = "SELECT incarnation FROM nodes WHERE node_id = $1 FOR UPDATE";

const REGISTER: &str = "INSERT INTO nodes (node_id, incarnation, status, lease_until) \
     VALUES ($1, $2, 'alive', $3) ON CONFLICT (node_id) DO UPDATE SET incarnation = excluded.incarnation, \
     status = excluded.status, lease_until = excluded.lease_until";

const RENEW: &str = "UPDATE nodes SET lease_until = $3 \
     WHERE node_id = $1 AND incarnation = $2 AND status = 'alive'";

const DECLARE_DEAD: &str = "UPDATE nodes SET status = 'dead' WHERE node_id = $1 AND incarnation = $2";

/// One run of a node, under which batches may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Name of the node in the configuration.
    pub node: String,
    /// The run; a later one has another.
    pub incarnation: Uuid,
}

impl Fence {
    /// What a batch under this incarnation gets once it is no longer the living one.
    pub(super) fn refusal(&self) -> StoreError {
        StoreError::Fenced(format!("{} {}", self.node, self.incarnation))
    }
}

impl PostgresStore {
    /// Starts a new incarnation of a node. An older one, should it still run, can write no more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn register(&self, node: &str, lease_until: Timestamp) -> Result<Fence, StoreError> {
        let fence = Fence { node: text(node).into_owned(), incarnation: Uuid::now_v7() };
        let mut connection = answered(self.pool.acquire()).await?;
        written(register(&mut connection, &fence, lease_until)).await?;
        Ok(fence)
    }

    /// Renews the lease of an incarnation; answers whether it is still the living one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn renew(&self, fence: &Fence, lease_until: Timestamp) -> Result<bool, StoreError> {
        let query = sqlx::query(RENEW).bind(&*fence.node).bind(fence.incarnation).bind(lease_until.millis());
        let renewed = answered(query.execute(&self.pool)).await?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Takes from an incarnation the right to write, once its batches under way have ended; answers
    /// whether it is dead now, which it is not when the node runs under another one.
    ///
    /// # Errors
    /// When the store cannot be written; then it may or may not be dead.
    pub async fn declare_dead(&self, fence: &Fence) -> Result<bool, StoreError> {
        let mut connection = answered(self.pool.acquire()).await?;
        written(declare_dead(&mut connection, fence)).await
    }
}

async fn register(
    connection: &mut PgConnection,
    fence: &Fence,
    lease_until: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(LOCK).bind(&*fence.node).fetch_optional(&mut *transaction).await?;
    let query = sqlx::query(REGISTER).bind(&*fence.node).bind(fence.incarnation).bind(lease_until.millis());
    query.execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn declare_dead(connection: &mut PgConnection, fence: &Fence) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(LOCK).bind(&*fence.node).fetch_optional(&mut *transaction).await?;
    let query = sqlx::query(DECLARE_DEAD).bind(&*fence.node).bind(fence.incarnation);
    let found = query.execute(&mut *transaction).await?.rows_affected() > 0;
    transaction.commit().await?;
    Ok(found)
}
