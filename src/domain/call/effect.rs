//! What a call wants done outside: orders to the provider, news to queues and agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parts::{Direction, ExitReason};
use crate::domain::address::Address;
use crate::domain::agent::AgentCommand;
use crate::domain::id::{AgentId, AttemptId, CallId, LegId, QueueId, SkillId};
use crate::domain::time::{Millis, Timestamp};

/// An order to the provider.
#[derive(Debug, Clone, PartialEq)]
pub enum CarrierOrder {
    /// Place a new leg.
    Place {
        /// This attempt; it is in every address the provider gets, and never used twice.
        attempt: AttemptId,
        /// Whom to call.
        to: Address,
        /// The number shown.
        from: Address,
        /// How long it rings.
        ring: Millis,
    },
    /// Look for a leg whose placing had no clear answer.
    Find {
        /// Whom it called.
        to: Address,
        /// The number shown.
        from: Address,
        /// When it was placed.
        placed_at: Timestamp,
    },
    /// Look whether a leg still lives; `NotFound` when it does not.
    Check {
        /// The provider's id of the leg.
        provider_id: Box<str>,
    },
    /// End a leg; `answered` tells which way the provider wants it done.
    End {
        /// The provider's id of the leg.
        provider_id: Box<str>,
        /// Whether it was answered.
        answered: bool,
    },
    /// Put a leg on hold in its room, or take it back.
    Hold {
        /// The provider's id of the leg.
        provider_id: Box<str>,
        /// The room: the provider's id of it, or our name for it.
        room: Box<str>,
        /// On hold or back.
        held: bool,
    },
    /// Make a leg ask us again what to do.
    Redirect {
        /// The provider's id of the leg.
        provider_id: Box<str>,
    },
}

/// What a call wants done.
#[derive(Debug, Clone)]
pub enum CallEffect {
    /// Order the provider to do something about a leg.
    Carrier {
        /// Name of the provider section.
        provider: Box<str>,
        /// The leg.
        leg_id: LegId,
        /// What to do.
        order: CarrierOrder,
    },
    /// Wait in a queue.
    EnterQueue(Box<QueueEntry>),
    /// Wait no longer.
    LeaveQueue {
        /// The queue.
        queue_id: QueueId,
        /// Why, for the queue's statistics.
        reason: ExitReasonOrOffer,
    },
    /// Tell an agent session something.
    TellAgent {
        /// The agent.
        agent_id: AgentId,
        /// What.
        command: Box<AgentCommand>,
    },
}

/// Why a call leaves a queue's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReasonOrOffer {
    /// It is being offered and may come back.
    Offered,
    /// It is gone for good.
    Left(ExitReason),
}

/// A call that waits, as the queue's index sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// The call.
    pub call_id: CallId,
    /// Where it waits.
    pub queue_id: QueueId,
    /// Higher goes first.
    pub priority: i32,
    /// Since when it waits; its place among calls of one priority.
    pub since: Timestamp,
    /// Least proficiency per skill.
    pub skills: BTreeMap<SkillId, u8>,
    /// How long an offer rings.
    pub ring: Millis,
    /// Agents who shall not get it before a time, because they just let it pass.
    pub passed_by: Vec<(AgentId, Timestamp)>,
    /// What the agent is shown.
    pub brief: CallBrief,
}

/// What an agent sees of a call before taking it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallBrief {
    /// The call.
    pub id: CallId,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Who calls.
    pub from: Address,
    /// Who was called.
    pub to: Address,
    /// The queue it comes from.
    pub queue_id: Option<QueueId>,
    /// That queue's name.
    pub queue_name: Option<Box<str>>,
    /// Since when it waits.
    pub queued_at: Option<Timestamp>,
    /// What the creator of the call attached to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<serde_json::Value>,
}
