//! The small words of a call: directions, statuses, reasons, and the legs it is made of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::address::Address;
use crate::domain::id::{AgentId, AttemptId, LegId};
use crate::domain::time::{Millis, Timestamp};

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The customer called us.
    Inbound,
    /// We called the customer.
    Outbound,
}

impl Direction {
    /// The word of stores, lists and figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Whose connection a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegRole {
    /// The customer's.
    Customer,
    /// An agent's, placed by us.
    Agent,
    /// Placed by the provider on its own account, seen only in its callbacks.
    Observed,
}

/// How far a leg has come. Ordered: a leg only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegStatus {
    /// Wanted, nothing heard yet.
    New,
    /// The provider is setting it up.
    Dialing,
    /// The far end rings.
    Ringing,
    /// The far end answered.
    Connected,
    /// Over.
    Ended,
}

/// Why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegEnd {
    /// It had been answered and one side hung up.
    Normal,
    /// The far end was busy.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// The far end or the network refused it.
    Refused,
    /// It was called off before it was answered.
    Canceled,
    /// The network could not set it up.
    Failed,
}

/// How a call left its queue. The values are fixed, see the vocabulary in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// An agent took it.
    Answered,
    /// The customer hung up while waiting.
    Abandoned,
    /// It waited as long as the queue allows.
    Timeout,
    /// Nobody could have taken it.
    NoAgents,
    /// The customer pressed the key that leaves the queue.
    ExitKey,
    /// The customer asked to be called back.
    CallbackRequested,
    /// It was sent on because of the queue's limits.
    Overflowed,
    /// Somebody sent it elsewhere.
    TransferredOut,
    /// We called it off.
    Canceled,
    /// We could not serve it.
    SystemFailure,
}

/// What became of the customer, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Spoke with an agent, or answered our call.
    Answered,
    /// Hung up before.
    Abandoned,
    /// Left a message.
    Voicemail,
    /// Was served by the fallback document only.
    Fallback,
    /// Was turned away: no such number, or the queue was full or out of time.
    Rejected,
    /// Was busy (outbound).
    Busy,
    /// Did not answer (outbound).
    NoAnswer,
    /// Could not be reached (outbound).
    Failed,
    /// We called it off (outbound).
    Canceled,
}

impl Outcome {
    /// The word of figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::Voicemail => "voicemail",
            Self::Fallback => "fallback",
            Self::Rejected => "rejected",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The customer of an inbound call.
    Caller,
    /// The customer of an outbound call.
    Callee,
    /// The agent.
    Agent,
    /// A limit or a rule of ours.
    System,
}

impl EndedBy {
    /// The word for the customer of a call in this direction.
    #[must_use]
    pub const fn customer(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Caller,
            Direction::Outbound => Self::Callee,
        }
    }
}

/// One moment on two clocks: ours when we learned of it, the carrier's when it told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When we learned of it.
    pub ours: Timestamp,
    /// When it happened, says the carrier (whole seconds at Twilio).
    pub carrier: Option<Timestamp>,
}

/// How far both clocks may disagree about a span before the carrier's is believed: one second of
/// rounding and one of delivery.
const CLOCK_TOLERANCE: u64 = 2_000;

impl Moment {
    /// The span from `self` to `later`. Ours is finer, so it is used unless the carrier tells a
    /// clearly different one, which means that we learned of a moment late or out of order.
    #[must_use]
    pub fn until(self, later: Self) -> Millis {
        let ours = later.ours.since(self.ours);
        let (Some(from), Some(to)) = (self.carrier, later.carrier) else { return ours };
        let carrier = to.since(from);
        if ours.0.abs_diff(carrier.0) > CLOCK_TOLERANCE { carrier } else { ours }
    }

    /// The earlier of two reports of moments; the carrier's clock decides where both tell it.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        let other_first = match (self.carrier, other.carrier) {
            (Some(mine), Some(theirs)) => theirs < mine,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (None, None) => other.ours < self.ours,
        };
        if other_first { other } else { self }
    }
}

/// One connection between the provider and one party.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// Its id.
    pub id: LegId,
    /// Whose it is.
    pub role: LegRole,
    /// The far end.
    pub address: Address,
    /// The agent at the far end, if one is known there.
    pub agent_id: Option<AgentId>,
    /// The attempt that placed it, if we did.
    pub attempt: Option<AttemptId>,
    /// The provider's id, once known.
    pub provider_id: Option<Box<str>>,
    /// How far it has come.
    pub status: LegStatus,
    /// Whether the attempt to place it had no clear answer.
    pub in_doubt: bool,
    /// When it was first heard of.
    pub started: Moment,
    /// When it was answered.
    pub answered: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Why it ended.
    pub end: Option<LegEnd>,
}

impl Leg {
    /// The leg as lists show it.
    #[must_use]
    pub fn summary(&self) -> LegSummary {
        LegSummary {
            id: self.id,
            role: self.role,
            address: self.address.clone(),
            agent_id: self.agent_id,
            provider_leg_id: self.provider_id.clone(),
            status: self.status,
            end_reason: self.end,
            in_doubt: self.in_doubt,
            started_at: self.started.ours,
            answered_at: self.answered.map(|moment| moment.ours),
            ended_at: self.ended.map(|moment| moment.ours),
        }
    }
}

/// A leg as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LegSummary {
    /// Its id.
    #[schema(value_type = String)]
    pub id: LegId,
    /// Whose it is.
    pub role: LegRole,
    /// The far end.
    #[schema(value_type = String)]
    pub address: Address,
    /// The agent at the far end.
    #[schema(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
    /// The provider's id.
    pub provider_leg_id: Option<Box<str>>,
    /// How far it has come.
    pub status: LegStatus,
    /// Why it ended.
    pub end_reason: Option<LegEnd>,
    /// Whether the attempt to place it had no clear answer.
    pub in_doubt: bool,
    /// When it was first heard of.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it was answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}
