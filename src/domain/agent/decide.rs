//! Deciding: sockets, activities, reservations, calls, deadlines.

use super::command::{
    Activity, AgentCommand, AgentEffect, AgentRefusal, AgentReply, AgentSettings, CallNews, OfferOutcome,
    Reservation, answer,
};
use super::fact::AgentFact;
use super::state::{AgentSession, Stage, Work};
use crate::domain::call::{AgentView, CallBrief, CallCommand, OfferMade};
use crate::domain::id::{CallId, OfferId, SocketId};
use crate::domain::machine::{Decision, Machine};
use crate::domain::record::{EntityRef, ProviderRef, Summary};
use crate::domain::time::{Millis, Timestamp};

/// The reason shown when the engine itself set an agent to not available.
pub const MISSED_OFFERS: &str = "missed_offers";
/// The activity an agent is put into then.
pub const NOT_READY: &str = "not_ready";

/// A decision in the making: facts are applied to a copy at once.
struct Draft {
    session: AgentSession,
    now: Timestamp,
    facts: Vec<AgentFact>,
    effects: Vec<AgentEffect>,
}

impl Draft {
    fn note(&mut self, fact: AgentFact) {
        self.session.take(&fact, self.now);
        self.facts.push(fact);
    }

    fn tell(&mut self, call_id: CallId, command: CallCommand) {
        self.effects.push(AgentEffect::TellCall { call_id, command: Box::new(command) });
    }

    fn tell_view(&mut self, call_id: CallId, offer_id: Option<OfferId>, view: AgentView) {
        let command = answer(self.session.id, offer_id, view);
        self.effects.push(AgentEffect::TellCall { call_id, command });
    }

    fn settled(&mut self, call_id: CallId, offer_id: OfferId, outcome: OfferOutcome) {
        let agent_id = self.session.id;
        self.tell(call_id, CallCommand::OfferSettled { offer_id, agent_id, outcome });
    }
}

impl Machine for AgentSession {
    type Command = AgentCommand;
    type Fact = AgentFact;
    type Effect = AgentEffect;
    type Reply = AgentReply;
    type Refusal = AgentRefusal;

    fn vacant(entity: EntityRef) -> Self {
        Self::vacant(entity)
    }

    fn decide(&self, command: AgentCommand, now: Timestamp) -> Result<Decision<Self>, AgentRefusal> {
        let mut draft = Draft { session: self.clone(), now, facts: Vec::new(), effects: Vec::new() };
        let reserved = draft.carry_out(command)?;
        let after = draft.session.readiness();
        if after != self.readiness() {
            draft.effects.push(AgentEffect::Announce(after));
        }
        let reply = match reserved {
            Some(deadline) => AgentReply::Reserved { deadline },
            None => AgentReply::Done(Box::new(draft.session.snapshot())),
        };
        Ok(Decision { facts: draft.facts, effects: draft.effects, reply })
    }

    fn apply(&mut self, fact: &AgentFact, at: Timestamp) {
        self.take(fact, at);
    }

    fn resume(&self, _now: Timestamp) -> Vec<AgentEffect> {
        let mut effects = Vec::new();
        if !self.sockets.is_empty() {
            effects.push(AgentEffect::ForgetSockets);
        }
        for work in &self.work {
            let (call_id, offer_id, view) = match work {
                // The call may not have heard of the offer, or of its end.
                Work::Offered(offer) => {
                    effects.push(AgentEffect::TellCall {
                        call_id: offer.call.id,
                        command: Box::new(self.offer_again(offer)),
                    });
                    continue;
                }
                Work::Engaged { call, offer_id, stage, .. } => (call.id, *offer_id, stage.view()),
                Work::WrapUp { call, until } => (call.id, None, AgentView::WrappingUp { until: *until }),
            };
            effects.push(AgentEffect::TellCall { call_id, command: answer(self.id, offer_id, view) });
        }
        effects.push(AgentEffect::Announce(self.readiness()));
        effects
    }

    fn tick() -> AgentCommand {
        AgentCommand::Tick
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.wake_at()
    }

    fn summary(&self) -> Summary {
        let idle = self.sockets.is_empty() && self.work.is_empty() && self.grace_until.is_none();
        Summary::Agent { open: !idle }
    }

    fn provider_refs(&self) -> Vec<ProviderRef> {
        Vec::new()
    }

