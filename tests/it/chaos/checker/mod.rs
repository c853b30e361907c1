//! The judge: pure functions from what was seen to what was broken.
//!
//! Facts carry no node, so the database is asked: the harness hangs triggers on `facts`, `shards` and
//! `nodes` (`journal.rs`) that note at each commit whose connection wrote (`application_name`), who
//! owned the shard, and what the node table said of the writer. That sees
//! every write of a node that does not own what it writes, or is fenced, whatever order facts come in.
//! It does not see which of two runs of one node wrote, as both carry one name.

mod agents;
mod calls;
mod owners;
#[cfg(test)]
mod tests;

use std::fmt;

use super::history::History;

/// A rule that must hold, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// What was answered with success is in the journal.
    AcknowledgedIsStored,
    /// The facts of an entity are numbered 1 to n.
    NumbersHaveNoGap,
    /// Only the owner of a shard writes its facts.
    OnlyTheOwnerWrites,
    /// Nobody writes once it is fenced.
    FencedWriteNothing,
    /// A shard is taken only from an owner that is dead, gone or willing.
    ShardsAreTakenFromNobodyAlive,
    /// A command is carried out once.
    CommandsAreDoneOnce,
    /// An agent has one reservation or call at a time.
    OneReservationPerAgent,
    /// A call is accepted by one agent at a time.
    OneAgentPerCall,
    /// Every call comes to its end.
    CallsReachAnOutcome,
    /// Nobody overtakes in a queue.
    PlacesAreKept,
    /// No call waits while an agent is ready for it.
    NobodyWaitsForNothing,
    /// Offers, after-call work and pauses end when they should.
    DeadlinesAreKept,
    /// An agent sees its events 1 to n, each once.
    EventsAreWhole,
    /// An event on a socket is a fact of the journal.
    EventsAreFacts,
    /// The carrier carries out each attempt once.
    AttemptsAreDoneOnce,
    /// A fenced node orders nothing of the carrier.
    FencedOrderNothing,
}

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

impl Violation {
    fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

/// Everything that was broken.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for rule in [
        calls::acknowledged_is_stored,
        calls::numbers_have_no_gap,
        calls::one_agent_per_call,
        calls::calls_reach_an_outcome,
        calls::places_are_kept,
        calls::nobody_waits_for_nothing,
        agents::commands_are_stored,
        agents::one_reservation_per_agent,
        agents::deadlines_are_kept,
        agents::grace_ends,
        agents::events_are_whole,
        agents::events_are_facts,
        owners::writes_are_the_owners,
        owners::shards_are_taken_from_nobody_alive,
        owners::commands_are_done_once,
        owners::attempts_are_done_once,
        owners::fenced_order_nothing,
    ] {
        found.extend(rule(history));
    }
    found
}

/// Declarations of death that no fault explains, each as a line.
pub fn false_takeovers(history: &History) -> Vec<String> {
    owners::false_takeovers(history)
}
