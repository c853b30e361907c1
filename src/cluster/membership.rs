//! The membership of one node: what it sees of the cluster, and what it asks to be done about it.
//!
//! Pure: the shell tells it what happened and when, carries out the [`Action`]s, and tells it the
//! [`Outcome`] of each. Time is a span since any fixed moment, by a clock that never runs backwards.
//!
//! The shell reads the view at [`Membership::next_look`] and whenever the store announces a change, and
//! keeps exactly the shards of [`Membership::runs`] going. Before it calls [`Membership::drain`] it marks
//! the node's row as draining, so that nobody hands it anything more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use super::action::{Action, Outcome};
use super::errands::Errands;
use super::lease::EndReason;
use super::plan::plan;
use super::standing::Standing;
pub use super::standing::{Beat, BeatOutcome, MembershipSettings};
use super::table::Table;
use crate::domain::node::{ClusterView, NodeRef, NodeStatus};

mod orders;
#[cfg(test)]
mod tests;

/// Shards that may be on their way to other nodes at a time, so that few calls pause at once.
pub const CHUNK: usize = 16;

/// How long after the end of a lease it is looked at: it has passed then by the store's clock too, which
/// is read in whole milliseconds.
const GRACE: Duration = Duration::from_millis(2);

/// One node's part in the cluster.
#[derive(Debug, Clone)]
pub struct Membership {
    me: NodeRef,
    settings: MembershipSettings,
    standing: Standing,
    table: Table,
    errands: Errands,
    /// Nodes whose process is gone, as their machine refuses connections; and until when that counts.
    refused: BTreeMap<NodeRef, Duration>,
    is_draining: bool,
    /// When the last try to read the view ended.
    looked_at: Option<Duration>,
    ended: Option<EndReason>,
}

impl Membership {
    /// The membership of a run that is registered. It does nothing before its first good beat (the
    /// registration counts as one) and its first view.
    #[must_use]
    pub fn new(me: NodeRef, settings: MembershipSettings) -> Self {
        Self {
            me,
            settings,
            standing: Standing::new(settings),
            table: Table::default(),
            errands: Errands::default(),
            refused: BTreeMap::new(),
            is_draining: false,
            looked_at: None,
            ended: None,
        }
    }

    /// Takes a view in that was asked for at `asked_at` and is here now.
    pub fn view(&mut self, view: ClusterView, asked_at: Duration, now: Duration) -> Vec<Action> {
        self.looked_at = Some(now);
        if self.table.read(view, asked_at, now)
            && let Some(view) = self.table.view()
        {
            self.errands.look(view, &self.me, asked_at);
            self.refused.retain(|node, _| view.living(node).is_some());
            if view.living(&self.me).is_some_and(|row| row.status == NodeStatus::Draining) {
                self.is_draining = true;
            }
        }
        self.act(now)
    }

    /// Notes that the view could not be read.
    pub fn view_failed(&mut self, now: Duration) {
        self.looked_at = Some(now);
    }

    /// Takes in how a renewal of the own lease went.
    pub fn beat(&mut self, beat: Beat, now: Duration) -> Vec<Action> {
        self.standing.note(beat);
        match beat.outcome {
            BeatOutcome::Refused => self.end(EndReason::Fenced),
            BeatOutcome::Renewed | BeatOutcome::Failed => self.act(now),
        }
    }

    /// Notes that a connection to a peer broke and its machine refused a new one: its process is gone.
    pub fn refused(&mut self, peer: NodeRef, now: Duration) -> Vec<Action> {
        if self.table.view().is_some_and(|view| view.living(&peer).is_some()) {
            // When it cannot be declared for so long, its lease will have ended.
            self.refused.insert(peer, now + self.settings.lease);
        }
        self.act(now)
    }

    /// Begins to hand everything over and to leave then.
    pub fn drain(&mut self, now: Duration) -> Vec<Action> {
        self.is_draining = true;
        self.table.drain(&self.me);
        self.act(now)
    }

