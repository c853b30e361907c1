//! Members: which nodes live, which of them owns which shard, and what they tell each other of it.
//!
//! A node holds a lease. All reckoning with leases is done with the store's own clock, so that what
//! the clock of a node shows makes no difference. Products: memory and `PostgreSQL`. Both pass the
//! contract suite in `tests/it/members_contract.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::error::StoreError;
use super::journal::Journal;
use crate::domain::node::{ClusterView, NodeRef, Role};
use crate::domain::time::Millis;

/// Changes that are kept for a receiver that does not keep up; few, since one says as much as many.
pub(super) const CHANGES_KEPT: usize = 64;

/// What a node says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its name in the configuration.
    pub node: String,
    /// Where other nodes reach it, as `host:port`; empty when they cannot.
    pub address: String,
    /// How the outside reaches it.
    pub public_url: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Version of its program.
    pub version: String,
}

/// What has changed, by whichever node, also by this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Nodes or the owners of shards.
    Nodes,
    /// Configuration records.
    Records,
    /// It may be anything: news was missed. Comes first of all, and after each interruption.
    Unknown,
}

/// What the nodes of one cluster share so that they can trust each other: made once, kept in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret {
    /// What nodes prove to each other that they belong together with.
    pub secret: String,
    /// Certificate that signs the nodes' certificates, PEM.
    pub ca_cert_pem: String,
    /// Its private key, PEM.
    pub ca_key_pem: String,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret").field("ca_cert_pem", &self.ca_cert_pem).finish_non_exhaustive()
    }
}

/// Where nodes and owners of shards are kept.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// Starts a new run of a node. An older one, should it still be there, can write no more once
    /// this is answered, and its shards may be claimed.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn register(&self, node: &NewNode, lease: Millis) -> Result<NodeRef, StoreError>;

    /// Extends the lease of a living run, from now on; draining ones live too. Answers whether it is
    /// still living; once it is not it never will be again.
    ///
    /// # Errors
    /// When the store cannot be written; then the lease may or may not be extended.
    async fn renew(&self, node: &NodeRef, lease: Millis) -> Result<bool, StoreError>;

    /// All nodes, each with its last run, and the owners of all shards, read at one moment.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn view(&self) -> Result<ClusterView, StoreError>;

    /// Marks a living run as one that gets no more shards; answers whether it is living.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn set_draining(&self, node: &NodeRef) -> Result<bool, StoreError>;

    /// Ends a run of this node's own accord: it can write no more, and its shards may be claimed.
    ///
    /// # Errors
    /// When the store cannot be written; then it may or may not be over.
    async fn leave(&self, node: &NodeRef) -> Result<(), StoreError>;

    /// Takes from a run the right to write, once its batches under way have ended; with
    /// `only_expired` only when its lease is over by then. Answers whether it is over now, be it
    /// by an earlier declaration or because it left. `false`: it lives, or there is another run.
    ///
    /// # Errors
    /// When the store cannot be written; then it may or may not be dead.
    async fn declare_dead(&self, node: &NodeRef, only_expired: bool) -> Result<bool, StoreError>;

    /// Takes those of these shards that nobody owns, or a run that is over; answers which it got, in
    /// order. A draining node gets none. What it owns already is not among them.
    ///
    /// # Errors
    /// `Fenced` when the run is no longer the living one; otherwise when the store cannot be written.
    /// After `InDoubt` the view tells.
    async fn claim(&self, node: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError>;

    /// Gives those of these shards that a run owns to another; answers which, in order. None when the
    /// other one is over or draining.
    ///
    /// # Errors
    /// `Fenced` when the giver is no longer the living one; otherwise as for `claim`.
    async fn transfer(&self, from: &NodeRef, to: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError>;

    /// Gives up those of these shards that a run owns.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn release(&self, node: &NodeRef, shards: &[u16]) -> Result<(), StoreError>;

    /// What changes from now on. A receiver that lags behind misses some; that means `Unknown`, too.
    /// To be called within the runtime that lives as long as the node does.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// A way to renew that waits for nothing else this node does, for the thread that does only that.
    fn heart(&self) -> Box<dyn Heart>;

    /// The journal for one run of a node: batches are refused with `Fenced` once that is no longer
    /// the living one.
    fn journal_of(&self, node: &NodeRef) -> Arc<dyn Journal>;

    /// The secret of the cluster; `make` is asked when there is none yet. All nodes get the same one,
    /// also when several of them make one at a time.
    ///
    /// # Errors
    /// When the store cannot be read, or not be written the first time.
    async fn cluster_secret(
        &self,
        make: &(dyn Fn() -> ClusterSecret + Sync),
    ) -> Result<ClusterSecret, StoreError>;
}

/// Renews leases and nothing else. What it needs it opens on the runtime that calls it, and opens it
/// again when it breaks.
#[async_trait]
pub trait Heart: Send {
    /// As `Members::renew`, all in all within a time.
    ///
    /// # Errors
    /// `Unavailable` when there was no answer in time or the store was away; the lease may be
    /// extended nevertheless.
    async fn renew(&mut self, node: &NodeRef, lease: Millis, within: Duration) -> Result<bool, StoreError>;
}

/// What a run that may not write gets.
pub(super) fn fenced(node: &NodeRef) -> StoreError {
    StoreError::Fenced(node.to_string())
}