    fn is_final(&self) -> bool {
        false
    }

    fn may_park(&self) -> bool {
        self.sockets.is_empty() && self.work.is_empty()
    }

    fn event_type(fact: &AgentFact) -> &'static str {
        fact.event_type()
    }
}

impl AgentSession {
    fn offer_again(&self, offer: &super::OfferView) -> CallCommand {
        CallCommand::Offer(Box::new(OfferMade {
            offer_id: offer.offer_id,
            queue_id: offer.call.queue_id,
            agent_id: self.id,
            address: self.settings.address.clone(),
            deadline: offer.deadline,
            reason: offer.reason.clone(),
        }))
    }

    fn ringing(&self, offer_id: OfferId) -> Result<CallId, AgentRefusal> {
        let work = self.work.iter().find(|work| work.rings(offer_id));
        work.map(|work| work.call().id)
            .ok_or_else(|| AgentRefusal::OfferGone { outcome: self.outcome_of(offer_id) })
    }

    fn outcome_of(&self, offer_id: OfferId) -> Option<OfferOutcome> {
        self.settled.iter().find(|(known, _)| *known == offer_id).map(|(_, outcome)| *outcome)
    }
}

impl Draft {
    /// Carries out a command; answers with a deadline when it was a reservation.
    fn carry_out(&mut self, command: AgentCommand) -> Result<Option<Timestamp>, AgentRefusal> {
        match command {
            AgentCommand::Connect { socket_id, settings } => self.connect(socket_id, settings),
            AgentCommand::Disconnect { socket_id } => self.disconnect(socket_id),
            AgentCommand::ForgetSockets => {
                for socket_id in self.session.sockets.clone() {
                    self.disconnect(socket_id);
                }
            }
            AgentCommand::Configure { settings } => self.configure(settings),
            AgentCommand::SetActivity(activity) => self.set_activity(activity),
            AgentCommand::Reserve(reservation) => return self.reserve(*reservation).map(Some),
            AgentCommand::Accept { offer_id } => self.accept(offer_id)?,
            AgentCommand::Reject { offer_id, reason } => self.reject(offer_id, reason)?,
            AgentCommand::Engage { call, settings } => self.engage(*call, settings),
            AgentCommand::FromCall { call_id, news } => self.hear(call_id, news),
            AgentCommand::Inquire { call_id, offer_id } => {
                let view = self.session.view_of(call_id, offer_id);
                let taken = self.session.work_on(call_id).and_then(Work::taken);
                self.tell_view(call_id, taken.or(offer_id), view);
            }
            AgentCommand::CompleteWrapUp { call_id } => self.complete_wrap_up(call_id)?,
            AgentCommand::ExtendWrapUp { call_id, by } => self.extend_wrap_up(call_id, by)?,
            AgentCommand::ForceRelease => self.force_release(),
            AgentCommand::Announce => self.effects.push(AgentEffect::Announce(self.session.readiness())),
            AgentCommand::Tick => self.tick(),
            AgentCommand::Show => {}
        }
        Ok(None)
    }

    fn connect(&mut self, socket_id: SocketId, settings: AgentSettings) {
        if !self.session.sockets.contains(&socket_id) {
            self.note(AgentFact::SocketOpened { socket_id, settings: Box::new(settings) });
        }
    }

    fn disconnect(&mut self, socket_id: SocketId) {
        if !self.session.sockets.contains(&socket_id) {
            return;
        }
        self.note(AgentFact::SocketClosed { socket_id });
        // Nobody sees the offer any more: the customer must not wait for its deadline.
        if self.session.sockets.is_empty() {
            self.rescind_offers();
        }
    }

    fn rescind_offers(&mut self) {
        let ringing: Vec<_> = self.session.work.iter().filter_map(offer_and_call).collect();
        for (offer_id, call_id) in ringing {
            self.note(AgentFact::OfferRescinded { offer_id, call_id });
            self.settled(call_id, offer_id, OfferOutcome::Rescinded);
        }
    }

    fn configure(&mut self, settings: AgentSettings) {
        if self.session.settings != settings {
            self.note(AgentFact::Configured { settings: Box::new(settings) });
        }
    }

    fn set_activity(&mut self, activity: Activity) {
        if self.session.activity != activity || self.session.quiet_until.is_some() {
            self.note(AgentFact::ActivitySet(activity));
        }
    }

