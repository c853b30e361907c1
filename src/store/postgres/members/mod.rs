//! Nodes and shards in the database: who may write, who owns what, and news of changes.
//!
//! A batch holds `FOR KEY SHARE` on the row of its node until its commit. A renewal changes no key, so
//! the two do not hinder each other. Whoever ends a run, or starts another one, takes the row
//! `FOR UPDATE`: that waits for batches under way, and every later batch finds no living row.
//! Whoever gives shards to a node holds `FOR KEY SHARE` on its row as well, so that no dead node gets any.

mod changes;
mod heart;
mod nodes;
mod secret;
mod shards;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

pub(super) use changes::Listening;
pub use heart::PostgresHeart;

use super::PostgresStore;
use crate::domain::node::{ClusterView, NodeRef};
use crate::domain::time::Millis;
use crate::store::error::StoreError;
use crate::store::journal::Journal;
use crate::store::members::{Change, ClusterSecret, Heart, Members, NewNode};
use nodes::End;

/// What the clock of the database shows, in milliseconds since 1970 UTC.
macro_rules! now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// Statuses of nodes that may write, as SQL has them.
macro_rules! living {
    () => {
        "('alive', 'draining')"
    };
}

/// A change of nodes or shards that is told at its commit, unless it changes nothing. The schema is told
/// as well, since channels are those of the whole database.
macro_rules! announced {
    ($returning:literal, $($statement:expr),+) => {
        concat!(
            "WITH changed AS (", $($statement),+, " RETURNING ", $returning, ") SELECT ", $returning,
            ", pg_notify('eml_nodes', current_schema()) FROM changed"
        )
    };
}

use {announced, living, now};

impl PostgresStore {
    /// A connection of its own for renewals, which is opened where and when it is first used.
    #[must_use]
    pub fn heart(&self) -> PostgresHeart {
        PostgresHeart::new(self.options.clone())
    }
}

#[async_trait]
impl Members for PostgresStore {
    async fn register(&self, node: &NewNode, lease: Millis) -> Result<NodeRef, StoreError> {
        nodes::register(&self.control, node, lease).await
    }

    async fn renew(&self, node: &NodeRef, lease: Millis) -> Result<bool, StoreError> {
        nodes::renew(&self.control, node, lease).await
    }

    async fn view(&self) -> Result<ClusterView, StoreError> {
        view::read(&self.control).await
    }

    async fn set_draining(&self, node: &NodeRef) -> Result<bool, StoreError> {
        nodes::set_draining(&self.control, node).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<(), StoreError> {
        nodes::end(&self.control, node, End::Leave).await.map(drop)
    }

    async fn declare_dead(&self, node: &NodeRef, only_expired: bool) -> Result<bool, StoreError> {
        let end = if only_expired { End::DieExpired } else { End::Die };
        nodes::end(&self.control, node, end).await
    }

    async fn claim(&self, node: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError> {
        shards::claim(&self.control, node, shards).await
    }

    async fn transfer(&self, from: &NodeRef, to: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError> {
        shards::transfer(&self.control, from, to, shards).await
    }

    async fn release(&self, node: &NodeRef, shards: &[u16]) -> Result<(), StoreError> {
        shards::release(&self.control, node, shards).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.listening.receiver(&self.options)
    }

    fn heart(&self) -> Box<dyn Heart> {
        Box::new(PostgresStore::heart(self))
    }

    fn journal_of(&self, node: &NodeRef) -> Arc<dyn Journal> {
        Arc::new(self.fenced(node.clone()))
    }

    async fn cluster_secret(
        &self,
        make: &(dyn Fn() -> ClusterSecret + Sync),
    ) -> Result<ClusterSecret, StoreError> {
        secret::found_or_made(&self.control, make).await
    }
}
