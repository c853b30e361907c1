//! The fence: an incarnation of a node that was declared dead stores nothing any more.
//!
//! Each batch takes a shared lock on the node's own row and looks whether it is alive, inside the
//! transaction that stores the batch. Declaring the node dead takes the row alone: it waits for
//! batches under way, and those that come later find no living row.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{PostgresStore, errors};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

/// KEY SHARE lets the node renew its lease beside its batches: that changes no key.
const HOLD: &str = "SELECT 1 FROM nodes WHERE node_id = $1 AND incarnation = $2 AND status = 'alive' \
     FOR KEY SHARE";
const REGISTER: &str = "INSERT INTO nodes (node_id, incarnation, status, lease_until) \
     VALUES ($1, $2, 'alive', $3) ON CONFLICT (node_id) DO UPDATE SET \
     incarnation = excluded.incarnation, status = excluded.status, lease_until = excluded.lease_until";
const RENEW: &str = "UPDATE nodes SET lease_until = $3 \
     WHERE node_id = $1 AND incarnation = $2 AND status = 'alive'";
const LOCK_NAME: &str = "SELECT status FROM nodes WHERE node_id = $1 FOR UPDATE";
const LOCK_ALONE: &str = "SELECT status FROM nodes WHERE node_id = $1 AND incarnation = $2 FOR UPDATE";
const BURY: &str = "UPDATE nodes SET status = 'dead' WHERE node_id = $1 AND incarnation = $2";

/// One incarnation of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Name of the node.
    pub node: String,
    /// Changes with each start of the node.
    pub incarnation: Uuid,
}

impl Fence {
    /// Looks whether the node is alive, and keeps it so until the transaction ends.
    pub(super) async fn hold(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let query = sqlx::query(HOLD).bind(&self.node).bind(self.incarnation);
        let row = query.fetch_optional(connection).await.map_err(|error| errors::from(&error))?;
        row.map(|_| ()).ok_or_else(|| StoreError::Fenced(self.node.clone()))
    }
}

impl PostgresStore {
    /// Makes an incarnation of a node known as alive; an earlier one of the same name is over.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn register(&self, fence: &Fence, lease_until: Timestamp) -> Result<(), StoreError> {
        let translated = |error: sqlx::Error| errors::from(&error);
        let mut transaction = self.pool.begin().await.map_err(translated)?;
        // Waits for batches under way of the incarnation that this one replaces.
        let lock = sqlx::query(LOCK_NAME).bind(&fence.node);
        lock.fetch_optional(&mut *transaction).await.map_err(translated)?;
        let query =
            sqlx::query(REGISTER).bind(&fence.node).bind(fence.incarnation).bind(lease_until.millis());
        query.execute(&mut *transaction).await.map_err(translated)?;
        transaction.commit().await.map_err(translated)
    }

    /// Renews the lease of an incarnation; answers whether it is alive.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn renew(&self, fence: &Fence, lease_until: Timestamp) -> Result<bool, StoreError> {
        let query = sqlx::query(RENEW).bind(&fence.node).bind(fence.incarnation).bind(lease_until.millis());
        let renewed = query.execute(&self.pool).await.map_err(|error| errors::from(&error))?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Declares an incarnation dead: waits for its batches under way; later ones are refused.
    /// Answers whether it was alive.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn declare_dead(&self, fence: &Fence) -> Result<bool, StoreError> {
        let translated = |error: sqlx::Error| errors::from(&error);
        let mut transaction = self.pool.begin().await.map_err(translated)?;
        let lock = sqlx::query(LOCK_ALONE).bind(&fence.node).bind(fence.incarnation);
        let row = lock.fetch_optional(&mut *transaction).await.map_err(translated)?;
        let was_alive =
            row.is_some_and(|row| row.try_get::<&str, _>("status").is_ok_and(|word| word == "alive"));
        let bury = sqlx::query(BURY).bind(&fence.node).bind(fence.incarnation);
        bury.execute(&mut *transaction).await.map_err(translated)?;
        transaction.commit().await.map_err(translated)?;
        Ok(was_alive)
    }
}
