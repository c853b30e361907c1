//! How the model moves. What a node does about a view is decided by the real [`plan`]; the table and
//! the journal do what the store promises.
//!
//! A request and its answer are one step: an answer that comes late changes nothing but what its node
//! knows, and nodes here only ever learn by looking. What matters is *when* a request arrives, and that is
//! any time, also after its sender has given it up, has died, or has been declared dead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, RwLock};

use eml::cluster::plan::{Plan, plan};
use eml::domain::placement::owner_of;
use stateright::{Model, Property};

use crate::state::{
    Budget, Errand, Member, NODES, Orphan, Row, Run, SHARDS, Seen, Shards, State, Status, Write, has, set,
};

/// A rule that is broken on purpose, to see that the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeded {
    /// The journal does not look at the row of the node that writes.
    SkipFence,
    /// The journal takes two facts with one number.
    AllowRepeats,
    /// Shards are claimed although their owner lives.
    ClaimFromLiving,
    /// A node believes in its lease although it has run out.
    KeepLease,
    /// A node that has renewed in the meantime is declared dead as expired.
    DeclareUnchecked,
    /// Shards are handed over while they run.
    HandRunning,
    /// A node takes its shards back when it does not know how their transfer ended.
    TakeBack,
    /// Shards are handed to a node that drains already.
    HandToDraining,
    /// Nobody looks at leases.
    NeverJudge,
}

/// What can happen next; numbers are nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Reads a view, starts and stops shards by it, and perhaps sends a request.
    Look(usize, Option<Errand>),
    /// Sends a fact of a shard.
    Send(usize, usize),
    /// The store does what was asked.
    Errand(usize),
    Fact(usize),
    /// The sender waits no longer.
    GiveUpErrand(usize),
    GiveUpFact(usize),
    /// A request that was given up arrives.
    Late(Orphan),
    Renew(usize),
    Expire(usize),
    /// A node declares another dead by its lease. It is checked when it arrives, so that a late one is the
    /// same as one that was sent late.
    Declare {
        by: usize,
        of: usize,
    },
    /// The machine of a living process refuses a connection, so the node is declared dead. (A process that
    /// is gone may be declared dead as well by its lease, with the same end.)
    Lie(usize),
    Crash(usize),
    Start(usize),
    Pause(usize),
    Drain(usize),
}

/// A cluster with its faults.
pub(crate) struct Cluster {
    pub(crate) budget: Budget,
    /// Facts that the entity of each shard may have.
    pub(crate) facts: [u8; SHARDS],
    pub(crate) seeded: Option<Seeded>,
    /// The one property to check, if not all.
    pub(crate) only: Option<&'static str>,
    pub(crate) plans: RwLock<HashMap<PlanKey, Vec<Errand>>>,
    /// Hashes of states that are known to settle.
    pub(crate) settling: Mutex<HashSet<u64>>,
}

type PlanKey = (Seen, usize, [Option<Run>; SHARDS]);

impl Cluster {
    pub(crate) fn new(budget: Budget, facts: [u8; SHARDS]) -> Self {
        let (plans, settling) = (RwLock::default(), Mutex::default());
        Self { budget, facts, seeded: None, only: None, plans, settling }
    }

    /// With a broken rule, to look for the one property that it breaks.
    pub(crate) fn broken(budget: Budget, seeded: Seeded, property: &'static str) -> Self {
        Self { seeded: Some(seeded), only: Some(property), ..Self::new(budget, [1, 1]) }
    }

    pub(crate) fn is(&self, seeded: Seeded) -> bool {
        self.seeded == Some(seeded)
    }

    /// What the real planning asks of a node that reads the table now.
    fn errands(&self, state: &State, node: usize, limbo: [Option<Run>; SHARDS]) -> Vec<Errand> {
        let key = (Seen { rows: state.rows, owners: state.owners }, node, limbo);
        if let Some(known) = self.plans.read().unwrap().get(&key) {
            return known.clone();
        }
        let (view, me) = (key.0.view(), state.run(node).at());
        let open: BTreeMap<u16, _> =
            (0_u16..).zip(limbo).filter_map(|(shard, to)| Some((shard, to?.at()))).collect();
        let mut found = plan(&me, &view, &open).map_or_else(Vec::new, |plan| self.to_errands(&plan));
        if self.is(Seeded::ClaimFromLiving) {
            let wanted = (0..2).filter(|shard| owner_of(*shard, &view.nodes) == Some(&me));
            let others = wanted.filter(|shard| view.owners[usize::from(*shard)].as_ref() != Some(&me));
            let shards = set(&others.collect::<Vec<u16>>());
            found.extend(Some(Errand::Claim(shards)).filter(|_| shards != 0));
        }
        self.plans.write().unwrap().insert(key, found.clone());
        found
    }