    fn reserve(&mut self, reservation: Reservation) -> Result<Timestamp, AgentRefusal> {
        let Reservation { offer_id, queue_id, call, ring, reason } = reservation;
        let known = self.session.work.iter().find(|work| work.rings(offer_id));
        if let Some(Work::Offered(offer)) = known {
            return Ok(offer.deadline);
        }
        // An agent who has this very call already cannot take it once more.
        let has_it = self.session.work_on(call.id).is_some();
        if has_it || !self.session.readiness().ready || self.session.outcome_of(offer_id).is_some() {
            return Err(AgentRefusal::NotReady);
        }
        let (deadline, call_id) = (self.now + ring, call.id);
        let made = OfferMade {
            offer_id,
            queue_id: Some(queue_id),
            agent_id: self.session.id,
            address: self.session.settings.address.clone(),
            deadline,
            reason: reason.clone(),
        };
        let (call, reason) = (Box::new(call), Box::new(reason));
        self.note(AgentFact::OfferCreated { offer_id, queue_id, call, deadline, reason });
        self.tell(call_id, CallCommand::Offer(Box::new(made)));
        Ok(deadline)
    }

    fn accept(&mut self, offer_id: OfferId) -> Result<(), AgentRefusal> {
        if self.session.outcome_of(offer_id) == Some(OfferOutcome::Accepted) {
            return Ok(());
        }
        let call_id = self.session.ringing(offer_id)?;
        self.note(AgentFact::OfferAccepted { offer_id, call_id });
        self.settled(call_id, offer_id, OfferOutcome::Accepted);
        Ok(())
    }

    fn reject(&mut self, offer_id: OfferId, reason: Option<Box<str>>) -> Result<(), AgentRefusal> {
        if self.session.outcome_of(offer_id) == Some(OfferOutcome::Rejected) {
            return Ok(());
        }
        let call_id = self.session.ringing(offer_id)?;
        let quiet_until = self.now + self.session.settings.reject_backoff;
        self.note(AgentFact::OfferRejected { offer_id, call_id, reason, quiet_until });
        self.settled(call_id, offer_id, OfferOutcome::Rejected);
        Ok(())
    }

    fn engage(&mut self, call: CallBrief, settings: Option<AgentSettings>) {
        if self.session.work_on(call.id).is_some() {
            return;
        }
        if let Some(settings) = settings {
            self.configure(settings);
        }
        if self.session.has_room() {
            self.note(AgentFact::CallStarted { call: Box::new(call) });
        } else {
            self.tell_view(call.id, None, AgentView::Free { outcome: None });
        }
    }

    fn hear(&mut self, call_id: CallId, news: CallNews) {
        let Some(work) = self.session.work_on(call_id).cloned() else { return };
        match (work, news) {
            (Work::Offered(offer), CallNews::Gone { offer_id }) if offer.offer_id == offer_id => {
                self.note(AgentFact::OfferCanceled { offer_id, call_id });
            }
            (Work::Offered(offer), CallNews::Rescinded { offer_id }) if offer.offer_id == offer_id => {
                self.note(AgentFact::OfferRescinded { offer_id, call_id });
            }
            (Work::Offered(offer), CallNews::Ended { .. }) => {
                self.note(AgentFact::OfferCanceled { offer_id: offer.offer_id, call_id });
            }
            (
                Work::Engaged { offer_id: taken, .. },
                CallNews::Gone { offer_id } | CallNews::Rescinded { offer_id },
            ) if taken == Some(offer_id) => {
                self.note(AgentFact::CallEnded { call_id, wrap_up_until: None });
            }
            (Work::Engaged { stage: Stage::Connecting, .. }, CallNews::Ringing) => {
                self.note(AgentFact::CallRinging { call_id });
            }
            (Work::Engaged { stage: Stage::Connecting | Stage::Ringing, .. }, CallNews::Connected) => {
                self.note(AgentFact::CallConnected { call_id });
            }
            (Work::Engaged { stage: Stage::Connected, .. }, CallNews::Held) => {
                self.note(AgentFact::CallHeld { call_id });
            }
            (Work::Engaged { stage: Stage::Held, .. }, CallNews::Resumed) => {
                self.note(AgentFact::CallResumed { call_id });
            }
            (Work::Engaged { .. }, CallNews::PhoneFailed { busy }) => self.phone_failed(call_id, busy),
            (Work::Engaged { .. }, CallNews::Ended { wrap_up }) => {
                let wrap_up_until = wrap_up.map(|span| self.now + span);
                self.note(AgentFact::CallEnded { call_id, wrap_up_until });
            }
            (Work::Engaged { .. } | Work::WrapUp { .. }, CallNews::Disposed) => {
                self.note(AgentFact::CallDisposed { call_id });
            }
            // Late, doubled or crossing news.
            (Work::Offered(_) | Work::Engaged { .. } | Work::WrapUp { .. }, _) => {}
        }
    }

