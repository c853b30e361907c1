//! What a call is at one moment.

use super::fact::EndRecord;
use super::parts::{Direction, Leg, LegRole, LegStatus, Moment};
use super::{CallBrief, Overflow, QueueEntry, Routing};
use crate::domain::address::Address;
use crate::domain::id::{AgentId, CallId, DispositionId, LegId, OfferId};
use crate::domain::record::EntityRef;
use crate::domain::time::{Millis, Timestamp};

/// How long after an offer's deadline its session is asked what became of it.
const OFFER_SLACK: Millis = Millis::from_secs(2);
/// How long after its ringing time a leg may still report before it is given up.
const LEG_SLACK: Millis = Millis::from_secs(30);
/// How long the provider may take to report the customer gone once the conversation is over.
const PARTING_LIMIT: Millis = Millis::from_secs(10);
/// How long a last announcement may take.
const CLOSING_LIMIT: Millis = Millis::from_secs(30);
/// How long a message may take, with its announcement.
const VOICEMAIL_LIMIT: Millis = Millis::from_secs(240);
/// Longest conversation: the provider's own limit of four hours and five minutes for its reports.
const CONVERSATION_LIMIT: Millis = Millis::from_secs(4 * 3600 + 300);

/// An offer that the call knows of.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The offer.
    pub offer_id: OfferId,
    /// To whom.
    pub agent_id: AgentId,
    /// Where that agent's phone is.
    pub address: Address,
    /// When it lapses.
    pub deadline: Timestamp,
    /// The agent's leg, once the offer was accepted.
    pub leg_id: Option<LegId>,
}

/// Where a call stands in its life.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Before its first fact.
    Vacant,
    /// Outbound: its first leg is being placed, the customer has not answered.
    Placing,
    /// It waits.
    Queued,
    /// It is offered, or its agent's leg is being placed.
    Offered(Offer),
    /// Customer and agent speak.
    Connected {
        /// Since when the customer is on hold.
        held_since: Option<Timestamp>,
        /// Since when the agent's side is gone.
        parted_at: Option<Timestamp>,
    },
    /// The customer may leave a message.
    Voicemail {
        /// Since when.
        since: Timestamp,
    },
    /// The customer hears a last announcement.
    Closing {
        /// Since when.
        since: Timestamp,
    },
    /// The customer is gone; the agent does after-call work.
    WrapUp {
        /// Who.
        agent_id: AgentId,
        /// Until when.
        until: Timestamp,
    },
    /// Over.
    Ended,
}

/// Who speaks with the customer, and since when.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// The agent, if known.
    pub agent_id: Option<AgentId>,
    /// The leg the customer speaks with.
    pub leg_id: Option<LegId>,
    /// When we learned of it.
    pub at: Timestamp,
}

/// A call: one customer interaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// Where it stands.
    pub phase: Phase,
    /// Who called whom.
    pub direction: Direction,
    /// Who started it.
    pub from: Address,
    /// Who was called.
    pub to: Address,
    /// Name of the provider section.
    pub provider: Box<str>,
    /// The queue it belongs to.
    pub routing: Option<Box<Routing>>,
    /// The agent it was made for, and where that agent's phone is.
    pub wanted_agent: Option<(AgentId, Address)>,
    /// How long an outbound leg rings.
    pub ring: Millis,
    /// After-call work when no queue tells it.
    pub wrap_up: Millis,
    /// What its creator attached.
    pub context: Option<serde_json::Value>,
    /// The provider's error code when it came through the fallback address.
    pub fallback: Option<Box<str>>,
    /// Its connections, oldest first.
    pub legs: Vec<Leg>,
    /// The provider's ids of its rooms.
    pub rooms: Vec<Box<str>>,
    /// Keys of the provider's news that were taken in.
    pub seen: Vec<u64>,
    /// Recordings that were reported ready.
    pub recordings: Vec<Box<str>>,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Since when it waits, for its place.
    pub place_since: Option<Timestamp>,
    /// When it entered the queue it is in now, for that queue's limit.
    pub entered_at: Option<Timestamp>,
    /// Agents who let it pass, and until when they are left in peace.
    pub passed_by: Vec<(AgentId, Timestamp)>,
    /// Earliest time that the carrier told.
    pub carrier_first: Option<Timestamp>,
    /// The provider's own count of the wait.
    pub waited_reported: Option<Millis>,
    /// Who spoke with the customer.
    pub connection: Option<Connection>,
    /// Time on hold so far, finished holds only.
    pub held: Millis,
    /// Who asked for its end.
    pub hangup_by: Option<super::EndedBy>,
    /// How it left its queue, when a limit decided.
    pub exit: Option<super::ExitReason>,
    /// Whether a message was left.
    pub has_voicemail: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<EndRecord>,
    /// What it was about.
    pub disposition_id: Option<DispositionId>,
    /// The agent's note.
    pub note: Option<Box<str>>,
}

