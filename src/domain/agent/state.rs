//! What an agent session is at one moment, and how facts change it.

use super::command::{
    Activity, AgentSettings, AgentSnapshot, EngagedCall, OfferOutcome, OfferView, Readiness, RoutingStatus,
};
use super::fact::AgentFact;
use crate::domain::address::Address;
use crate::domain::call::{AgentView, CallBrief};
use crate::domain::id::{AgentId, CallId, OfferId, SocketId};
use crate::domain::record::EntityRef;
use crate::domain::time::{Millis, Timestamp};

/// After this time with one call the session asks the call whether it still has it.
const ENGAGED_CHECK: Millis = Millis::from_secs(60);
/// Offers whose outcome is remembered, for calls that ask late.
const REMEMBERED_OFFERS: usize = 8;

/// What an agent has to do with one call.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// It rings.
    Offered(OfferView),
    /// The agent has it.
    Engaged {
        /// The call.
        call: CallBrief,
        /// The offer it came by.
        offer_id: Option<OfferId>,
        /// How far it is.
        stage: Stage,
        /// Since when.
        since: Timestamp,
    },
    /// After-call work.
    WrapUp {
        /// The call.
        call: CallBrief,
        /// Until when.
        until: Timestamp,
    },
}

/// How far a call is, for its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The agent's phone is being called.
    Connecting,
    /// It rings.
    Ringing,
    /// They speak.
    Connected,
    /// The customer is on hold.
    Held,
}

impl Work {
    /// The call it is about.
    #[must_use]
    pub const fn call(&self) -> &CallBrief {
        match self {
            Self::Offered(offer) => &offer.call,
            Self::Engaged { call, .. } | Self::WrapUp { call, .. } => call,
        }
    }
}

/// One agent, however many sockets it has.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSession {
    /// The agent.
    pub id: AgentId,
    /// Facts so far, which is the last event number.
    pub sequence: u64,
    /// The limits that apply.
    pub settings: AgentSettings,
    /// Open sockets.
    pub sockets: Vec<SocketId>,
    /// Until when a session without sockets keeps its place.
    pub grace_until: Option<Timestamp>,
    /// What the agent says to be doing.
    pub activity: Activity,
    /// Since when.
    pub activity_since: Timestamp,
    /// What it has to do.
    pub work: Vec<Work>,
    /// Offers missed in a row.
    pub misses: u32,
    /// Until when no offers come.
    pub quiet_until: Option<Timestamp>,
    /// Since when it has nothing to do.
    pub idle_since: Timestamp,
    /// When it was last offered a call.
    pub last_offer_at: Option<Timestamp>,
    /// Calls taken since it connected first.
    pub calls_taken: u64,
    /// How the last offers ended, newest last.
    pub settled: Vec<(OfferId, OfferOutcome)>,
}

fn offline() -> Activity {
    Activity { name: "offline".into(), available: false, reason: None }
}

impl AgentSession {
    /// A session before its first fact.
    #[must_use]
    pub fn vacant(entity: EntityRef) -> Self {
        Self {
            id: AgentId::from_uuid(entity.id),
            sequence: 0,
            settings: AgentSettings {
                address: Address::Word("".into()),
                voice_capacity: 1,
                grace: Millis(0),
                missed_limit: 0,
                reject_backoff: Millis(0),
                busy_backoff: Millis(0),
            },
            sockets: Vec::new(),
            grace_until: None,
            activity: offline(),
            activity_since: Timestamp::default(),
            work: Vec::new(),
            misses: 0,
            quiet_until: None,
            idle_since: Timestamp::default(),
            last_offer_at: None,
            calls_taken: 0,
            settled: Vec::new(),
        }
    }

    /// Takes in one fact.
    pub fn take(&mut self, fact: &AgentFact, at: Timestamp) {
        self.sequence += 1;
        match fact {
            AgentFact::SocketOpened { socket_id, settings } => {
                self.sockets.push(*socket_id);
                self.settings = (**settings).clone();
                self.grace_until = None;
                self.idle_since = self.idle_since.max(at);
            }
            AgentFact::SocketClosed { socket_id } => {
                self.sockets.retain(|known| known != socket_id);
                self.grace_until = self.sockets.is_empty().then_some(at + self.settings.grace);
            }
            AgentFact::WentOffline => {
                self.grace_until = None;
                self.quiet_until = None;
                self.set_activity(offline(), at);
            }
            AgentFact::Configured { settings } => self.settings = (**settings).clone(),
            AgentFact::ActivitySet(activity) => {
                if activity.available {
                    self.misses = 0;
                    self.quiet_until = None;
                }
                self.set_activity(activity.clone(), at);
            }
            AgentFact::QuietEnded => self.quiet_until = None,
            AgentFact::OfferCreated { .. }
            | AgentFact::OfferAccepted { .. }
            | AgentFact::OfferRejected { .. }
            | AgentFact::OfferTimedOut { .. }
            | AgentFact::OfferCanceled { .. }
            | AgentFact::OfferRescinded { .. } => self.take_offer(fact, at),
            AgentFact::CallStarted { .. }
            | AgentFact::CallRinging { .. }
            | AgentFact::CallConnected { .. }
            | AgentFact::CallHeld { .. }
            | AgentFact::CallResumed { .. }
            | AgentFact::CallFailed { .. }
            | AgentFact::CallEnded { .. }
            | AgentFact::CallDisposed { .. }
            | AgentFact::WrapUpExtended { .. }
            | AgentFact::WrapUpEnded { .. } => self.take_call(fact, at),
        }
    }