    fn to_errands(&self, plan: &Plan) -> Vec<Errand> {
        let mut found = Vec::new();
        if !self.is(Seeded::NeverJudge) {
            let dead = plan.expired.iter().map(Run::from);
            found.extend(dead.map(Errand::Declare));
        }
        let mut parcels: BTreeMap<Run, Shards> = BTreeMap::new();
        for (shard, to) in &plan.hand {
            *parcels.entry(Run::from(to)).or_default() |= set([shard]);
        }
        found.extend(parcels.into_iter().map(|(to, shards)| Errand::Hand { to, shards }));
        found.extend(Some(Errand::Claim(set(&plan.claim))).filter(|_| !plan.claim.is_empty()));
        found.extend(Some(Errand::Release(set(&plan.release))).filter(|_| !plan.release.is_empty()));
        found.extend(Some(Errand::Leave).filter(|_| plan.may_leave));
        found
    }

    /// What a process knows after a look: shards start and stop here, and transfers end.
    fn noticed(&self, state: &State, node: usize) -> Member {
        let (me, mut member) = (state.run(node), state.members[node]);
        for shard in 0..SHARDS {
            let is_mine = state.owners[shard] == Some(me);
            let is_under_way = match member.errand {
                Some(Errand::Hand { shards, .. } | Errand::Release(shards)) => has(shards, shard),
                Some(Errand::Declare(_) | Errand::Claim(_) | Errand::Leave) | None => false,
            };
            let is_open = is_mine && member.limbo[shard].is_some_and(|to| state.is_alive(to));
            if !is_under_way && !is_open {
                member.limbo[shard] = None;
            }
            let is_stopped = is_under_way || member.limbo[shard].is_some() || has(member.released, shard);
            if !is_mine || (is_stopped && !self.is(Seeded::HandRunning)) {
                member.runs[shard] = None;
            } else if member.runs[shard].is_none() {
                member.runs[shard] = Some(state.lengths[shard]);
            }
        }
        member
    }

    fn look(&self, state: &mut State, node: usize, errand: Option<Errand>) {
        if !state.is_living(state.run(node)) {
            return stop(state, node);
        }
        let mut member = self.noticed(state, node);
        member.errand = member.errand.or(errand);
        let (stopped, to) = match errand {
            Some(Errand::Hand { to, shards }) => (shards, Some(to)),
            Some(Errand::Release(shards)) => {
                member.released |= shards;
                (shards, None)
            }
            Some(Errand::Declare(_) | Errand::Claim(_) | Errand::Leave) | None => (0, None),
        };
        for shard in (0..SHARDS).filter(|shard| has(stopped, *shard)) {
            member.limbo[shard] = to;
            if !self.is(Seeded::HandRunning) {
                member.runs[shard] = None;
            }
        }
        state.members[node] = member;
    }

    fn apply(&self, state: &mut State, step: Step) {
        match step {
            Step::Look(node, errand) => self.look(state, node, errand),
            Step::Send(node, shard) => {
                let seq = state.members[node].runs[shard].unwrap();
                state.members[node].write = Some(Write { shard: shard.try_into().unwrap(), seq });
            }
            Step::Errand(node) => {
                let errand = state.members[node].errand.take().unwrap();
                self.carry_out(state, state.run(node), errand);
                if errand == Errand::Leave {
                    stop(state, node);
                }
            }
            Step::Fact(node) => {
                let write = state.members[node].write.take().unwrap();
                let is_taken = self.append(state, state.run(node), write);
                // Also when the number was taken: it loads the entity again.
                reload(state, node, write);
                if !is_taken && state.members[node].is_held {
                    stop(state, node);
                }
            }
            Step::GiveUpErrand(node) => {
                let errand = state.members[node].errand.take().unwrap();
                state.orphans.push(Orphan::Errand(state.run(node), errand));
                state.left.losses -= 1;
                if self.is(Seeded::TakeBack) {
                    state.members[node].limbo = [None; SHARDS];
                }
            }
            Step::GiveUpFact(node) => {
                let write = state.members[node].write.take().unwrap();
                state.orphans.push(Orphan::Write(state.run(node), write));
                state.left.losses -= 1;
                reload(state, node, write);
            }
            Step::Late(orphan) => {
                state.orphans.retain(|other| *other != orphan);
                match orphan {
                    Orphan::Errand(run, errand) => self.carry_out(state, run, errand),
                    Orphan::Write(run, write) => {
                        self.append(state, run, write);
                    }
                }
            }
            Step::Renew(_)
            | Step::Expire(_)
            | Step::Declare { .. }
            | Step::Lie(_)
            | Step::Crash(_)
            | Step::Start(_)
            | Step::Pause(_)
            | Step::Drain(_) => self.befall(state, &step),
        }
    }