impl Call {
    /// A call before its first fact.
    #[must_use]
    pub fn vacant(entity: EntityRef) -> Self {
        Self {
            id: CallId::from_uuid(entity.id),
            phase: Phase::Vacant,
            direction: Direction::Inbound,
            from: Address::Word("".into()),
            to: Address::Word("".into()),
            provider: "".into(),
            routing: None,
            wanted_agent: None,
            ring: Millis(0),
            wrap_up: Millis(0),
            context: None,
            fallback: None,
            legs: Vec::new(),
            rooms: Vec::new(),
            seen: Vec::new(),
            recordings: Vec::new(),
            received_at: Timestamp::default(),
            place_since: None,
            entered_at: None,
            passed_by: Vec::new(),
            carrier_first: None,
            waited_reported: None,
            connection: None,
            held: Millis(0),
            hangup_by: None,
            exit: None,
            has_voicemail: false,
            ended_at: None,
            end: None,
            disposition_id: None,
            note: None,
        }
    }

    /// The customer's leg.
    #[must_use]
    pub fn customer(&self) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.role == LegRole::Customer)
    }

    /// One leg.
    #[must_use]
    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    /// The agent who has the call now: offered, speaking, or working after it.
    #[must_use]
    pub fn current_agent(&self) -> Option<AgentId> {
        match &self.phase {
            Phase::Offered(offer) => Some(offer.agent_id),
            Phase::Connected { .. } => self.connection.as_ref().and_then(|connection| connection.agent_id),
            Phase::WrapUp { agent_id, .. } => Some(*agent_id),
            Phase::Placing => self.wanted_agent.as_ref().map(|(agent_id, _)| *agent_id),
            Phase::Vacant
            | Phase::Queued
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::Ended => None,
        }
    }

    /// The agent that lists show: who has it, or who spoke with the customer.
    #[must_use]
    pub fn shown_agent(&self) -> Option<AgentId> {
        self.current_agent().or_else(|| self.connection.as_ref().and_then(|connection| connection.agent_id))
    }

    /// The number of ours that the customer sees or called.
    #[must_use]
    pub fn own_number(&self) -> &Address {
        match self.direction {
            Direction::Inbound => &self.to,
            Direction::Outbound => &self.from,
        }
    }

    /// The customer's address.
    #[must_use]
    pub fn customer_address(&self) -> &Address {
        match self.direction {
            Direction::Inbound => &self.from,
            Direction::Outbound => &self.to,
        }
    }

    /// How long the agent has for after-call work.
    #[must_use]
    pub fn wrap_up_time(&self) -> Millis {
        self.routing.as_ref().map_or(self.wrap_up, |routing| routing.wrap_up)
    }

    /// The room's name at the provider: its own id once known, else ours.
    #[must_use]
    pub fn room(&self) -> Box<str> {
        self.rooms.last().cloned().unwrap_or_else(|| self.id.to_string().into())
    }

    /// The word for the phase.
    #[must_use]
    pub const fn state_word(&self) -> &'static str {
        match &self.phase {
            Phase::Vacant | Phase::Placing => "received",
            Phase::Queued => "queued",
            Phase::Offered(_) => "offered",
            Phase::Connected { held_since: Some(_), .. } => "held",
            Phase::Connected { held_since: None, .. } => "connected",
            Phase::Voicemail { .. } => "voicemail",
            Phase::Closing { .. } => "closing",
            Phase::WrapUp { .. } => "wrap_up",
            Phase::Ended => "ended",
        }
    }

    /// The call as an agent sees it.
    #[must_use]
    pub fn brief(&self) -> CallBrief {
        CallBrief {
            id: self.id,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            queue_id: self.routing.as_ref().map(|routing| routing.queue_id),
            queue_name: self.routing.as_ref().map(|routing| routing.queue_name.clone()),
            queued_at: self.place_since,
            context: self.context.clone(),
        }
    }

    /// The call as its queue's index sees it.
    #[must_use]
    pub fn queue_entry(&self) -> Option<QueueEntry> {
        let routing = self.routing.as_ref()?;
        Some(QueueEntry {
            call_id: self.id,
            queue_id: routing.queue_id,
            priority: routing.priority,
            since: self.place_since?,
            skills: routing.skills.clone(),
            ring: routing.ring,
            passed_by: self.passed_by.clone(),
            brief: self.brief(),
        })
    }

    /// Whether the queue's limit leads to a message.
    #[must_use]
    pub fn overflows_to_voicemail(&self) -> bool {
        self.routing.as_ref().is_some_and(|routing| routing.overflow == Overflow::Voicemail)
    }

    /// When the call wants to be woken: the first of its limits.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Vacant | Phase::Ended => None,
            Phase::Placing => Some(self.placing_limit().unwrap_or(self.received_at + LEG_SLACK)),
            Phase::Queued => {
                let limit = self.routing.as_ref().map_or(LEG_SLACK, |routing| routing.max_wait);
                Some(self.entered_at.unwrap_or(self.received_at) + limit)
            }
            Phase::Offered(offer) => Some(match offer.leg_id {
                None => offer.deadline + OFFER_SLACK,
                Some(_) => self.placing_limit().unwrap_or(offer.deadline + LEG_SLACK),
            }),
            Phase::Connected { parted_at: Some(at), .. } => Some(*at + PARTING_LIMIT),
            Phase::Connected { parted_at: None, .. } => {
                self.connection.as_ref().map(|connection| connection.at + CONVERSATION_LIMIT)
            }
            Phase::Voicemail { since } => Some(*since + VOICEMAIL_LIMIT),
            Phase::Closing { since } => Some(*since + CLOSING_LIMIT),
            Phase::WrapUp { until, .. } => {
                let wrap_up = *until + OFFER_SLACK;
                let legs = self.ended_at.filter(|_| self.has_live_agent_leg()).map(|at| at + PARTING_LIMIT);
                Some(legs.map_or(wrap_up, |legs| legs.min(wrap_up)))
            }
        }
    }

    /// When the newest leg that we placed and that was not answered must be given up.
    fn placing_limit(&self) -> Option<Timestamp> {
        self.legs
            .iter()
            .filter(|leg| leg.attempt.is_some() && leg.status < LegStatus::Connected)
            .map(|leg| leg.started.ours + self.ring_for(leg) + LEG_SLACK)
            .next_back()
    }

    /// How long a leg rings.
    #[must_use]
    pub fn ring_for(&self, leg: &Leg) -> Millis {
        match (leg.role, &self.routing) {
            (LegRole::Agent, Some(routing)) => routing.ring,
            (LegRole::Agent, None) | (LegRole::Customer | LegRole::Observed, _) => self.ring,
        }
    }

    /// Whether an agent's leg is not known to be over.
    #[must_use]
    pub fn has_live_agent_leg(&self) -> bool {
        self.legs.iter().any(|leg| leg.role == LegRole::Agent && leg.status < LegStatus::Ended)
    }

    /// When the customer's wait began, on both clocks.
    #[must_use]
    pub fn wait_start(&self) -> Option<Moment> {
        let ours = self.place_since?;
        let carrier = match self.direction {
            Direction::Inbound => self.carrier_first,
            Direction::Outbound => {
                self.customer().and_then(|leg| leg.answered).and_then(|moment| moment.carrier)
            }
        };
        Some(Moment { ours, carrier })
    }

    /// When the conversation began, on both clocks.
    #[must_use]
    pub fn answered_at(&self) -> Option<Moment> {
        let connection = self.connection.as_ref()?;
        let leg = connection.leg_id.and_then(|id| self.leg(id)).or_else(|| self.customer());
        // A customer who waited was answered by the platform long before the conversation.
        let moment = leg.filter(|leg| connection.leg_id.is_some() || leg.role == LegRole::Customer);
        Some(moment.and_then(|leg| leg.answered).unwrap_or(Moment { ours: connection.at, carrier: None }))
    }

    /// When the conversation or the wait was over, on both clocks.
    #[must_use]
    pub fn parted_at(&self) -> Option<Moment> {
        let customer = self.customer().and_then(|leg| leg.ended);
        let partner = self
            .connection
            .as_ref()
            .and_then(|connection| connection.leg_id)
            .and_then(|id| self.leg(id))
            .and_then(|leg| leg.ended);
        let told = match (customer, partner) {
            (Some(one), Some(other)) => Some(one.earlier(other)),
            (one, other) => one.or(other),
        };
        told.or(self.ended_at.map(|ours| Moment { ours, carrier: None }))
    }
}