    fn set_activity(&mut self, activity: Activity, at: Timestamp) {
        if activity.available && !self.activity.available {
            self.idle_since = at;
        }
        self.activity = activity;
        self.activity_since = at;
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands over these kinds only")]
    fn take_offer(&mut self, fact: &AgentFact, at: Timestamp) {
        match fact {
            AgentFact::OfferCreated { offer_id, call, deadline, reason, .. } => {
                self.last_offer_at = Some(at);
                self.work.push(Work::Offered(OfferView {
                    offer_id: *offer_id,
                    call: (**call).clone(),
                    deadline: *deadline,
                    reason: (**reason).clone(),
                }));
            }
            AgentFact::OfferAccepted { offer_id, .. } => {
                if let Some(call) = self.settle(*offer_id, OfferOutcome::Accepted) {
                    self.misses = 0;
                    self.calls_taken += 1;
                    let stage = Stage::Connecting;
                    self.work.push(Work::Engaged { call, offer_id: Some(*offer_id), stage, since: at });
                }
            }
            AgentFact::OfferRejected { offer_id, quiet_until, .. } => {
                self.settle(*offer_id, OfferOutcome::Rejected);
                self.quiet_until = Some(*quiet_until);
            }
            AgentFact::OfferTimedOut { offer_id, quiet_until, .. } => {
                self.settle(*offer_id, OfferOutcome::Timeout);
                self.misses += 1;
                self.quiet_until = Some(*quiet_until);
            }
            AgentFact::OfferCanceled { offer_id, .. } => {
                self.settle(*offer_id, OfferOutcome::Canceled);
            }
            AgentFact::OfferRescinded { offer_id, .. } => {
                self.settle(*offer_id, OfferOutcome::Rescinded);
            }
            _ => {}
        }
    }

    /// Ends an offer; answers with its call if it was ringing.
    fn settle(&mut self, offer_id: OfferId, outcome: OfferOutcome) -> Option<CallBrief> {
        let place = self.work.iter().position(|work| work.rings(offer_id))?;
        let call = self.work.remove(place).call().clone();
        if self.settled.len() == REMEMBERED_OFFERS {
            self.settled.remove(0);
        }
        self.settled.push((offer_id, outcome));
        Some(call)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands over these kinds only")]
    fn take_call(&mut self, fact: &AgentFact, at: Timestamp) {
        match fact {
            AgentFact::CallStarted { call } => {
                self.calls_taken += 1;
                let stage = Stage::Connecting;
                self.work.push(Work::Engaged { call: (**call).clone(), offer_id: None, stage, since: at });
            }
            AgentFact::CallRinging { call_id } => self.set_stage(*call_id, Stage::Ringing),
            AgentFact::CallConnected { call_id } | AgentFact::CallResumed { call_id } => {
                self.set_stage(*call_id, Stage::Connected);
            }
            AgentFact::CallHeld { call_id } => self.set_stage(*call_id, Stage::Held),
            AgentFact::CallFailed { call_id, busy, quiet_until } => {
                self.drop_work(*call_id, at);
                self.quiet_until = Some(*quiet_until);
                self.misses += u32::from(!*busy);
            }
            AgentFact::CallEnded { call_id, wrap_up_until } => {
                let call = self.drop_work(*call_id, at);
                if let (Some(call), Some(until)) = (call, wrap_up_until) {
                    self.work.push(Work::WrapUp { call, until: *until });
                }
            }
            AgentFact::WrapUpExtended { call_id, until } => {
                for work in &mut self.work {
                    if let Work::WrapUp { call, until: limit } = work
                        && call.id == *call_id
                    {
                        *limit = *until;
                    }
                }
            }
            AgentFact::WrapUpEnded { call_id } => {
                self.drop_work(*call_id, at);
            }
            _ => {}
        }
    }

    fn set_stage(&mut self, call_id: CallId, next: Stage) {
        for work in &mut self.work {
            if let Work::Engaged { call, stage, .. } = work
                && call.id == call_id
            {
                *stage = next;
            }
        }
    }

    fn drop_work(&mut self, call_id: CallId, at: Timestamp) -> Option<CallBrief> {
        let place = self.work.iter().position(|work| work.call().id == call_id)?;
        self.idle_since = at;
        Some(self.work.remove(place).call().clone())
    }

    /// What the agent has to do with a call.
    #[must_use]
    pub fn work_on(&self, call_id: CallId) -> Option<&Work> {
        self.work.iter().find(|work| work.call().id == call_id)
    }

    /// What to answer a call that asks.
    #[must_use]
    pub fn view_of(&self, call_id: CallId, offer_id: Option<OfferId>) -> AgentView {
        match self.work_on(call_id) {
            Some(Work::Offered(offer)) if offer_id.is_none_or(|asked| asked == offer.offer_id) => {
                AgentView::Ringing
            }
            Some(Work::Engaged { stage, .. }) => stage.view(),
            Some(Work::WrapUp { until, .. }) => AgentView::WrappingUp { until: *until },
            Some(Work::Offered(_)) | None => {
                let known = self.settled.iter().find(|(settled, _)| Some(*settled) == offer_id);
                AgentView::Free { outcome: known.map(|(_, outcome)| *outcome) }
            }
        }
    }

    /// Whether one more call fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.work.len() < usize::from(self.settings.voice_capacity)
    }

    /// What the queues need to know.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let ready = !self.sockets.is_empty()
            && self.activity.available
            && self.quiet_until.is_none()
            && self.has_room();
        Readiness {
            ready,
            idle_since: self.idle_since,
            last_offer_at: self.last_offer_at,
            calls_taken: self.calls_taken,
        }
    }

