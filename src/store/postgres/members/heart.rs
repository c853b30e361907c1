//! Renewals on a connection of their own.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use super::nodes;
use crate::domain::node::NodeRef;
use crate::domain::time::Millis;
use crate::store::error::StoreError;
use crate::store::members::Heart;
use crate::store::postgres::{errors, frozen};

/// One connection that does nothing but renew. It belongs to the runtime that uses it first, since it
/// is opened there, and is dropped whenever an answer is missing.
pub struct PostgresHeart {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl PostgresHeart {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None }
    }

    /// Renews on the connection there is, and once more on a fresh one when that turns out to be gone.
    async fn beat(&mut self, node: &NodeRef, lease: Millis) -> Result<bool, sqlx::Error> {
        if let Some(mut connection) = self.connection.take() {
            match nodes::renew_on(&mut connection, node, lease).await {
                Ok(is_living) => {
                    self.connection = Some(connection);
                    return Ok(is_living);
                }
                Err(error) if errors::is_lost(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.options.connect().await?;
        let is_living = nodes::renew_on(&mut connection, node, lease).await?;
        self.connection = Some(connection);
        Ok(is_living)
    }
}

#[async_trait]
impl Heart for PostgresHeart {
    async fn renew(&mut self, node: &NodeRef, lease: Millis, within: Duration) -> Result<bool, StoreError> {
        let beat = tokio::time::timeout(within, self.beat(node, lease)).await;
        beat.unwrap_or_else(|_| Err(frozen())).map_err(|error| errors::from(&error))
    }
}
