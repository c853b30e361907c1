//! Nodes of a cluster: how they are named, what they do, and what the node table says of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::placement::SHARDS;
use super::time::Timestamp;

/// One run of a node: the name in its configuration, and which run of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRef {
    /// Name of the node.
    pub node: Box<str>,
    /// The run; a later one has another.
    pub incarnation: Uuid,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node, self.incarnation)
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ends HTTP and sockets.
    Edge,
    /// Calls, agent sessions and queues.
    Communication,
    /// Scheduled notifications.
    Notification,
    /// Users and sign-in.
    User,
    /// Reports.
    Reports,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Edge, Self::Communication, Self::Notification, Self::User, Self::Reports];

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Communication => "communication",
            Self::Notification => "notification",
            Self::User => "user",
            Self::Reports => "reports",
        }
    }

    /// The role whose nodes may own a shard.
    #[must_use]
    pub const fn of_shard(_shard: u16) -> Self {
        Self::Communication
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or(())
    }
}

/// Where a node stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// It may own shards.
    Alive,
    /// It lives, and hands its shards over.
    Draining,
    /// Others took from it the right to write; for good.
    Dead,
    /// It went by itself; for good.
    Left,
}

impl NodeStatus {
    /// The stored word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }

    /// Whether such a node may write.
    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Alive | Self::Draining)
    }
}

/// The row of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Which run of which node.
    pub at: NodeRef,
    /// Where other nodes reach it, as `host:port`; empty when they cannot.
    pub address: String,
    /// How the outside reaches it.
    pub public_url: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Version of its program.
    pub version: String,
    /// Where it stands.
    pub status: NodeStatus,
    /// When this run began, by the store's clock.
    pub started_at: Timestamp,
    /// When others may declare it dead, by the store's clock.
    pub lease_until: Timestamp,
}

/// The node table and the owners of all shards, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// That moment, by the store's clock.
    pub now: Timestamp,
    /// The last run of each node, by name.
    pub nodes: Vec<NodeRow>,
    /// Who owns each shard, by its number; dead owners stand here until somebody claims.
    pub owners: Vec<Option<NodeRef>>,
}

impl ClusterView {
    /// Nobody owns anything.
    #[must_use]
    pub fn empty(now: Timestamp) -> Self {
        Self { now, nodes: Vec::new(), owners: vec![None; usize::from(SHARDS)] }
    }

    /// The row of this very run, while it may write.
    #[must_use]
    pub fn living(&self, node: &NodeRef) -> Option<&NodeRow> {
        self.nodes.iter().find(|row| row.at == *node && row.status.may_write())
    }
}
