//! What can happen to a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::command::Routing;
use super::parts::{Direction, EndedBy, ExitReason, LegEnd, LegRole, LegStatus, Outcome};
use crate::domain::address::Address;
use crate::domain::agent::OfferOutcome;
use crate::domain::id::{AgentId, AttemptId, DispositionId, LegId, OfferId, QueueId, SkillId};
use crate::domain::time::{Millis, Timestamp};

/// Why this agent was chosen; shown in the timeline and to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferReason {
    /// The strategy that chose, as in `longest_idle`.
    pub strategy: Box<str>,
    /// Agents of the queue who were ready.
    pub ready: usize,
    /// How long the chosen one had been idle.
    pub idle_ms: Millis,
    /// Proficiency that was asked at this moment, after relaxation.
    pub required: BTreeMap<SkillId, u8>,
    /// Calls that waited in the queue, this one included.
    pub waiting: usize,
}

/// How a call ended, as known at that time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Who ended it.
    pub ended_by: EndedBy,
    /// How it left the queue, if it was in one.
    pub exit_reason: Option<ExitReason>,
    /// What became of the customer.
    pub outcome: Outcome,
    /// Time waited.
    pub wait_ms: Option<Millis>,
    /// Time talked, without hold.
    pub talk_ms: Option<Millis>,
    /// Time on hold.
    pub hold_ms: Option<Millis>,
}

/// What can happen to a call. Times without a name are the fact's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallFact {
    /// It arrived, or was asked for.
    Received {
        /// Who called whom.
        direction: Direction,
        /// Who started it.
        from: Address,
        /// Who was called.
        to: Address,
        /// Name of the provider section.
        provider: Box<str>,
        /// Where it goes.
        routing: Option<Box<Routing>>,
        /// For which agent it was made, and where that agent's phone is.
        agent: Option<(AgentId, Address)>,
        /// How long an outbound call rings.
        ring: Millis,
        /// After-call work when no queue tells it.
        wrap_up: Millis,
        /// The provider's error code when it came through the fallback address.
        fallback: Option<Box<str>>,
        /// What its creator attached.
        context: Option<serde_json::Value>,
    },
    /// The provider told something; kept as it came.
    CarrierReported {
        /// Same for each repetition.
        key: u64,
        /// In the provider's words.
        name: Box<str>,
        /// When it happened by the carrier's clock.
        occurred_at: Option<Timestamp>,
        /// Its fields.
        fields: Box<RawValue>,
    },
    /// A leg came to be known or wanted.
    LegAdded {
        /// Its id.
        leg_id: LegId,
        /// Whose it is.
        role: LegRole,
        /// The far end.
        address: Address,
        /// The agent there.
        agent_id: Option<AgentId>,
        /// The attempt that places it.
        attempt: Option<AttemptId>,
        /// The provider's id, if already known.
        provider_id: Option<Box<str>>,
    },
    /// The provider's id of a leg became known.
    LegNamed {
        /// The leg.
        leg_id: LegId,
        /// The provider's id.
        provider_id: Box<str>,
    },
    /// A leg came this far.
    LegMoved {
        /// The leg.
        leg_id: LegId,
        /// How far.
        status: LegStatus,
        /// Why it ended.
        end: Option<LegEnd>,
        /// When, by the carrier's clock.
        carrier_at: Option<Timestamp>,
    },
    /// The attempt to place a leg had no clear answer.
    LegInDoubt {
        /// The leg.
        leg_id: LegId,
    },
    /// The provider's id of the room became known.
    RoomNamed {
        /// The provider's id.
        room: Box<str>,
    },
    /// It waits.
    Queued {
        /// Where.
        queue_id: QueueId,
        /// Since when, for its place.
        since: Timestamp,
    },
    /// The provider's own count of the wait.
    WaitReported {
        /// How long.
        waited: Millis,
    },
    /// It is offered to an agent.
    Offered {
        /// The offer.
        offer_id: OfferId,
        /// To whom.
        agent_id: AgentId,
        /// Where the agent's phone is.
        address: Address,
        /// When it lapses.
        deadline: Timestamp,
        /// Why this agent.
        reason: OfferReason,
    },
    /// An offer was taken up, or ended otherwise.
    OfferEnded {
        /// The offer.
        offer_id: OfferId,
        /// To whom.
        agent_id: AgentId,
        /// How.
        outcome: OfferOutcome,
    },
    /// The agent's phone could not be reached after all; it waits again.
    Requeued {
        /// The offer that had been accepted.
        offer_id: OfferId,
        /// By whom.
        agent_id: AgentId,
    },
    /// Customer and agent can speak.
    Connected {
        /// The agent, if known.
        agent_id: Option<AgentId>,
        /// The leg that the customer speaks with.
        leg_id: Option<LegId>,
    },
    /// The customer was put on hold.
    Held,
    /// The customer was taken back.
    Resumed,
    /// The queue's limit sent it on.
    Overflowed {
        /// To this queue, or to a message or a hang-up when absent.
        routing: Option<Box<Routing>>,
        /// Whether it may leave a message.
        voicemail: bool,
    },
    /// The customer left a message.
    VoicemailLeft {
        /// Where it is.
        recording_url: Box<str>,
        /// Its length.
        length: Option<Millis>,
    },
    /// A recording is there, or is known to be missing.
    RecordingReady {
        /// The provider's id.
        recording_id: Box<str>,
        /// `completed` or `absent`.
        status: Box<str>,
        /// Where it is.
        url: Option<Box<str>>,
        /// Its length.
        length: Option<Millis>,
    },
    /// Somebody or some rule asked for its end.
    HangupRequested {
        /// Who.
        by: EndedBy,
    },
    /// The conversation is over but the provider still has the customer.
    Parted,
    /// The customer is gone. After-call work may follow.
    Ended {
        /// How.
        record: EndRecord,
        /// Until when after-call work may take.
        wrap_up_until: Option<Timestamp>,
    },
    /// Later news changed how it ended.
    Corrected {
        /// How it really ended.
        record: EndRecord,
    },
    /// After-call work may take longer.
    WrapUpExtended {
        /// Until then.
        until: Timestamp,
    },
    /// Somebody noted what it was about.
    Disposed {
        /// The chosen disposition.
        disposition_id: Option<DispositionId>,
        /// A free note.
        note: Option<Box<str>>,
    },
    /// After-call work is done; nothing more will happen.
    Completed,
}
