//! What may be asked of a call, and what it answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fact::OfferReason;
use super::parts::{LegEnd, LegStatus};
use crate::domain::address::Address;
use crate::domain::agent::OfferOutcome;
use crate::domain::id::{AgentId, DispositionId, LegId, OfferId, QueueId, SkillId};
use crate::domain::time::{Millis, Timestamp};

/// What a call needs to know about the queue it goes to; taken from the configuration when it
/// arrives, so that a later change of the queue does not change calls in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// The queue.
    pub queue_id: QueueId,
    /// Its name, shown to agents.
    pub queue_name: Box<str>,
    /// Higher goes first.
    pub priority: i32,
    /// Least proficiency (1 to 5) per skill.
    pub skills: BTreeMap<SkillId, u8>,
    /// How long an offer rings.
    pub ring: Millis,
    /// How long a call may wait.
    pub max_wait: Millis,
    /// What happens then.
    pub overflow: Overflow,
    /// How long the agent has for after-call work.
    pub wrap_up: Millis,
}

/// What happens to a call that waited too long, or that finds its queue full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It is told so and hung up.
    Hangup,
    /// It may leave a message.
    Voicemail,
    /// It goes on to another queue, keeping its age.
    Queue(Box<Routing>),
}

/// A call arrives from a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arrival {
    /// Name of the provider section.
    pub provider: Box<str>,
    /// The provider's id of the customer's leg.
    pub provider_call_id: Box<str>,
    /// Who calls.
    pub from: Address,
    /// The number that was called.
    pub to: Address,
    /// Where it goes; `None` when the number leads nowhere.
    pub routing: Option<Routing>,
    /// The provider's error code when it asks the fallback address.
    pub fallback: Option<Box<str>>,
    /// The request as it came, for the timeline.
    pub raw: RawEvent,
}

/// Somebody wants a call to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DialRequest {
    /// Name of the provider section.
    pub provider: Box<str>,
    /// Whom to call.
    pub to: Address,
    /// The number shown to the customer.
    pub from: Address,
    /// Which queue serves the customer once they answer.
    pub routing: Option<Routing>,
    /// Which agent speaks with the customer, and where that agent's phone is.
    pub agent: Option<(AgentId, Address)>,
    /// How long the customer's phone rings.
    pub ring: Millis,
    /// How long the agent has for after-call work.
    pub wrap_up: Millis,
    /// Anything the creator wants to find again.
    pub context: Option<serde_json::Value>,
}

/// A verified request of the provider as it came, kept for the timeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawEvent {
    /// Same for each repetition of the same news, different for any other.
    pub key: u64,
    /// What it is, in the provider's words, as in `status:ringing`.
    pub name: Box<str>,
    /// Its fields as a JSON object.
    pub fields: Box<RawValue>,
}

/// Which leg news is about, by whatever the provider told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegHint {
    /// Our id, from the query string of an address we handed out.
    pub leg_id: Option<LegId>,
    /// The provider's id of the leg.
    pub provider_id: Option<Box<str>>,
    /// The provider's id of the leg that placed this one, if the provider did it on its own.
    pub parent_id: Option<Box<str>>,
    /// The far end.
    pub address: Option<Address>,
    /// The agent known at that far end.
    pub agent_id: Option<AgentId>,
}

/// News from the provider about a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarrierNews {
    /// Which leg it is about.
    pub leg: LegHint,
    /// The provider's id of the room, when it tells one.
    pub room: Option<Box<str>>,
    /// When it happened by the carrier's clock.
    pub occurred_at: Option<Timestamp>,
    /// What happened.
    pub news: News,
    /// The request as it came.
    pub raw: RawEvent,
}

/// What happened at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// A leg came this far. `answered_for` is how long it was connected, told at its end.
    Leg {
        /// How far.
        status: LegStatus,
        /// Why it ended, if it did.
        end: Option<LegEnd>,
        /// How long it was connected.
        answered_for: Option<Millis>,
    },
    /// A leg entered the room.
    Joined,
    /// A leg left the room; `hung_up` when its party did.
    Left {
        /// Whether the party is gone, not just moved.
        hung_up: bool,
    },
    /// A leg was put on hold or taken back, as the provider confirms.
    HoldChanged {
        /// Whether it is on hold now.
        held: bool,
    },
    /// The room opened or closed.
    Room {
        /// Whether it is open now.
        open: bool,
    },
    /// The provider asks what this leg shall do next.
    Document(Asked),
    /// The provider's own queue reports; `waited` is its count.
    QueueReport {
        /// How long the caller waited in it.
        waited: Option<Millis>,
        /// Whether the caller hung up in it.
        hung_up: bool,
    },
    /// The customer left a message.
    VoicemailLeft {
        /// Where the recording is.
        recording_url: Box<str>,
        /// Its length.
        length: Option<Millis>,
        /// Whether the customer ended it by hanging up.
        hung_up: bool,
    },
    /// A recording changed its state.
    Recording {
        /// The provider's id.
        recording_id: Box<str>,
        /// `in_progress`, `completed` or `absent`.
        status: Box<str>,
        /// Where it is.
        url: Option<Box<str>>,
        /// Its length.
        length: Option<Millis>,
    },
    /// Something we have no rule for; kept in the timeline.
    Other,
}