    /// What the engine does with the agent.
    #[must_use]
    pub fn routing_status(&self) -> RoutingStatus {
        let engaged = self.work.iter().any(|work| matches!(work, Work::Engaged { .. }));
        let rings = self.work.iter().any(|work| matches!(work, Work::Offered(_)));
        match (engaged, rings, self.work.is_empty()) {
            (true, _, _) => RoutingStatus::Interacting,
            (false, true, _) => RoutingStatus::Offered,
            (false, false, false) => RoutingStatus::WrappingUp,
            (false, false, true) if self.sockets.is_empty() || !self.activity.available => {
                RoutingStatus::OffQueue
            }
            (false, false, true) if self.quiet_until.is_some() => RoutingStatus::NotResponding,
            (false, false, true) => RoutingStatus::Idle,
        }
    }

    /// When the session wants to be woken: the first of its deadlines.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let limits = self.work.iter().filter_map(|work| match work {
            Work::Offered(offer) => Some(offer.deadline),
            Work::WrapUp { until, .. } => Some(*until),
            Work::Engaged { .. } => None,
        });
        let limit = limits.chain(self.grace_until).chain(self.quiet_until).min();
        // A check lies in the past for as long as the call lasts, so it must not hide a limit.
        let checks = self.work.iter().filter_map(|work| match work {
            Work::Engaged { since, .. } => Some(*since + ENGAGED_CHECK),
            Work::Offered(_) | Work::WrapUp { .. } => None,
        });
        limit.or(checks.min())
    }

    /// The session as the API and a fresh socket see it.
    #[must_use]
    pub fn snapshot(&self) -> AgentSnapshot {
        let offers = self.work.iter().filter_map(|work| match work {
            Work::Offered(offer) => Some(offer.clone()),
            Work::Engaged { .. } | Work::WrapUp { .. } => None,
        });
        let calls = self.work.iter().filter_map(|work| {
            let (call, state, wrap_up_until) = match work {
                Work::Offered(_) => return None,
                Work::Engaged { call, stage, .. } => (call, stage.word(), None),
                Work::WrapUp { call, until } => (call, "wrapping_up", Some(*until)),
            };
            Some(EngagedCall { call: call.clone(), state: state.into(), wrap_up_until })
        });
        AgentSnapshot {
            id: self.id,
            sequence: self.sequence,
            connected: !self.sockets.is_empty(),
            activity: self.activity.clone(),
            activity_since: self.activity_since,
            routing_status: self.routing_status(),
            offers: offers.collect(),
            calls: calls.collect(),
        }
    }
}

impl Work {
    /// Whether this offer rings here.
    #[must_use]
    pub fn rings(&self, offer_id: OfferId) -> bool {
        match self {
            Self::Offered(offer) => offer.offer_id == offer_id,
            Self::Engaged { .. } | Self::WrapUp { .. } => false,
        }
    }

    /// The offer by which the agent got the call.
    #[must_use]
    pub const fn taken(&self) -> Option<OfferId> {
        match self {
            Self::Engaged { offer_id, .. } => *offer_id,
            Self::Offered(_) | Self::WrapUp { .. } => None,
        }
    }
}

impl Stage {
    /// What to tell a call that is this far.
    #[must_use]
    pub const fn view(self) -> AgentView {
        AgentView::Engaged { speaking: matches!(self, Self::Connected | Self::Held) }
    }

    /// The word that snapshots show.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ringing => "ringing",
            Self::Connected => "connected",
            Self::Held => "held",
        }
    }
}
