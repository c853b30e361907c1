//! What a view of the cluster asks of a node: a pure function, without time and without memory of
//! what is under way already. Every node computes it alike, so nobody has to lead.

use std::collections::BTreeMap;

use crate::domain::node::{ClusterView, NodeRef, NodeRow, NodeStatus};
use crate::domain::placement::owner_of;

/// What remains to be done so that the table is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Other nodes whose lease has ended.
    pub expired: Vec<NodeRef>,
    /// Shards that belong here and that nobody living owns.
    pub claim: Vec<u16>,
    /// Own shards that belong on another node, with that node.
    pub hand: Vec<(u16, NodeRef)>,
    /// Own shards of a node that drains, which belong nowhere.
    pub release: Vec<u16>,
    /// The node drains and owns nothing any more.
    pub may_leave: bool,
}

/// Compares a view with how the shards should lie; nothing when `me` may not write any more.
///
/// `limbo` are own shards whose transfer was tried with an unknown end, with the node that they were to
/// go to. Such a transfer may still be carried out, so as long as that node could receive the shard,
/// the only safe thing to do is to try the same transfer again.
#[must_use]
pub fn plan(me: &NodeRef, view: &ClusterView, limbo: &BTreeMap<u16, NodeRef>) -> Option<Plan> {
    let is_draining = view.living(me)?.status == NodeStatus::Draining;
    let mut plan = Plan {
        expired: view
            .nodes
            .iter()
            .filter(|row| row.at != *me && is_expired(row, view))
            .map(|row| row.at.clone())
            .collect(),
        may_leave: is_draining,
        ..Plan::default()
    };
    for (shard, owner) in (0_u16..).zip(&view.owners) {
        if owner.as_ref() == Some(me) {
            plan.may_leave = false;
            plan.settle(shard, me, view, limbo.get(&shard));
        } else if owner.as_ref().is_none_or(|owner| view.living(owner).is_none())
            && owner_of(shard, &view.nodes) == Some(me)
        {
            plan.claim.push(shard);
        }
    }
    Some(plan)
}

impl Plan {
    /// What to do with an own shard.
    fn settle(&mut self, shard: u16, me: &NodeRef, view: &ClusterView, limbo: Option<&NodeRef>) {
        if let Some(to) = limbo.filter(|to| is_alive(to, view)) {
            self.hand.push((shard, to.clone()));
            return;
        }
        match owner_of(shard, &view.nodes) {
            Some(to) if to == me => {}
            // A node that does not renew is likely gone: what is handed to it would stand still.
            Some(to) if view.living(to).is_some_and(|row| is_expired(row, view)) => {}
            Some(to) => self.hand.push((shard, to.clone())),
            None if view.living(me).is_some_and(|row| row.status == NodeStatus::Draining) => {
                self.release.push(shard);
            }
            None => {}
        }
    }
}

/// Whether a node could be given shards.
pub(super) fn is_alive(node: &NodeRef, view: &ClusterView) -> bool {
    view.living(node).is_some_and(|row| row.status == NodeStatus::Alive)
}

/// Whether the lease of a living node has ended, both by the store's clock.
fn is_expired(row: &NodeRow, view: &ClusterView) -> bool {
    row.status.may_write() && row.lease_until < view.now
}
