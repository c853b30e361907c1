//! The last view of the cluster that a node has read, with what it learnt since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::node::{ClusterView, NodeRef, NodeStatus};

/// A view and when it was read.
#[derive(Debug, Clone)]
struct Reading {
    view: ClusterView,
    asked_at: Duration,
    read_at: Duration,
}

/// The last view, and own changes that it may not show yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    reading: Option<Reading>,
    /// Shards whose owner this node changed itself, and when it knew of it.
    changed: BTreeMap<u16, (Option<NodeRef>, Duration)>,
    /// Nodes that are dead for certain; death is final.
    fallen: BTreeSet<NodeRef>,
    draining: Option<NodeRef>,
}

impl Table {
    pub(super) fn view(&self) -> Option<&ClusterView> {
        self.reading.as_ref().map(|reading| &reading.view)
    }

    /// When the last view had been read, if there is one.
    pub(super) fn read_at(&self) -> Option<Duration> {
        self.reading.as_ref().map(|reading| reading.read_at)
    }

    /// Takes a view in; false when a newer one is known.
    pub(super) fn read(&mut self, mut view: ClusterView, asked_at: Duration, read_at: Duration) -> bool {
        if self.reading.as_ref().is_some_and(|last| last.asked_at > asked_at) {
            return false;
        }
        // A view that was asked for before a change was known may have been read before it.
        self.changed.retain(|_, (_, at)| *at > asked_at);
        for (shard, (owner, _)) in &self.changed {
            if let Some(slot) = view.owners.get_mut(usize::from(*shard)) {
                slot.clone_from(owner);
            }
        }
        self.fallen.retain(|node| view.living(node).is_some());
        for row in &mut view.nodes {
            if self.fallen.contains(&row.at) {
                row.status = NodeStatus::Dead;
            }
        }
        self.reading = Some(Reading { view, asked_at, read_at });
        self.lay_draining();
        true
    }

    /// Notes that this node gave a shard an owner.
    pub(super) fn change(&mut self, shard: u16, owner: Option<NodeRef>, now: Duration) {
        if let Some(slot) =
            self.reading.as_mut().and_then(|reading| reading.view.owners.get_mut(usize::from(shard)))
        {
            slot.clone_from(&owner);
        }
        self.changed.insert(shard, (owner, now));
    }

    /// Notes that a node is dead.
    pub(super) fn bury(&mut self, node: NodeRef) {
        for row in self.reading.iter_mut().flat_map(|reading| &mut reading.view.nodes) {
            if row.at == node {
                row.status = NodeStatus::Dead;
            }
        }
        self.fallen.insert(node);
    }

    /// Notes that this node drains, whether or not its row says so yet.
    pub(super) fn drain(&mut self, me: &NodeRef) {
        self.draining = Some(me.clone());
        self.lay_draining();
    }

    fn lay_draining(&mut self) {
        for row in self.reading.iter_mut().flat_map(|reading| &mut reading.view.nodes) {
            if row.status == NodeStatus::Alive && self.draining.as_ref() == Some(&row.at) {
                row.status = NodeStatus::Draining;
            }
        }
    }

    /// Other living nodes, and by when at the latest their lease has ended unless they renew it.
    ///
    /// The store's clock is not ours, but it had not passed the view's moment before the view was here.
    pub(super) fn lease_ends<'a>(
        &'a self,
        me: &'a NodeRef,
    ) -> impl Iterator<Item = (&'a NodeRef, Duration)> + 'a {
        self.reading.iter().flat_map(move |reading| {
            let others = reading.view.nodes.iter().filter(move |row| row.at != *me && row.status.may_write());
            others.map(move |row| {
                (&row.at, reading.read_at + row.lease_until.since(reading.view.now).duration())
            })
        })
    }
}
