//! From what a plan wants to what is asked now: nothing twice, and not too much at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, CHUNK, Membership};
use crate::cluster::plan::Plan;
use crate::domain::node::NodeRef;

impl Membership {
    pub(super) fn declare(&mut self, plan: &Plan, now: Duration) -> Vec<Action> {
        self.refused.retain(|_, until| now < *until);
        let gone = self.refused.keys().map(|node| (node, false));
        let late =
            plan.expired.iter().filter(|node| !self.refused.contains_key(*node)).map(|node| (node, true));
        let may_judge = self.standing.may_judge(now);
        let actions: Vec<Action> = gone
            .chain(late.filter(|_| may_judge))
            .filter(|(node, _)| !self.errands.is_spared(node))
            .map(|(node, only_expired)| Action::DeclareDead { node: node.clone(), only_expired })
            .collect();
        for action in &actions {
            if let Action::DeclareDead { node, .. } = action {
                self.errands.declaring.insert(node.clone());
            }
        }
        actions
    }

    pub(super) fn claim(&mut self, plan: &Plan) -> Option<Action> {
        if !self.errands.claiming.is_empty() {
            return None;
        }
        let shards: Vec<u16> =
            plan.claim.iter().copied().filter(|shard| !self.errands.is_busy(*shard)).collect();
        self.errands.claiming.extend(&shards);
        (!shards.is_empty()).then_some(Action::Claim(shards))
    }

    pub(super) fn hand(&mut self, plan: &Plan) -> Vec<Action> {
        let room = CHUNK.saturating_sub(self.errands.on_their_way());
        let busy: BTreeSet<NodeRef> = self.errands.handing.values().cloned().collect();
        let mut parcels: BTreeMap<NodeRef, Vec<u16>> = BTreeMap::new();
        let open = |(shard, to): &&(u16, NodeRef)| !self.errands.is_busy(*shard) && !busy.contains(to);
        let (again, first): (Vec<_>, Vec<_>) =
            plan.hand.iter().filter(open).partition(|(shard, _)| self.errands.limbo().contains_key(shard));
        for (shard, to) in again.into_iter().chain(first.into_iter().take(room)) {
            parcels.entry(to.clone()).or_default().push(*shard);
        }
        for (to, shards) in &parcels {
            self.errands.handing.extend(shards.iter().map(|shard| (*shard, to.clone())));
        }
        parcels.into_iter().map(|(to, shards)| Action::Hand { to, shards }).collect()
    }

    pub(super) fn release(&mut self, plan: &Plan) -> Option<Action> {
        if !self.errands.releasing.is_empty() {
            return None;
        }
        let shards: Vec<u16> =
            plan.release.iter().copied().filter(|shard| !self.errands.is_busy(*shard)).collect();
        self.errands.releasing.extend(&shards);
        (!shards.is_empty()).then_some(Action::Release(shards))
    }
}