/// What the provider wants a document for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// The leg that we placed was answered.
    Answered,
    /// The caller waits in the room: what shall it hear?
    Wait,
    /// The party is on hold: what shall it hear?
    Hold,
    /// The leg's last instruction is done: what next? `bridged` tells whether it spoke.
    Next {
        /// Whether parties spoke.
        bridged: bool,
    },
}

/// What a leg shall do, in neutral words; the provider module writes it in its own language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// Wait in the call's room until an agent joins.
    WaitInRoom,
    /// Join the call's room and speak.
    JoinRoom {
        /// The leg that joins.
        leg_id: LegId,
    },
    /// Hear waiting music.
    WaitMusic,
    /// Hear hold music.
    HoldMusic,
    /// Leave a message.
    Voicemail,
    /// Hear that nobody is there, then be hung up.
    Goodbye,
    /// Be hung up.
    Hangup,
    /// Be refused without being answered.
    Refuse,
    /// Nothing: an acknowledgement.
    Acknowledge,
}

/// How an order to the provider went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderResult {
    /// Done; for a new leg, the provider's id of it.
    Done {
        /// The provider's id of the new leg.
        provider_id: Option<Box<str>>,
    },
    /// Refused: nothing was done and repeating will not help.
    Refused {
        /// The provider's error code or HTTP status.
        code: u32,
    },
    /// No clear answer: it may or may not have been done.
    InDoubt,
    /// There is no such leg, or it is over.
    NotFound,
}

/// Who asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// The agent who has the call.
    Agent(AgentId),
    /// A supervisor, an admin or a program.
    Operator,
}

/// What people do with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Put the customer on hold.
    Hold,
    /// Take the customer back.
    Resume,
    /// End the call.
    Hangup,
    /// Note what the call was about.
    Dispose {
        /// The chosen disposition.
        disposition_id: Option<DispositionId>,
        /// A free note.
        note: Option<Box<str>>,
    },
}

/// What an agent session knows of its part in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentView {
    /// The offer still rings.
    Ringing,
    /// The agent has the call.
    Engaged {
        /// Whether the session knows that they speak.
        speaking: bool,
    },
    /// The agent does after-call work until then.
    WrappingUp {
        /// Its deadline.
        until: Timestamp,
    },
    /// The agent has nothing to do with the call any more.
    Free {
        /// How the offer ended, if the session still knows.
        outcome: Option<OfferOutcome>,
    },
}

/// An offer that an agent session made by reserving itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferMade {
    /// The offer.
    pub offer_id: OfferId,
    /// The queue that proposed it.
    pub queue_id: Option<QueueId>,
    /// Who is reserved.
    pub agent_id: AgentId,
    /// Where the agent's phone is.
    pub address: Address,
    /// When it lapses.
    pub deadline: Timestamp,
    /// Why this agent.
    pub reason: OfferReason,
}

/// What may be asked of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CallCommand {
    /// A call arrives.
    Arrive(Box<Arrival>),
    /// A call shall be made.
    Dial(Box<DialRequest>),
    /// The provider tells something.
    Carrier(Box<CarrierNews>),
    /// An order to the provider has a result.
    Ordered {
        /// The leg it was about.
        leg_id: LegId,
        /// What was ordered.
        kind: OrderKind,
        /// How it went.
        result: OrderResult,
    },
    /// An agent is reserved for this call.
    Offer(Box<OfferMade>),
    /// An offer came to its end.
    OfferSettled {
        /// The offer.
        offer_id: OfferId,
        /// To whom it was made.
        agent_id: AgentId,
        /// How it ended.
        outcome: OfferOutcome,
    },
    /// An agent session answers what it knows of this call.
    Answered {
        /// The agent.
        agent_id: AgentId,
        /// The offer that was asked about.
        offer_id: Option<OfferId>,
        /// What the session knows.
        view: AgentView,
    },
    /// A queue gathers its calls anew: one that waits in it says so again.
    Announce {
        /// The queue.
        queue_id: QueueId,
    },
    /// The queue has no room.
    QueueFull {
        /// The queue.
        queue_id: QueueId,
    },
    /// Somebody does something with the call.
    Control {
        /// Who.
        by: By,
        /// What.
        control: Control,
    },
    /// The deadline has come.
    Tick,
    /// Changes nothing; answers with the summary.
    Show,
}

/// Which kind of order a result is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderKind {
    /// A leg to be placed.
    Place,
    /// A search for a leg whose placing is in doubt.
    Find,
    /// A look at a leg that should live.
    Check,
    /// A hold or its end.
    Hold {
        /// On hold or back.
        held: bool,
    },
    /// Anything whose failure changes nothing.
    Change,
}

/// What a call answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CallReply {
    /// What the leg that asked shall do.
    Document(Document),
    /// Done.
    Done(Box<crate::domain::record::CallSummary>),
}

/// Why a call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CallRefusal {
    /// There is no such call.
    #[error("call does not exist")]
    Unknown,
    /// The call exists already.
    #[error("call exists already")]
    Exists,
    /// The call is not in a state where this makes sense.
    #[error("call is {state}, which does not allow this")]
    WrongState {
        /// Its state.
        state: Cow<'static, str>,
    },
    /// The call belongs to another agent.
    #[error("call belongs to another agent")]
    NotYours,
    /// The offer is not for this call any more.
    #[error("offer does not stand any more")]
    OfferGone,
}
