//! What may be asked of an agent session, what it answers, and what it wants done.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::address::Address;
use crate::domain::call::{AgentView, CallBrief, CallCommand, OfferReason};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId, SocketId};
use crate::domain::time::{Millis, Timestamp};

/// The one terminal outcome of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferOutcome {
    /// The agent took it.
    Accepted,
    /// The agent let it pass.
    Rejected,
    /// Its deadline came.
    Timeout,
    /// The customer was gone.
    Canceled,
    /// It was taken back: the agent left, or somebody else has the call.
    Rescinded,
}

/// The limits a session works under; from the configuration and the agent's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Where the agent's phone is.
    pub address: Address,
    /// Voice calls at a time.
    pub voice_capacity: u8,
    /// How long a session without a socket keeps its place.
    pub grace: Millis,
    /// Missed offers in a row after which the session is set to not available.
    pub missed_limit: u32,
    /// How long no offers come after the agent let one pass.
    pub reject_backoff: Millis,
    /// How long no offers come after the agent's phone was busy or failed.
    pub busy_backoff: Millis,
}

/// An activity: what the agent says to be doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its name, as in `available` or `lunch`.
    pub name: Box<str>,
    /// Whether offers may come.
    pub available: bool,
    /// Why, when not available.
    pub reason: Option<Box<str>>,
}

/// A queue wants this agent for a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// The offer.
    pub offer_id: OfferId,
    /// The queue that proposes.
    pub queue_id: QueueId,
    /// The call, as the agent will see it.
    pub call: CallBrief,
    /// How long it rings.
    pub ring: Millis,
    /// Why this agent.
    pub reason: OfferReason,
}

/// What may be asked of an agent session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentCommand {
    /// A socket was opened.
    Connect {
        /// The socket.
        socket_id: SocketId,
        /// The limits that apply now.
        settings: AgentSettings,
    },
    /// A socket is gone.
    Disconnect {
        /// The socket.
        socket_id: SocketId,
    },
    /// The program restarted: no socket of before is left.
    ForgetSockets,
    /// The limits changed.
    Configure {
        /// The limits that apply now.
        settings: AgentSettings,
    },
    /// The agent, or somebody for the agent, sets what the agent is doing.
    SetActivity(Activity),
    /// A queue wants this agent for a call.
    Reserve(Box<Reservation>),
    /// The agent takes an offer.
    Accept {
        /// The offer.
        offer_id: OfferId,
    },
    /// The agent lets an offer pass.
    Reject {
        /// The offer.
        offer_id: OfferId,
        /// Why.
        reason: Option<Box<str>>,
    },
    /// An outbound call was made for this agent.
    Engage {
        /// The call.
        call: Box<CallBrief>,
        /// The limits that apply, in case no socket is open.
        settings: Option<AgentSettings>,
    },
    /// A call tells its agent what happened.
    FromCall {
        /// The call.
        call_id: CallId,
        /// What.
        news: CallNews,
    },
    /// A call asks what the session knows of it.
    Inquire {
        /// The call.
        call_id: CallId,
        /// The offer in question.
        offer_id: Option<OfferId>,
    },
    /// The agent is done with after-call work.
    CompleteWrapUp {
        /// The call.
        call_id: CallId,
    },
    /// The agent needs longer for after-call work.
    ExtendWrapUp {
        /// The call.
        call_id: CallId,
        /// How much longer.
        by: Millis,
    },
    /// An operator frees a session that hangs on a call.
    ForceRelease,
    /// A queue gathers its agents anew: the session says again whether it is ready.
    Announce,
    /// The deadline has come.
    Tick,
    /// Changes nothing; answers with a snapshot.
    Show,
}