    /// Looks at what time alone has changed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.act(now)
    }

    /// Takes in what became of an action.
    pub fn done(&mut self, outcome: Outcome, now: Duration) -> Vec<Action> {
        match outcome {
            Outcome::Declared { node, is_dead } => self.declared(node, is_dead, now),
            Outcome::Claimed(got) => self.claimed(got, now),
            Outcome::Handed { to, moved } => self.handed(&to, moved, now),
            Outcome::Released { is_done } => self.released(is_done, now),
            Outcome::Left { is_done: true } => return self.end(EndReason::Left),
            Outcome::Left { is_done: false } => self.errands.stay(now + self.settings.retry),
        }
        self.act(now)
    }

    /// The shards that shall run here: own ones that are not on their way to somebody else.
    #[must_use]
    pub fn runs(&self) -> BTreeSet<u16> {
        let Some(view) = self.table.view().filter(|_| self.ended.is_none()) else {
            return BTreeSet::new();
        };
        (0_u16..)
            .zip(&view.owners)
            .filter(|(shard, owner)| owner.as_ref() == Some(&self.me) && !self.errands.is_stopped(*shard))
            .map(|(shard, _)| shard)
            .collect()
    }

    /// Whether it hands everything over, or has.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// When to read the view again, even if nothing is announced; never, once this run is over.
    ///
    /// It lies just behind the next end of a lease, and at least a retry pause behind the last look.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        if self.ended.is_some() {
            return None;
        }
        let soonest = self.looked_at.map_or(Duration::ZERO, |at| at + self.settings.retry);
        let Some(read_at) = self.table.read_at() else {
            return Some(soonest);
        };
        let ends = self.table.lease_ends(&self.me).map(|(node, end)| self.look_at(node, end, read_at));
        // Announcements may be lost, so there is a look at least once in a lease.
        let latest = read_at + self.settings.lease;
        let next = ends.chain(self.errands.next_look()).fold(latest, Duration::min);
        Some(next.max(soonest))
    }

    /// When to look at another node whose lease ends at `end` unless it renews.
    fn look_at(&self, node: &NodeRef, end: Duration, read_at: Duration) -> Duration {
        let end = end + GRACE;
        if end > read_at + GRACE && !self.errands.is_spared(node) {
            return end;
        }
        // It had ended already and nothing could be done, or something is being done.
        let usual = read_at + self.settings.beat;
        self.standing.judges_from().filter(|from| *from > read_at).map_or(usual, |from| from.min(usual))
    }

    fn declared(&mut self, node: NodeRef, is_dead: Option<bool>, now: Duration) {
        // False: it has renewed, or others were faster. Only a new view can tell.
        let from = if is_dead.is_some() { now } else { now + self.settings.retry };
        self.errands.declared(&node, is_dead == Some(true), from);
        if is_dead.is_some() {
            self.refused.remove(&node);
        }
        if is_dead == Some(true) {
            self.table.bury(node);
        }
    }

    fn claimed(&mut self, got: Option<Vec<u16>>, now: Duration) {
        let mut asked = std::mem::take(&mut self.errands.claiming);
        for shard in got.unwrap_or_default() {
            if asked.remove(&shard) {
                self.table.change(shard, Some(self.me.clone()), now);
            }
        }
        self.errands.doubt(asked, now + self.settings.retry);
    }

    fn handed(&mut self, to: &NodeRef, moved: Option<Vec<u16>>, now: Duration) {
        let mut shards = self.errands.handed(to);
        if let Some(moved) = moved {
            for shard in shards.extract_if(.., |shard| moved.contains(shard)) {
                self.errands.landed(shard);
                self.table.change(shard, Some(to.clone()), now);
            }
        }
        // The end is unknown, or the store refused: perhaps as an earlier try of unknown end has moved it.
        self.errands.strand(&shards, to);
        self.errands.doubt(shards, now + self.settings.retry);
    }

    fn released(&mut self, is_done: bool, now: Duration) {
        let shards = self.errands.released();
        if is_done {
            for shard in shards {
                self.table.change(shard, None, now);
            }
        } else {
            self.errands.doubt(shards, now + self.settings.retry);
        }
    }

    fn end(&mut self, reason: EndReason) -> Vec<Action> {
        if self.ended.is_some() {
            return Vec::new();
        }
        self.ended = Some(reason);
        vec![Action::End(reason)]
    }

    /// What there is to do now that is not under way yet.
    fn act(&mut self, now: Duration) -> Vec<Action> {
        let Some(view) = self.table.view().filter(|_| self.ended.is_none()) else {
            return Vec::new();
        };
        let Some(plan) = plan(&self.me, view, self.errands.limbo()) else {
            return self.end(EndReason::Fenced);
        };
        if !self.standing.is_held(now) || self.errands.is_leaving {
            return Vec::new();
        }
        let mut actions = self.declare(&plan, now);
        actions.extend(self.claim(&plan));
        actions.extend(self.hand(&plan));
        actions.extend(self.release(&plan));
        if plan.may_leave && self.errands.may_leave(now) {
            self.errands.is_leaving = true;
            actions.push(Action::Leave);
        }
        actions
    }
}
