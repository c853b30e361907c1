//! The machine: decide, append, apply, perform. What every actor-run thing has in common.
//!
//! A machine is a pure type. It has no clock, no I/O and no async; time is an argument.
//! State is the fold of its facts, so coming back after a crash runs the same code as starting.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{EntityRef, ProviderRef, Summary};
use super::time::Timestamp;

/// What a machine makes of one command.
#[derive(Debug, Clone)]
pub struct Decision<M: Machine> {
    /// What happened; empty when the command changes nothing.
    pub facts: Vec<M::Fact>,
    /// What to do once the facts are durable.
    pub effects: Vec<M::Effect>,
    /// What to tell whoever asked.
    pub reply: M::Reply,
}

/// A thing with one writer: a call, an agent session.
pub trait Machine: Sized + Send + Sync + 'static {
    /// A request or a piece of news.
    type Command: Clone + Send + 'static;
    /// Something that happened; stored, never changed.
    type Fact: Serialize + DeserializeOwned + Clone + Send + Sync + std::fmt::Debug;
    /// Something to do outside the machine.
    type Effect: Send + std::fmt::Debug;
    /// The answer to a command that was not refused.
    type Reply: Send + std::fmt::Debug + 'static;
    /// Why a command was not carried out.
    type Refusal: std::error::Error + Send + Sync + Clone + 'static;

    /// The machine before its first fact.
    fn vacant(entity: EntityRef) -> Self;

    /// Decides what a command leads to. Never changes anything.
    ///
    /// # Errors
    /// A typed refusal; nothing happened.
    fn decide(&self, command: Self::Command, now: Timestamp) -> Result<Decision<Self>, Self::Refusal>;

    /// Takes in one fact. Total: never fails.
    fn apply(&mut self, fact: &Self::Fact, at: Timestamp);

    /// What to take up again after a restart or a take-over. Every effect in it may already have
    /// been carried out once, so each must be safe to repeat.
    fn resume(&self, now: Timestamp) -> Vec<Self::Effect>;

    /// The command that wakes the machine when its deadline has come.
    fn tick() -> Self::Command;

    /// When the machine wants to be woken, if ever. A function of the state alone, so no timer is
    /// ever lost: the actor arms it anew after each change and after each restart.
    fn deadline(&self) -> Option<Timestamp>;

    /// The summary that lists show, stored beside the facts.
    fn summary(&self) -> Summary;

    /// Names by which providers know this thing; the store finds the machine by them.
    fn provider_refs(&self) -> Vec<ProviderRef>;

    /// Whether nothing can happen any more.
    fn is_final(&self) -> bool;

    /// Whether the actor may leave memory while it waits.
    fn may_park(&self) -> bool;

    /// The event type of a fact, as in `call.received`.
    fn event_type(fact: &Self::Fact) -> &'static str;
}
