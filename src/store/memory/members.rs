//! Nodes and owners of shards in memory, for nodes of one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::MemoryStore;
use crate::domain::node::{ClusterView, NodeRef, NodeRow, NodeStatus};
use crate::domain::placement::SHARDS;
use crate::domain::time::{Clock, Millis, Timestamp};
use crate::store::error::StoreError;
use crate::store::journal::Journal;
use crate::store::members::{CHANGES_KEPT, Change, ClusterSecret, Heart, Members, NewNode, fenced};

/// Tells changes to whoever listens.
#[derive(Clone)]
pub(super) struct News(broadcast::Sender<Change>);

impl Default for News {
    fn default() -> Self {
        Self(broadcast::Sender::new(CHANGES_KEPT))
    }
}

impl News {
    /// Tells of a change; that nobody listens is no matter.
    pub(super) fn tell(&self, change: Change) {
        let _ = self.0.send(change);
    }
}

/// The clock of the store: it begins with the node's and then goes its own way, as a server's does.
struct OwnClock {
    begun: Timestamp,
    since: Instant,
}

impl OwnClock {
    fn now(&self) -> Timestamp {
        self.begun + Millis(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The last run of each node, and who owns what.
pub(super) struct Roster {
    nodes: BTreeMap<Box<str>, NodeRow>,
    owners: Vec<Option<NodeRef>>,
    secret: Option<ClusterSecret>,
    clock: OwnClock,
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            owners: vec![None; usize::from(SHARDS)],
            secret: None,
            clock: OwnClock { begun: Clock.now(), since: Instant::now() },
        }
    }
}

impl Roster {
    fn row(&self, node: &NodeRef) -> Option<&NodeRow> {
        self.nodes.get(&node.node).filter(|row| row.at == *node)
    }

    fn row_mut(&mut self, node: &NodeRef) -> Option<&mut NodeRow> {
        self.nodes.get_mut(&node.node).filter(|row| row.at == *node)
    }

    /// What the clock of the store shows.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether this run lives.
    pub(super) fn may_write(&self, node: &NodeRef) -> bool {
        self.row(node).is_some_and(|row| row.status.may_write())
    }

    fn may_own(&self, node: &NodeRef) -> bool {
        self.row(node).is_some_and(|row| row.status == NodeStatus::Alive)
    }

    fn owner(&self, shard: u16) -> Option<&NodeRef> {
        self.owners.get(usize::from(shard)).and_then(Option::as_ref)
    }

    /// Gives those of these shards whose owner is such a one to another owner.
    fn give(
        &mut self,
        shards: &[u16],
        to: Option<&NodeRef>,
        is_free: impl Fn(&Self, Option<&NodeRef>) -> bool,
    ) -> Vec<u16> {
        let mut given: Vec<_> = shards
            .iter()
            .copied()
            .filter(|shard| *shard < SHARDS && is_free(self, self.owner(*shard)))
            .collect();
        given.sort_unstable();
        given.dedup();
        for shard in &given {
            if let Some(owner) = self.owners.get_mut(usize::from(*shard)) {
                *owner = to.cloned();
            }
        }
        given
    }
}

#[async_trait]
impl Members for MemoryStore {
    async fn register(&self, node: &NewNode, lease: Millis) -> Result<NodeRef, StoreError> {
        let mut roster = self.roster();
        let now = roster.clock.now();
        let at = NodeRef { node: node.node.as_str().into(), incarnation: Uuid::now_v7() };
        let row = NodeRow {
            at: at.clone(),
            address: node.address.clone(),
            public_url: node.public_url.clone(),
            roles: node.roles.clone(),
            version: node.version.clone(),
            status: NodeStatus::Alive,
            started_at: now,
            lease_until: now + lease,
        };
        roster.nodes.insert(at.node.clone(), row);
        self.news.tell(Change::Nodes);
        Ok(at)
    }

    async fn renew(&self, node: &NodeRef, lease: Millis) -> Result<bool, StoreError> {
        let mut roster = self.roster();
        let until = roster.clock.now() + lease;
        let Some(row) = roster.row_mut(node).filter(|row| row.status.may_write()) else { return Ok(false) };
        row.lease_until = until;
        Ok(true)
    }

    async fn view(&self) -> Result<ClusterView, StoreError> {
        let roster = self.roster();
        Ok(ClusterView {
            now: roster.clock.now(),
            nodes: roster.nodes.values().cloned().collect(),
            owners: roster.owners.clone(),
        })
    }

    async fn set_draining(&self, node: &NodeRef) -> Result<bool, StoreError> {
        let mut roster = self.roster();
        let Some(row) = roster.row_mut(node).filter(|row| row.status.may_write()) else { return Ok(false) };
        row.status = NodeStatus::Draining;
        self.news.tell(Change::Nodes);
        Ok(true)
    }

    async fn leave(&self, node: &NodeRef) -> Result<(), StoreError> {
        let mut roster = self.roster();
        if let Some(row) = roster.row_mut(node).filter(|row| row.status.may_write()) {
            row.status = NodeStatus::Left;
            self.news.tell(Change::Nodes);
        }
        Ok(())
    }

    async fn declare_dead(&self, node: &NodeRef, only_expired: bool) -> Result<bool, StoreError> {
        let mut roster = self.roster();
        let now = roster.clock.now();
        let Some(row) = roster.row_mut(node) else { return Ok(false) };
        if row.status.may_write() {
            if only_expired && row.lease_until > now {
                return Ok(false);
            }
            row.status = NodeStatus::Dead;
            self.news.tell(Change::Nodes);
        }
        Ok(true)
    }

    async fn claim(&self, node: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError> {
        let mut roster = self.roster();
        if !roster.may_write(node) {
            return Err(fenced(node));
        }
        if !roster.may_own(node) {
            return Ok(Vec::new());
        }
        let is_free =
            |roster: &Roster, owner: Option<&NodeRef>| owner.is_none_or(|owner| !roster.may_write(owner));
        let taken = roster.give(shards, Some(node), is_free);
        self.news.tell(Change::Nodes);
        Ok(taken)
    }

    async fn transfer(&self, from: &NodeRef, to: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError> {
        let mut roster = self.roster();
        if !roster.may_write(from) {
            return Err(fenced(from));
        }
        if !roster.may_own(to) {
            return Ok(Vec::new());
        }
        let moved = roster.give(shards, Some(to), |_, owner| owner == Some(from));
        self.news.tell(Change::Nodes);
        Ok(moved)
    }

    async fn release(&self, node: &NodeRef, shards: &[u16]) -> Result<(), StoreError> {
        self.roster().give(shards, None, |_, owner| owner == Some(node));
        self.news.tell(Change::Nodes);
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        let changes = self.news.0.subscribe();
        self.news.tell(Change::Unknown);
        changes
    }

    fn heart(&self) -> Box<dyn Heart> {
        Box::new(MemoryHeart(self.clone()))
    }

    fn journal_of(&self, node: &NodeRef) -> Arc<dyn Journal> {
        Arc::new(self.fenced(node.clone()))
    }

    async fn cluster_secret(
        &self,
        make: &(dyn Fn() -> ClusterSecret + Sync),
    ) -> Result<ClusterSecret, StoreError> {
        Ok(self.roster().secret.get_or_insert_with(make).clone())
    }
}

/// Renews in memory, which never waits.
struct MemoryHeart(MemoryStore);

#[async_trait]
impl Heart for MemoryHeart {
    async fn renew(&mut self, node: &NodeRef, lease: Millis, _within: Duration) -> Result<bool, StoreError> {
        self.0.renew(node, lease).await
    }
}
