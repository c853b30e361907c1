//! Several nodes that are one: who lives, who owns which shard, and how they talk. Which shard an
//! entity belongs to, and which node a shard, is in `domain::placement`.

pub mod action;
pub mod beat;
mod errands;
pub mod lease;
pub mod link;
pub mod membership;
pub mod owners;
pub mod plan;
mod standing;
mod table;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use lease::LeaseHandle;
use link::Transport;
use owners::Owners;

use crate::domain::node::{NodeRef, NodeRow};
use crate::store::members::Members;

/// What a node knows of the cluster that it is part of.
pub struct Cluster {
    /// This run of this node.
    pub me: NodeRef,
    /// Who owns each shard.
    pub owners: Owners,
    /// Whether this node still lives for the others.
    pub lease: LeaseHandle,
    /// The node table.
    pub members: Arc<dyn Members>,
    nodes: RwLock<Arc<Vec<NodeRow>>>,
    transport: OnceLock<Arc<dyn Transport>>,
}

impl Cluster {
    /// A cluster of which nothing is known yet.
    #[must_use]
    pub fn new(me: NodeRef, lease: LeaseHandle, members: Arc<dyn Members>) -> Self {
        let nodes = RwLock::default();
        Self { me, owners: Owners::default(), lease, members, nodes, transport: OnceLock::new() }
    }

    /// The way to the other nodes, once it is open.
    #[must_use]
    pub fn transport(&self) -> Option<&Arc<dyn Transport>> {
        self.transport.get()
    }

    /// Opens the way to the other nodes; only the first one stays.
    pub fn connect(&self, transport: Arc<dyn Transport>) {
        let _ = self.transport.set(transport);
    }

    /// The rows of all nodes as last read.
    #[must_use]
    pub fn nodes(&self) -> Arc<Vec<NodeRow>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the rows of all nodes.
    pub fn set_nodes(&self, rows: Vec<NodeRow>) {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
    }

    /// The living nodes besides this one.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeRef> {
        let living = |row: &&NodeRow| row.status.may_write() && row.at != self.me;
        self.nodes().iter().filter(living).map(|row| row.at.clone()).collect()
    }
}