    /// What happens to processes and leases.
    fn befall(&self, state: &mut State, step: &Step) {
        match *step {
            Step::Renew(node) if state.is_living(state.run(node)) => {
                state.rows[node].is_expired = false;
                state.members[node].is_held = true;
            }
            Step::Renew(node) => stop(state, node),
            Step::Expire(node) => state.rows[node].is_expired = true,
            Step::Declare { of, .. } => self.declare(state, state.run(of)),
            Step::Lie(of) => {
                state.left.lies -= 1;
                state.rows[of].status = Status::Dead;
            }
            Step::Crash(node) => {
                state.left.crashes -= 1;
                stop(state, node);
            }
            Step::Start(node) => {
                let number = state.rows[node].number + 1;
                state.rows[node] = Row { number, status: Status::Alive, is_expired: false };
                state.members[node] = Member::FRESH;
            }
            Step::Pause(node) => {
                state.left.pauses -= 1;
                state.members[node].is_held = self.is(Seeded::KeepLease);
            }
            Step::Drain(node) => {
                state.left.drains -= 1;
                state.rows[node].status = Status::Draining;
            }
            Step::Look(..)
            | Step::Send(..)
            | Step::Errand(_)
            | Step::Fact(_)
            | Step::GiveUpErrand(_)
            | Step::GiveUpFact(_)
            | Step::Late(_) => unreachable!(),
        }
    }

    /// The state after a step, in its one form.
    pub(crate) fn after(&self, state: &State, step: Step) -> State {
        let mut next = state.clone();
        self.apply(&mut next, step);
        if self.seeded.is_none() {
            let orphans = std::mem::take(&mut next.orphans);
            next.orphans = orphans.into_iter().filter(|orphan| !Self::is_spent(&next, *orphan)).collect();
        }
        for row in &mut next.rows {
            row.is_expired &= row.status.word().may_write();
        }
        next.orphans.sort_unstable();
        next.orphans.dedup();
        next
    }

    /// What a node that holds its lease may do.
    pub(crate) fn moves(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
        let member = &state.members[node];
        let noticed = self.noticed(state, node);
        if noticed != *member || !state.is_living(state.run(node)) {
            steps.push(Step::Look(node, None));
        }
        if member.write.is_none() {
            let open = |shard: &usize| member.runs[*shard].is_some_and(|length| length < self.facts[*shard]);
            steps.extend((0..SHARDS).filter(open).map(|shard| Step::Send(node, shard)));
        }
        if !state.is_living(state.run(node)) {
            return;
        }
        // An entity that waits for its fact is passivated only when it knows how that ended.
        let writing = member.write.map_or(0, |write| 1 << write.shard);
        for errand in self.errands(state, node, noticed.limbo) {
            let may = match errand {
                Errand::Declare(of) if !self.is(Seeded::DeclareUnchecked) => {
                    steps.push(Step::Declare { by: node, of: of.index() });
                    false
                }
                Errand::Hand { shards, .. } | Errand::Release(shards) => shards & writing == 0,
                Errand::Leave => noticed.limbo == [None; SHARDS] && writing == 0,
                Errand::Declare(_) | Errand::Claim(_) => true,
            };
            steps.extend(Some(Step::Look(node, Some(errand))).filter(|_| may && member.errand.is_none()));
        }
    }

    /// What may happen to a node from outside.
    fn events(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
        let (member, row) = (&state.members[node], state.rows[node]);
        let is_living = state.is_living(state.run(node));
        let is_held = member.is_up && member.is_held;
        let may_expire = !is_held || self.is(Seeded::KeepLease);
        let possible = [
            (member.errand.is_some(), Step::Errand(node)),
            (member.write.is_some(), Step::Fact(node)),
            (is_held && member.errand.is_some() && state.left.losses > 0, Step::GiveUpErrand(node)),
            (is_held && member.write.is_some() && state.left.losses > 0, Step::GiveUpFact(node)),
            (member.is_up && (!is_held || row.is_expired || !is_living), Step::Renew(node)),
            (is_living && !row.is_expired && may_expire, Step::Expire(node)),
            (member.is_up && state.left.crashes > 0, Step::Crash(node)),
            (!member.is_up, Step::Start(node)),
            (is_held && state.left.pauses > 0, Step::Pause(node)),
            (is_held && row.status == Status::Alive && state.left.drains > 0, Step::Drain(node)),
            (member.is_up && is_living && state.left.lies > 0, Step::Lie(node)),
        ];
        steps.extend(possible.into_iter().filter(|(may, _)| *may).map(|(_, step)| step));
    }
}

/// Ends a process; what it has sent may still arrive.
fn stop(state: &mut State, node: usize) {
    let (run, member) = (state.run(node), state.members[node]);
    state.orphans.extend(member.errand.map(|errand| Orphan::Errand(run, errand)));
    state.orphans.extend(member.write.map(|write| Orphan::Write(run, write)));
    state.members[node] = Member::DOWN;
}

/// The process reads how long the stream is, if the shard runs there still.
fn reload(state: &mut State, node: usize, write: Write) {
    let shard = usize::from(write.shard);
    let length = state.lengths[shard];
    state.members[node].runs[shard] = state.members[node].runs[shard].map(|_| length);
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::settled(self.budget)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for node in 0..NODES {
            self.events(state, node, steps);
            if state.members[node].is_up && state.members[node].is_held {
                self.moves(state, node, steps);
            }
        }
        steps.extend(state.orphans.iter().copied().map(Step::Late));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = self.after(state, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all(self)
    }
}
