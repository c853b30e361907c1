//! The index of one queue: who waits, who is ready, and who belongs together.
//!
//! Calls that ask for the same proficiency form a class, agents with the same proficiency a
//! profile; which profile fits which class is worked out once, when either is new. So the cost of
//! a match depends on how many classes and profiles there are, never on how many calls wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::strategy::Strategy;
use crate::domain::agent::Readiness;
use crate::domain::call::{OfferReason, QueueEntry};
use crate::domain::id::{AgentId, CallId, OfferId, SkillId};
use crate::domain::time::{Millis, Timestamp};

/// Proficiency per skill: what an agent has, or what a call asks for.
pub type Skills = BTreeMap<SkillId, u8>;

/// The part of a queue's configuration that matching needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueSettings {
    /// How agents are chosen.
    pub strategy: Strategy,
    /// After each of these spans of waiting, one level less is asked.
    pub relax_after: Vec<Millis>,
    /// How many calls may wait; 0 = no limit.
    pub max_waiting: usize,
}

/// A call and an agent that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The offer to be made.
    pub offer_id: OfferId,
    /// The call.
    pub entry: QueueEntry,
    /// The agent.
    pub agent_id: AgentId,
    /// Why this agent.
    pub reason: OfferReason,
}

/// What becomes of a call that wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits.
    Waiting,
    /// There is no room.
    Full,
}

/// The place of a waiting call: priority, then age, then id.
type CallPlace = (std::cmp::Reverse<i32>, Timestamp, CallId);
/// The place of a ready agent: what the strategy looks at, then idle time, then id.
type AgentPlace = (i64, Timestamp, AgentId);

#[derive(Debug)]
struct Class {
    requirement: Skills,
    calls: BTreeSet<CallPlace>,
    /// Profiles that satisfy the requirement.
    fits: Vec<usize>,
}

#[derive(Debug)]
struct Profile {
    skills: Skills,
    agents: BTreeSet<AgentPlace>,
}

#[derive(Debug)]
struct Waiting {
    entry: QueueEntry,
    class: usize,
    stage: usize,
}

#[derive(Debug)]
struct Ready {
    profile: usize,
    place: AgentPlace,
    readiness: Readiness,
}

/// A proposal under way, and the agent as it was known until it says something else.
#[derive(Debug)]
struct Proposed {
    entry: QueueEntry,
    agent_id: AgentId,
    known: Option<(usize, Readiness)>,
    made_at: Timestamp,
}

/// How long a proposal may take until call and agent have told what became of it. Longer than any
/// question to an actor takes, so it only ends what was lost with a failed actor.
const PROPOSAL_LIMIT: Millis = Millis::from_secs(10);
/// How long a call whose proposal came to nothing is not proposed to the same agent again.
const REFUSED_FOR: Millis = Millis::from_secs(2);

/// The index of one queue.
#[derive(Debug, Default)]
pub struct QueueIndex {
    settings: QueueSettings,
    classes: Vec<Class>,
    profiles: Vec<Profile>,
    waiting: HashMap<CallId, Waiting>,
    ready: HashMap<AgentId, Ready>,
    by_age: BTreeSet<(Timestamp, CallId)>,
    relaxing: BTreeSet<(Timestamp, CallId)>,
    proposed: HashMap<OfferId, Proposed>,
}

