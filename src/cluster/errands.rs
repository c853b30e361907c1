//! What a node's membership has under way, and what it does not know the end of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::plan::is_alive;
use crate::domain::node::{ClusterView, NodeRef};

/// Requests without an answer yet, and those whose answer left a doubt.
#[derive(Debug, Clone, Default)]
pub(super) struct Errands {
    pub(super) claiming: BTreeSet<u16>,
    pub(super) handing: BTreeMap<u16, NodeRef>,
    pub(super) releasing: BTreeSet<u16>,
    pub(super) declaring: BTreeSet<NodeRef>,
    pub(super) is_leaving: bool,
    /// Shards to leave alone until a view is read that was asked for at this time or later.
    doubtful: BTreeMap<u16, Duration>,
    /// Nodes to leave alone likewise.
    spared: BTreeMap<NodeRef, Duration>,
    /// Own shards whose transfer may still be carried out, and to whom.
    limbo: BTreeMap<u16, NodeRef>,
    /// Own shards that were stopped to be released; this run never starts them again.
    released: BTreeSet<u16>,
    /// Not to leave before.
    leave_from: Duration,
}

impl Errands {
    pub(super) fn limbo(&self) -> &BTreeMap<u16, NodeRef> {
        &self.limbo
    }

    /// Whether something is under way with this shard, or its owner is in doubt.
    pub(super) fn is_busy(&self, shard: u16) -> bool {
        self.claiming.contains(&shard)
            || self.handing.contains_key(&shard)
            || self.releasing.contains(&shard)
            || self.doubtful.contains_key(&shard)
    }

    /// Whether an own shard must not run here, as it may be another's at any moment.
    pub(super) fn is_stopped(&self, shard: u16) -> bool {
        self.handing.contains_key(&shard)
            || self.limbo.contains_key(&shard)
            || self.releasing.contains(&shard)
            || self.released.contains(&shard)
    }

    /// Whether to keep from declaring this node dead now.
    pub(super) fn is_spared(&self, node: &NodeRef) -> bool {
        self.declaring.contains(node) || self.spared.contains_key(node)
    }

    /// Whether nothing stands in the way of leaving.
    pub(super) fn may_leave(&self, now: Duration) -> bool {
        !self.is_leaving
            && now >= self.leave_from
            && self.claiming.is_empty()
            && self.handing.is_empty()
            && self.releasing.is_empty()
            && self.doubtful.is_empty()
            && self.limbo.is_empty()
    }

    /// Leaves shards alone until a view that is asked for at `from` or later.
    pub(super) fn doubt(&mut self, shards: impl IntoIterator<Item = u16>, from: Duration) {
        self.doubtful.extend(shards.into_iter().map(|shard| (shard, from)));
    }

    /// Ends a request to declare a node dead; it is left alone until `from` unless it is dead.
    pub(super) fn declared(&mut self, node: &NodeRef, is_dead: bool, from: Duration) {
        self.declaring.remove(node);
        if !is_dead {
            self.spared.insert(node.clone(), from);
        }
    }

    /// Ends a transfer to a node; gives the shards that it was about.
    pub(super) fn handed(&mut self, to: &NodeRef) -> Vec<u16> {
        self.handing.extract_if(.., |_, target| target == to).map(|(shard, _)| shard).collect()
    }

    /// Notes that transfers to a node may still be carried out.
    pub(super) fn strand(&mut self, shards: &[u16], to: &NodeRef) {
        self.limbo.extend(shards.iter().map(|shard| (*shard, to.clone())));
    }

    /// Notes that a shard has arrived.
    pub(super) fn landed(&mut self, shard: u16) {
        self.limbo.remove(&shard);
    }

    /// How many shards have been sent off, and not arrived as far as is known.
    pub(super) fn on_their_way(&self) -> usize {
        self.limbo.len() + self.handing.keys().filter(|shard| !self.limbo.contains_key(shard)).count()
    }

    /// Ends the release of shards; gives them.
    pub(super) fn released(&mut self) -> BTreeSet<u16> {
        let shards = std::mem::take(&mut self.releasing);
        self.released.extend(&shards);
        shards
    }

    /// Ends a failed try to leave.
    pub(super) fn stay(&mut self, until: Duration) {
        self.is_leaving = false;
        self.leave_from = until;
    }

    /// Resolves the doubts that a view answers.
    pub(super) fn look(&mut self, view: &ClusterView, me: &NodeRef, asked_at: Duration) {
        self.doubtful.retain(|_, from| *from > asked_at);
        self.spared.retain(|_, from| *from > asked_at);
        let doubtful = &self.doubtful;
        self.limbo.retain(|shard, to| {
            let is_mine =
                view.owners.get(usize::from(*shard)).is_some_and(|owner| owner.as_ref() == Some(me));
            // Only a node that is alive can be given a shard, and it never becomes alive again.
            doubtful.contains_key(shard) || (is_mine && is_alive(to, view))
        });
    }

    /// The next time at which a view would resolve a doubt.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.doubtful.values().chain(self.spared.values()).min().copied()
    }
}