/// What a call tells its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallNews {
    /// The customer hung up while the offer rang.
    Gone {
        /// The offer.
        offer_id: OfferId,
    },
    /// The call went to somebody else, or does not know the offer.
    Rescinded {
        /// The offer.
        offer_id: OfferId,
    },
    /// The agent's phone rings.
    Ringing,
    /// The agent speaks with the customer.
    Connected,
    /// The customer is on hold.
    Held,
    /// The customer is back.
    Resumed,
    /// The agent's phone could not be reached; the call goes back to its queue.
    PhoneFailed {
        /// Whether it was busy or broken, rather than not answered.
        busy: bool,
    },
    /// The call is over for this agent.
    Ended {
        /// How long after-call work may take; none when they never spoke.
        wrap_up: Option<Millis>,
    },
    /// A note was taken on the call.
    Disposed,
}

/// What the engine is doing with an agent, as opposed to what the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoutingStatus {
    /// No socket, or an activity that is not available.
    OffQueue,
    /// Could take an offer.
    Idle,
    /// An offer rings.
    Offered,
    /// A call is being connected or spoken.
    Interacting,
    /// After-call work.
    WrappingUp,
    /// Available, but let offers pass and is left in peace for a while.
    NotResponding,
}

impl RoutingStatus {
    /// The word of figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OffQueue => "off_queue",
            Self::Idle => "idle",
            Self::Offered => "offered",
            Self::Interacting => "interacting",
            Self::WrappingUp => "wrapping_up",
            Self::NotResponding => "not_responding",
        }
    }
}

/// A session as the API and a fresh socket see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSnapshot {
    /// The agent.
    pub id: AgentId,
    /// Last event number of the session.
    pub sequence: u64,
    /// Whether a socket is open.
    pub connected: bool,
    /// What the agent says to be doing.
    pub activity: Activity,
    /// Since when.
    pub activity_since: Timestamp,
    /// What the engine does with the agent.
    pub routing_status: RoutingStatus,
    /// Offers that ring.
    pub offers: Vec<OfferView>,
    /// Calls the agent has, or works after.
    pub calls: Vec<EngagedCall>,
}

/// A ringing offer as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferView {
    /// The offer.
    pub offer_id: OfferId,
    /// The call.
    pub call: CallBrief,
    /// When it lapses.
    pub deadline: Timestamp,
    /// Why this agent.
    pub reason: OfferReason,
}

/// A call the agent has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngagedCall {
    /// The call.
    pub call: CallBrief,
    /// `connecting`, `connected`, `held` or `wrapping_up`.
    pub state: Box<str>,
    /// Deadline of after-call work.
    pub wrap_up_until: Option<Timestamp>,
}

/// What an agent session answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentReply {
    /// Done; the session as it is now.
    Done(Box<AgentSnapshot>),
    /// Reserved until then.
    Reserved {
        /// The deadline of the offer.
        deadline: Timestamp,
    },
}

/// Why a session did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AgentRefusal {
    /// The agent cannot take one more call now.
    #[error("agent cannot take a call now")]
    NotReady,
    /// The offer is over; this is how it ended, if it is still known.
    #[error("offer does not stand any more")]
    OfferGone {
        /// How it ended.
        outcome: Option<OfferOutcome>,
    },
    /// The agent has no such call.
    #[error("agent does not have this call")]
    NoSuchCall,
}

/// What an agent session wants done.
#[derive(Debug, Clone)]
pub enum AgentEffect {
    /// Tell a call something.
    TellCall {
        /// The call.
        call_id: CallId,
        /// What.
        command: Box<CallCommand>,
    },
    /// Tell the queues of this agent whether it is ready.
    Announce(Readiness),
    /// After a restart: no socket of before is left.
    ForgetSockets,
}

/// Whether an agent could take a call, and what the routing strategies need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it could take one.
    pub ready: bool,
    /// Since when it is idle.
    pub idle_since: Timestamp,
    /// When it was last offered a call.
    pub last_offer_at: Option<Timestamp>,
    /// Calls it has taken since it connected.
    pub calls_taken: u64,
}

/// A view for a call that asks.
#[must_use]
pub fn answer(agent_id: AgentId, offer_id: Option<OfferId>, view: AgentView) -> Box<CallCommand> {
    Box::new(CallCommand::Answered { agent_id, offer_id, view })
}
