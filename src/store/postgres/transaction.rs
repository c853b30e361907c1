//! One transaction for one batch, on a connection that may turn out to be stale.

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use super::{BATCH_CONNECTIONS, answered, errors, within_limit};
use crate::store::error::StoreError;

/// A transaction. Unless it ends cleanly its connection is closed, which makes the server undo it.
pub(super) struct Transaction {
    connection: PoolConnection<Postgres>,
    is_over: bool,
}

impl Transaction {
    /// Starts one. After a restart of the server all idle connections are stale; each is tried once,
    /// which costs next to nothing, until a fresh one is made.
    pub(super) async fn begin(pool: &PgPool) -> Result<Self, StoreError> {
        let mut stale = 0;
        loop {
            let connection = pool.acquire().await.map_err(|error| errors::from(&error))?;
            let mut transaction = Self { connection, is_over: false };
            match within_limit(sqlx::raw_sql("BEGIN").execute(transaction.connection())).await {
                Ok(_) => return Ok(transaction),
                Err(error) if errors::is_lost(&error) && stale < BATCH_CONNECTIONS => stale += 1,
                Err(error) => return Err(errors::from(&error)),
            }
        }
    }

    /// Where its statements run.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Makes it durable.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        match within_limit(sqlx::raw_sql("COMMIT").execute(&mut *self.connection)).await {
            Ok(_) => {
                self.is_over = true;
                Ok(())
            }
            Err(error) => Err(errors::from_commit(&error)),
        }
    }

    /// Undoes it.
    pub(super) async fn roll_back(mut self) {
        self.is_over = answered(sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection)).await.is_ok();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}