impl QueueIndex {
    /// An empty index.
    #[must_use]
    pub fn new(settings: QueueSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes over changed settings; agents are put in order anew.
    pub fn configure(&mut self, settings: QueueSettings) {
        let changed = self.settings.strategy != settings.strategy;
        self.settings = settings;
        if changed {
            let agents: Vec<_> = self
                .ready
                .iter()
                .map(|(id, ready)| (*id, self.profiles[ready.profile].skills.clone(), ready.readiness))
                .collect();
            for (agent_id, skills, readiness) in agents {
                self.agent_ready(agent_id, &skills, readiness);
            }
        }
    }

    /// A call wants to wait. One that waits already is put where it belongs now; one that was here
    /// before, and comes back because an offer failed, is never turned away.
    pub fn enter(&mut self, entry: QueueEntry, now: Timestamp) -> Admission {
        let returns = self.leave(entry.call_id) || !entry.passed_by.is_empty();
        let limit = self.settings.max_waiting;
        if limit > 0 && !returns && self.waiting.len() >= limit {
            return Admission::Full;
        }
        self.insert(entry, now);
        Admission::Waiting
    }

    /// A call takes the place again that it had in the queue before it was started anew.
    pub fn enter_again(&mut self, entry: QueueEntry, now: Timestamp) {
        self.leave(entry.call_id);
        self.insert(entry, now);
    }

    fn insert(&mut self, entry: QueueEntry, now: Timestamp) {
        let stage = self.stage_at(now.since(entry.since));
        let class = self.class_of(relaxed(&entry.skills, stage));
        self.classes[class].calls.insert(place_of(&entry));
        self.by_age.insert((entry.since, entry.call_id));
        if let Some(at) = self.next_relaxation(&entry, stage) {
            self.relaxing.insert((at, entry.call_id));
        }
        self.waiting.insert(entry.call_id, Waiting { entry, class, stage });
    }

    /// A call waits no longer, or is being offered. Answers whether it was here.
    pub fn leave(&mut self, call_id: CallId) -> bool {
        let of_call = |proposed: &Proposed| proposed.entry.call_id == call_id;
        let under_way: Vec<_> = self
            .proposed
            .iter()
            .filter(|(_, proposed)| of_call(proposed))
            .map(|(offer_id, _)| *offer_id)
            .collect();
        for offer_id in &under_way {
            // Its agent is as ready as before; if it did reserve itself, its session says so.
            if let Some(Proposed { agent_id, known: Some((profile, readiness)), .. }) =
                self.proposed.remove(offer_id)
            {
                self.add_agent(agent_id, profile, readiness);
            }
        }
        self.take_out(call_id).is_some() || !under_way.is_empty()
    }

    fn take_out(&mut self, call_id: CallId) -> Option<QueueEntry> {
        let Waiting { entry, class, stage } = self.waiting.remove(&call_id)?;
        self.classes[class].calls.remove(&place_of(&entry));
        self.by_age.remove(&(entry.since, call_id));
        if let Some(at) = self.next_relaxation(&entry, stage) {
            self.relaxing.remove(&(at, call_id));
        }
        Some(entry)
    }

    /// An agent could take a call.
    pub fn agent_ready(&mut self, agent_id: AgentId, skills: &Skills, readiness: Readiness) {
        let profile = self.profile_of(skills);
        self.add_agent(agent_id, profile, readiness);
    }

    fn add_agent(&mut self, agent_id: AgentId, profile: usize, readiness: Readiness) {
        self.agent_gone(agent_id);
        let rank = match self.settings.strategy {
            Strategy::LongestIdle | Strategy::BestSkill => 0,
            Strategy::RoundRobin => readiness.last_offer_at.map_or(i64::MIN, Timestamp::millis),
            Strategy::FewestCalls => readiness.calls_taken.try_into().unwrap_or(i64::MAX),
        };
        let place = (rank, readiness.idle_since, agent_id);
        self.profiles[profile].agents.insert(place);
        self.ready.insert(agent_id, Ready { profile, place, readiness });
    }

    /// An agent can take no call.
    pub fn agent_gone(&mut self, agent_id: AgentId) {
        self.take_agent(agent_id);
        for proposed in self.proposed.values_mut().filter(|proposed| proposed.agent_id == agent_id) {
            proposed.known = None;
        }
    }

    fn take_agent(&mut self, agent_id: AgentId) -> Option<Ready> {
        let ready = self.ready.remove(&agent_id)?;
        self.profiles[ready.profile].agents.remove(&ready.place);
        Some(ready)
    }

    /// The next match: the first call, by priority and age, that a ready agent may take, and the
    /// agent whom the strategy puts first. Both leave the index until they are told about again.
    pub fn next_match(&mut self, now: Timestamp) -> Option<Proposal> {
        self.give_up_proposals(now);
        if self.ready.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.relax(now);
        let heads: BTreeMap<CallPlace, usize> =
            (0..self.classes.len()).filter_map(|i| Some((*self.servable_head(i)?, i))).collect();
        let (call_id, agent_id) = self.first_pair(&heads, now)?;
        let waiting = self.waiting.len();
        let reason = self.reason(call_id, agent_id, waiting, now)?;
        let entry = self.take_out(call_id)?;
        let known = self.take_agent(agent_id).map(|ready| (ready.profile, ready.readiness));
        let offer_id = OfferId::fresh();
        self.proposed.insert(offer_id, Proposed { entry: entry.clone(), agent_id, known, made_at: now });
        Some(Proposal { offer_id, entry, agent_id, reason })
    }

    fn servable_head(&self, class: usize) -> Option<&CallPlace> {
        let class = &self.classes[class];
        let served = class.fits.iter().any(|profile| !self.profiles[*profile].agents.is_empty());
        class.calls.first().filter(|_| served)
    }

    /// Usually the first head with its best agent. A call whose only candidates just let it pass
    /// does not hold up those behind it.
    fn first_pair(&self, heads: &BTreeMap<CallPlace, usize>, now: Timestamp) -> Option<(CallId, AgentId)> {
        let mut best: Option<(CallPlace, AgentId)> = None;
        for (head, class) in heads {
            if best.as_ref().is_some_and(|(place, _)| place < head) {
                break;
            }
            for place in &self.classes[*class].calls {
                if best.as_ref().is_some_and(|(found, _)| found < place) {
                    break;
                }
                if let Some(agent_id) = self.best_agent(place.2, *class, now) {
                    best = Some((*place, agent_id));
                    break;
                }
            }
        }
        best.map(|(place, agent_id)| (place.2, agent_id))
    }

    fn best_agent(&self, call_id: CallId, class: usize, now: Timestamp) -> Option<AgentId> {
        let passed_by = &self.waiting.get(&call_id)?.entry.passed_by;
        let passes = |agent: &AgentId| passed_by.iter().any(|(who, until)| who == agent && *until > now);
        let class = &self.classes[class];
        let candidates = class.fits.iter().filter_map(|profile| {
            let profile = &self.profiles[*profile];
            let place = profile.agents.iter().find(|(_, _, agent)| !passes(agent))?;
            let score = match self.settings.strategy {
                Strategy::BestSkill => class
                    .requirement
                    .keys()
                    .filter_map(|skill| profile.skills.get(skill))
                    .map(|level| u32::from(*level))
                    .sum(),
                Strategy::LongestIdle | Strategy::RoundRobin | Strategy::FewestCalls => 0,
            };
            Some((std::cmp::Reverse(score), *place))
        });
        candidates.min().map(|(_, (_, _, agent))| agent)
    }

    fn reason(
        &self,
        call_id: CallId,
        agent_id: AgentId,
        waiting: usize,
        now: Timestamp,
    ) -> Option<OfferReason> {
        let class = self.waiting.get(&call_id)?.class;
        let ready = self.ready.get(&agent_id)?;
        Some(OfferReason {
            strategy: self.settings.strategy.word().into(),
            ready: self.ready.len(),
            idle_ms: now.since(ready.readiness.idle_since),
            required: self.classes[class].requirement.clone(),
            waiting,
        })
    }

    /// The agent did not reserve itself: the call waits again at its place. The agent is as ready as
    /// before unless its session announced something since, but not for this call at once.
    pub fn refused(&mut self, offer_id: OfferId, now: Timestamp) {
        if let Some(Proposed { mut entry, agent_id, known, .. }) = self.proposed.remove(&offer_id) {
            entry.passed_by.push((agent_id, now + REFUSED_FOR));
            self.insert(entry, now);
            if let Some((profile, readiness)) = known {
                self.add_agent(agent_id, profile, readiness);
            }
        }
    }

    /// Proposals that nobody told the end of, because an actor failed with the message.
    fn give_up_proposals(&mut self, now: Timestamp) {
        let is_old = |proposed: &Proposed| now.since(proposed.made_at) >= PROPOSAL_LIMIT;
        let old: Vec<_> = self
            .proposed
            .iter()
            .filter(|(_, proposed)| is_old(proposed))
            .map(|(offer_id, _)| *offer_id)
            .collect();
        for offer_id in old {
            self.refused(offer_id, now);
        }
    }

    /// When the next call asks for less, or an agent who let one pass may get it again.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let relaxation = self.relaxing.first().map(|(at, _)| *at);
        let proposal = self.proposed.values().map(|proposed| proposed.made_at + PROPOSAL_LIMIT).min();
        relaxation.into_iter().chain(proposal).min()
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many agents are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many proposals are under way.
    #[must_use]
    pub fn proposed(&self) -> usize {
        self.proposed.len()
    }

    /// Since when the oldest call waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// Whether a call waits here.
    #[must_use]
    pub fn holds(&self, call_id: CallId) -> bool {
        self.waiting.contains_key(&call_id)
    }

    /// The place of a call among those that wait, from 1, in the order in which they would be
    /// served if every agent could take every call. Costs a walk over the queue.
    #[must_use]
    pub fn position(&self, call_id: CallId) -> Option<usize> {
        let place = place_of(&self.waiting.get(&call_id)?.entry);
        let ahead = self.classes.iter().map(|class| class.calls.range(..place).count()).sum::<usize>();
        Some(ahead + 1)
    }

    fn relax(&mut self, now: Timestamp) {
        while let Some((at, call_id)) = self.relaxing.first().copied() {
            if at > now {
                return;
            }
            match self.take_out(call_id) {
                Some(entry) => self.insert(entry, now),
                None => {
                    self.relaxing.pop_first();
                }
            }
        }
    }

    fn stage_at(&self, waited: Millis) -> usize {
        self.settings.relax_after.iter().filter(|after| **after <= waited).count()
    }

    fn next_relaxation(&self, entry: &QueueEntry, stage: usize) -> Option<Timestamp> {
        if entry.skills.is_empty() {
            return None;
        }
        self.settings.relax_after.get(stage).map(|after| entry.since + *after)
    }

    fn class_of(&mut self, requirement: Skills) -> usize {
        if let Some(known) = self.classes.iter().position(|class| class.requirement == requirement) {
            return known;
        }
        let fits =
            (0..self.profiles.len()).filter(|i| satisfies(&self.profiles[*i].skills, &requirement)).collect();
        self.classes.push(Class { requirement, calls: BTreeSet::new(), fits });
        self.classes.len() - 1
    }

    fn profile_of(&mut self, skills: &Skills) -> usize {
        if let Some(known) = self.profiles.iter().position(|profile| profile.skills == *skills) {
            return known;
        }
        let profile = self.profiles.len();
        for class in &mut self.classes {
            if satisfies(skills, &class.requirement) {
                class.fits.push(profile);
            }
        }
        self.profiles.push(Profile { skills: skills.clone(), agents: BTreeSet::new() });
        profile
    }
}

fn place_of(entry: &QueueEntry) -> CallPlace {
    (std::cmp::Reverse(entry.priority), entry.since, entry.call_id)
}

fn satisfies(skills: &Skills, requirement: &Skills) -> bool {
    requirement.iter().all(|(skill, level)| skills.get(skill).is_some_and(|has| has >= level))
}

/// What is asked after a number of relaxations: one level less each, nothing below level 1.
fn relaxed(skills: &Skills, stage: usize) -> Skills {
    let less = u8::try_from(stage).unwrap_or(u8::MAX);
    skills
        .iter()
        .filter_map(|(skill, level)| {
            let level = level.saturating_sub(less);
            (level > 0).then_some((*skill, level))
        })
        .collect()
}
