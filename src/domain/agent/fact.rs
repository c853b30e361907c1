//! What can happen to an agent session.
//!
//! Each fact is one event on the agent's sockets, and its number in the journal is the event's
//! sequence. So a client that missed some gets exactly those, from whichever node, after any crash.

use serde::{Deserialize, Serialize};

use super::command::{Activity, AgentSettings};
use crate::domain::call::{CallBrief, OfferReason};
use crate::domain::id::{CallId, OfferId, QueueId, SocketId};
use crate::domain::time::Timestamp;

/// What can happen to an agent session. Times without a name are the fact's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentFact {
    /// A socket was opened.
    SocketOpened {
        /// The socket.
        socket_id: SocketId,
        /// The limits that apply.
        settings: Box<AgentSettings>,
    },
    /// A socket is gone.
    SocketClosed {
        /// The socket.
        socket_id: SocketId,
    },
    /// No socket came back in time.
    WentOffline,
    /// The limits changed.
    Configured {
        /// The limits that apply.
        settings: Box<AgentSettings>,
    },
    /// What the agent says to be doing changed.
    ActivitySet(Activity),
    /// A call is offered.
    OfferCreated {
        /// The offer.
        offer_id: OfferId,
        /// The queue it comes from.
        queue_id: QueueId,
        /// The call.
        call: Box<CallBrief>,
        /// When it lapses.
        deadline: Timestamp,
        /// Why this agent.
        reason: Box<OfferReason>,
    },
    /// The agent took it.
    OfferAccepted {
        /// The offer.
        offer_id: OfferId,
        /// The call.
        call_id: CallId,
    },
    /// The agent let it pass.
    OfferRejected {
        /// The offer.
        offer_id: OfferId,
        /// The call.
        call_id: CallId,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<Box<str>>,
        /// Until when no offers come.
        quiet_until: Timestamp,
    },
    /// Its deadline came.
    OfferTimedOut {
        /// The offer.
        offer_id: OfferId,
        /// The call.
        call_id: CallId,
        /// Until when no offers come.
        quiet_until: Timestamp,
    },
    /// The customer was gone.
    OfferCanceled {
        /// The offer.
        offer_id: OfferId,
        /// The call.
        call_id: CallId,
    },
    /// It was taken back.
    OfferRescinded {
        /// The offer.
        offer_id: OfferId,
        /// The call.
        call_id: CallId,
    },
    /// An outbound call was made for this agent.
    CallStarted {
        /// The call.
        call: Box<CallBrief>,
    },
    /// The agent's phone rings.
    CallRinging {
        /// The call.
        call_id: CallId,
    },
    /// The agent speaks with the customer.
    CallConnected {
        /// The call.
        call_id: CallId,
    },
    /// The customer is on hold.
    CallHeld {
        /// The call.
        call_id: CallId,
    },
    /// The customer is back.
    CallResumed {
        /// The call.
        call_id: CallId,
    },
    /// The agent's phone could not be reached.
    CallFailed {
        /// The call.
        call_id: CallId,
        /// Whether it was busy or broken, rather than not answered.
        busy: bool,
        /// Until when no offers come.
        quiet_until: Timestamp,
    },
    /// The call is over for this agent; with a deadline, after-call work begins.
    CallEnded {
        /// The call.
        call_id: CallId,
        /// Deadline of after-call work.
        wrap_up_until: Option<Timestamp>,
    },
    /// A note was taken on the call.
    CallDisposed {
        /// The call.
        call_id: CallId,
    },
    /// After-call work may take longer.
    WrapUpExtended {
        /// The call.
        call_id: CallId,
        /// Until then.
        until: Timestamp,
    },
    /// After-call work is done.
    WrapUpEnded {
        /// The call.
        call_id: CallId,
    },
    /// The agent is offered calls again after having let some pass.
    QuietEnded,
}

impl AgentFact {
    /// The event type in the journal and on the bus. Events of the call itself are told by the
    /// call, so what its agent sees of them has a name of its own here.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::SocketOpened { .. } => "agent.connected",
            Self::SocketClosed { .. } => "agent.disconnected",
            Self::WentOffline | Self::ActivitySet(_) | Self::QuietEnded => "agent.state_changed",
            Self::Configured { .. } => "agent.configured",
            Self::OfferCreated { .. } => "offer.created",
            Self::OfferAccepted { .. } => "offer.accepted",
            Self::OfferRejected { .. } => "offer.rejected",
            Self::OfferTimedOut { .. } => "offer.timeout",
            Self::OfferCanceled { .. } => "offer.canceled",
            Self::OfferRescinded { .. } => "offer.rescinded",
            Self::CallStarted { .. } => "agent.call_started",
            Self::CallRinging { .. } => "agent.call_ringing",
            Self::CallConnected { .. } => "agent.call_connected",
            Self::CallHeld { .. } => "agent.call_held",
            Self::CallResumed { .. } => "agent.call_resumed",
            Self::CallFailed { .. } => "agent.call_failed",
            Self::CallEnded { .. } => "agent.call_ended",
            Self::CallDisposed { .. } => "agent.call_disposed",
            Self::WrapUpExtended { .. } => "agent.wrap_up_extended",
            Self::WrapUpEnded { .. } => "agent.wrap_up_ended",
        }
    }
}

/// The name under which a stored event type goes to the agent's own sockets: what the agent sees
/// of its call carries the call's name there.
#[must_use]
pub fn socket_event(kind: &str) -> &str {
    match kind {
        "agent.call_started" => "call.started",
        "agent.call_ringing" => "call.ringing",
        "agent.call_connected" => "call.connected",
        "agent.call_held" => "call.held",
        "agent.call_resumed" => "call.resumed",
        "agent.call_failed" => "call.failed",
        "agent.call_ended" => "call.ended",
        "agent.call_disposed" => "call.disposed",
        "agent.wrap_up_extended" => "wrap_up.extended",
        "agent.wrap_up_ended" => "wrap_up.ended",
        other => other,
    }
}
