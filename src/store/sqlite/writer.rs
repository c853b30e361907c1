//! The one connection that writes, and its transactions.

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::errors;
use crate::store::error::StoreError;

/// Hands out the only writing connection, one user at a time in order of asking.
#[derive(Clone)]
pub(super) struct Writer(SqlitePool);

impl Writer {
    pub(super) const fn new(pool: SqlitePool) -> Self {
        Self(pool)
    }

    /// The connection itself, for single statements.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.0.acquire().await.map_err(|error| errors::from(&error))
    }

    /// Starts a transaction that holds the write lock from the beginning, so that what it reads
    /// cannot change before it writes.
    pub(super) async fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut connection = self.connection().await?;
        match sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await {
            Ok(_) => Ok(WriteTransaction { connection, is_over: false }),
            Err(error) => {
                if !errors::is_transient(&error) {
                    connection.close_on_drop();
                }
                Err(errors::from(&error))
            }
        }
    }

    /// Closes the connection once nobody uses it.
    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}

/// A transaction of the writer. Unless it ends cleanly, its connection is closed, which undoes it
/// for certain; the next user gets a fresh one.
pub(super) struct WriteTransaction {
    connection: PoolConnection<Sqlite>,
    is_over: bool,
}

impl WriteTransaction {
    /// Where its statements run.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        match sqlx::query("COMMIT").execute(&mut *self.connection).await {
            Ok(_) => {
                self.is_over = true;
                Ok(())
            }
            // The last frame may have reached the disk before the error did.
            Err(error) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    /// Undoes it.
    pub(super) async fn roll_back(mut self) {
        // Fails when the database has undone it already; then the connection is closed.
        self.is_over = sqlx::query("ROLLBACK").execute(&mut *self.connection).await.is_ok();
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}
