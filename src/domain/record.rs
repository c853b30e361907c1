//! What the journal keeps: facts with their place, and the current summary of each entity.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::address::Address;
use super::call::{Direction, EndedBy, ExitReason, LegSummary, Outcome};
use super::id::{AgentId, CallId, CommandId, DispositionId, FactId, QueueId};
use super::time::{Millis, Timestamp};

/// The kinds of things that have a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityKind {
    /// A customer interaction.
    Call,
    /// An agent session.
    Agent,
}

impl EntityKind {
    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Call => 1,
            Self::Agent => 2,
        }
    }

    /// The kind behind a stored number.
    #[must_use]
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Call),
            2 => Some(Self::Agent),
            _ => None,
        }
    }
}

/// Which thing: its kind and its bare id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityRef {
    /// What it is.
    pub kind: EntityKind,
    /// Its id without the prefix.
    pub id: Uuid,
}

impl From<CallId> for EntityRef {
    fn from(id: CallId) -> Self {
        Self { kind: EntityKind::Call, id: id.uuid() }
    }
}

impl From<AgentId> for EntityRef {
    fn from(id: AgentId) -> Self {
        Self { kind: EntityKind::Agent, id: id.uuid() }
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EntityKind::Call => CallId::from_uuid(self.id).fmt(f),
            EntityKind::Agent => AgentId::from_uuid(self.id).fmt(f),
        }
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One fact at its place in the journal.
#[derive(Debug, Clone)]
pub struct FactRecord {
    /// Unique name of the fact; consumers drop what they have seen by it.
    pub id: FactId,
    /// The thing it happened to.
    pub entity: EntityRef,
    /// Its number in the life of that thing, from 1, without gaps.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Event type, as in `call.received`.
    pub kind: Box<str>,
    /// The fact as JSON, externally tagged by serde.
    pub body: Box<RawValue>,
    /// The command that led to it; unknown of facts of before, and of those that nobody asked for.
    pub cause: Option<CommandId>,
}

/// A name by which a provider knows a thing, such as a call sid or a conference sid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderRef {
    /// Name of the provider section in the configuration.
    pub provider: Box<str>,
    /// The provider's own id; its form already tells what it names (`CA…`, `CF…`).
    pub reference: Box<str>,
}

/// The current summary of an entity.
#[derive(Debug, Clone, PartialEq)]
pub enum Summary {
    /// What lists of calls show.
    Call(Box<CallSummary>),
    /// An agent session; its list is built from memory, so only its being open matters.
    Agent {
        /// Whether the session has work to take up again after a restart.
        open: bool,
    },
    /// The same as before these facts, and so stored already.
    Unchanged {
        /// Whether a restart must load the entity again.
        open: bool,
    },
}

impl Summary {
    /// Whether a restart must load the entity again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Call(call) => call.is_open,
            Self::Agent { open } | Self::Unchanged { open } => *open,
        }
    }
}

/// A call as lists show it. Spans are integer milliseconds, absent when they do not apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CallSummary {
    /// The call's id.
    #[schema(value_type = String)]
    pub id: CallId,
    /// Who called whom.
    pub direction: Direction,
    /// Where the call stands in its life: `received queued offered connected held wrap_up ended`.
    pub state: Box<str>,
    /// The call's status in the words of carriers: `queued ringing in_progress completed …`.
    pub status: Box<str>,
    /// Whether the call is not over.
    #[serde(skip)]
    pub is_open: bool,
    /// Who started the call.
    #[schema(value_type = String)]
    pub from: Address,
    /// Who was called.
    #[schema(value_type = String)]
    pub to: Address,
    /// The queue it waits or waited in last.
    #[schema(value_type = Option<String>)]
    pub queue_id: Option<QueueId>,
    /// The agent who has or had it last.
    #[schema(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
    /// Name of the provider section.
    pub provider: Box<str>,
    /// The provider's id of the customer's leg.
    pub provider_call_id: Option<Box<str>>,
    /// When it arrived or was started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it first waited in a queue.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub queued_at: Option<Timestamp>,
    /// When customer and agent could first speak.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub answered_at: Option<Timestamp>,
    /// When the customer was gone.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// From queueing to answer or end.
    #[schema(value_type = Option<u64>)]
    pub wait_ms: Option<Millis>,
    /// From answer to end, without time on hold.
    #[schema(value_type = Option<u64>)]
    pub talk_ms: Option<Millis>,
    /// Time on hold.
    #[schema(value_type = Option<u64>)]
    pub hold_ms: Option<Millis>,
    /// How it left the queue.
    pub exit_reason: Option<ExitReason>,
    /// Who ended it.
    pub ended_by: Option<EndedBy>,
    /// What became of the caller.
    pub outcome: Option<Outcome>,
    /// What the agent noted.
    #[schema(value_type = Option<String>)]
    pub disposition_id: Option<DispositionId>,
    /// The agent's note.
    pub note: Option<Box<str>>,
    /// What the creator of the call attached to it.
    #[schema(value_type = Option<Object>)]
    pub context: Option<serde_json::Value>,
    /// The connections of the call, oldest first.
    pub legs: Vec<LegSummary>,
}