    fn phone_failed(&mut self, call_id: CallId, busy: bool) {
        let settings = &self.session.settings;
        let quiet = if busy { settings.busy_backoff } else { settings.reject_backoff };
        self.note(AgentFact::CallFailed { call_id, busy, quiet_until: self.now + quiet });
        self.check_misses();
    }

    /// Too many missed in a row: the agent is not there, whatever the activity says.
    fn check_misses(&mut self) {
        let limit = self.session.settings.missed_limit;
        if limit > 0 && self.session.misses >= limit && self.session.activity.available {
            self.note(AgentFact::ActivitySet(Activity {
                name: NOT_READY.into(),
                available: false,
                reason: Some(MISSED_OFFERS.into()),
            }));
        }
    }

    fn complete_wrap_up(&mut self, call_id: CallId) -> Result<(), AgentRefusal> {
        match self.session.work_on(call_id) {
            Some(Work::WrapUp { .. }) => {
                self.end_wrap_up(call_id);
                Ok(())
            }
            Some(Work::Offered(_) | Work::Engaged { .. }) | None => Err(AgentRefusal::NoSuchCall),
        }
    }

    fn end_wrap_up(&mut self, call_id: CallId) {
        self.note(AgentFact::WrapUpEnded { call_id });
        self.tell_view(call_id, None, AgentView::Free { outcome: None });
    }

    fn extend_wrap_up(&mut self, call_id: CallId, by: Millis) -> Result<(), AgentRefusal> {
        let Some(Work::WrapUp { until, .. }) = self.session.work_on(call_id) else {
            return Err(AgentRefusal::NoSuchCall);
        };
        let until = (*until).max(self.now) + by;
        self.note(AgentFact::WrapUpExtended { call_id, until });
        self.tell_view(call_id, None, AgentView::WrappingUp { until });
        Ok(())
    }

    fn force_release(&mut self) {
        self.rescind_offers();
        for work in self.session.work.clone() {
            let call_id = work.call().id;
            match work {
                Work::WrapUp { .. } => self.end_wrap_up(call_id),
                Work::Engaged { offer_id, .. } => {
                    self.note(AgentFact::CallEnded { call_id, wrap_up_until: None });
                    self.tell_view(call_id, offer_id, AgentView::Free { outcome: None });
                }
                Work::Offered(_) => {}
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        for work in self.session.work.clone() {
            let call_id = work.call().id;
            match work {
                Work::Offered(offer) if offer.deadline <= now => self.time_out(offer.offer_id, call_id),
                Work::WrapUp { until, .. } if until <= now => self.end_wrap_up(call_id),
                // Told to the call, which answers if it is over or belongs to somebody else.
                Work::Engaged { offer_id, stage, .. } => self.tell_view(call_id, offer_id, stage.view()),
                Work::Offered(_) | Work::WrapUp { .. } => {}
            }
        }
        if self.session.grace_until.is_some_and(|until| until <= now) {
            self.note(AgentFact::WentOffline);
        }
        if self.session.quiet_until.is_some_and(|until| until <= now) {
            self.note(AgentFact::QuietEnded);
        }
    }

    fn time_out(&mut self, offer_id: OfferId, call_id: CallId) {
        let quiet_until = self.now + self.session.settings.reject_backoff;
        self.note(AgentFact::OfferTimedOut { offer_id, call_id, quiet_until });
        self.settled(call_id, offer_id, OfferOutcome::Timeout);
        self.check_misses();
    }
}

fn offer_and_call(work: &Work) -> Option<(OfferId, CallId)> {
    match work {
        Work::Offered(offer) => Some((offer.offer_id, offer.call.id)),
        Work::Engaged { .. } | Work::WrapUp { .. } => None,
    }
}
