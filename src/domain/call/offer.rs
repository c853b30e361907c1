//! Offers, the agent's leg, and the conversation.

use super::decide::Draft;
use super::fact::CallFact;
use super::parts::{EndedBy, ExitReason, LegEnd, LegRole, LegStatus};
use super::state::{Call, Offer, Phase};
use super::{AgentView, ExitReasonOrOffer, OfferMade};
use crate::domain::agent::{CallNews, OfferOutcome};
use crate::domain::id::{AgentId, LegId, OfferId, QueueId};
use crate::domain::machine::Decision;

impl Call {
    /// Whether what a session tells is about the offer that stands now, as far as it names one.
    fn is_about_now(&self, offer_id: Option<OfferId>) -> bool {
        match &self.phase {
            Phase::Offered(offer) => offer_id.is_none_or(|told| told == offer.offer_id),
            Phase::Vacant
            | Phase::Placing
            | Phase::Queued
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => true,
        }
    }
}

impl Draft {
    /// A session reserved itself for this call.
    pub(super) fn offered(mut self, made: OfferMade) -> Decision<Call> {
        let OfferMade { offer_id, queue_id, agent_id, address, deadline, reason } = made;
        match &self.call.phase {
            Phase::Queued => {
                self.note(CallFact::Offered { offer_id, agent_id, address, deadline, reason });
                self.leave_queue(ExitReasonOrOffer::Offered);
                self.leave_proposer(queue_id, ExitReasonOrOffer::Offered);
            }
            Phase::Offered(offer) if offer.offer_id == offer_id => {}
            Phase::WrapUp { .. } | Phase::Ended => {
                self.decline(queue_id, agent_id, CallNews::Gone { offer_id });
            }
            Phase::Vacant
            | Phase::Placing
            | Phase::Offered(_)
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. } => {
                self.decline(queue_id, agent_id, CallNews::Rescinded { offer_id });
            }
        }
        self.done()
    }

    /// An offer that came too late: the session is free again, and no queue still counts on it.
    fn decline(&mut self, queue_id: Option<QueueId>, agent_id: AgentId, news: CallNews) {
        self.tell(agent_id, news);
        let reason = ExitReasonOrOffer::Left(self.call.exit_reason().unwrap_or(ExitReason::Canceled));
        self.leave_queue(reason);
        self.leave_proposer(queue_id, reason);
    }

    /// A queue that the call has left may have missed that, and proposed it all the same.
    fn leave_proposer(&mut self, proposer: Option<QueueId>, reason: ExitReasonOrOffer) {
        let own = self.call.routing.as_ref().map(|routing| routing.queue_id);
        if let Some(queue_id) = proposer.filter(|proposer| own != Some(*proposer)) {
            self.leave(queue_id, reason);
        }
    }

    /// The session tells how its offer ended; it alone decides that.
    pub(super) fn offer_settled(
        mut self,
        offer_id: OfferId,
        agent_id: AgentId,
        outcome: OfferOutcome,
    ) -> Decision<Call> {
        match self.call.phase.clone() {
            Phase::Offered(offer) if offer.offer_id == offer_id => {
                if offer.leg_id.is_none() {
                    self.settle(&offer, outcome);
                }
            }
            Phase::Connected { .. } | Phase::WrapUp { .. } if self.call.current_agent() == Some(agent_id) => {
            }
            // The agent took what is not offered any more, and must not wait for it.
            _ if outcome == OfferOutcome::Accepted => self.tell(agent_id, CallNews::Rescinded { offer_id }),
            Phase::Offered(_)
            | Phase::Vacant
            | Phase::Placing
            | Phase::Queued
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => {}
        }
        self.done()
    }

    fn settle(&mut self, offer: &Offer, outcome: OfferOutcome) {
        let (offer_id, agent_id) = (offer.offer_id, offer.agent_id);
        self.note(CallFact::OfferEnded { offer_id, agent_id, outcome });
        match outcome {
            OfferOutcome::Accepted => self.place(LegRole::Agent, offer.address.clone(), Some(agent_id)),
            OfferOutcome::Rejected
            | OfferOutcome::Timeout
            | OfferOutcome::Canceled
            | OfferOutcome::Rescinded => {
                self.enter_queue();
            }
        }
    }

    /// A session tells what it knows of its part in this call.
    pub(super) fn agent_view(
        mut self,
        agent_id: AgentId,
        offer_id: Option<OfferId>,
        view: AgentView,
    ) -> Decision<Call> {
        let is_ours = self.call.current_agent() == Some(agent_id) && self.call.is_about_now(offer_id);
        match (self.call.phase.clone(), view) {
            (Phase::Offered(offer), AgentView::Engaged { .. }) if is_ours && offer.leg_id.is_none() => {
                self.settle(&offer, OfferOutcome::Accepted);
            }
            (Phase::Offered(offer), AgentView::Free { outcome }) if is_ours => match offer.leg_id {
                // One who took it and is free was freed in the meantime.
                None => {
                    let ended = outcome.filter(|outcome| *outcome != OfferOutcome::Accepted);
                    self.settle(&offer, ended.unwrap_or(OfferOutcome::Rescinded));
                }
                Some(leg_id) => self.requeue(&offer, leg_id),
            },
            // The session may have missed it.
            (Phase::Connected { .. }, AgentView::Engaged { speaking: false }) if is_ours => {
                self.tell(agent_id, CallNews::Connected);
            }
            (Phase::Placing, AgentView::Free { .. }) if is_ours => {
                self.note(CallFact::HangupRequested { by: EndedBy::System });
                self.finish();
            }
            (Phase::WrapUp { until, .. }, AgentView::WrappingUp { until: told })
                if is_ours && told > until =>
            {
                self.note(CallFact::WrapUpExtended { until: told });
            }
            (Phase::WrapUp { .. }, AgentView::Free { .. }) if is_ours => {
                // The room may not have taken the agent's leg along yet.
                self.end_agent_legs();
                self.note(CallFact::Completed);
            }
            (Phase::WrapUp { .. }, AgentView::Engaged { .. }) if is_ours => {
                let wrap_up = Some(self.call.wrap_up_time());
                self.tell(agent_id, CallNews::Ended { wrap_up });
            }
            (_, AgentView::Engaged { .. }) if !is_ours => {
                self.tell(
                    agent_id,
                    match offer_id {
                        Some(offer_id) => CallNews::Rescinded { offer_id },
                        None => CallNews::Ended { wrap_up: None },
                    },
                );
            }
            (_, AgentView::Ringing) if !is_ours => {
                if let Some(offer_id) = offer_id {
                    self.tell(agent_id, CallNews::Rescinded { offer_id });
                }
            }
            (
                _,
                AgentView::Ringing
                | AgentView::Engaged { .. }
                | AgentView::WrappingUp { .. }
                | AgentView::Free { .. },
            ) => {}
        }
        self.done()
    }

    /// The agent's side of an accepted offer fell away before the customer was reached.
    fn requeue(&mut self, offer: &Offer, leg_id: LegId) {
        self.note(CallFact::Requeued { offer_id: offer.offer_id, agent_id: offer.agent_id });
        self.end_leg(leg_id);
        self.enter_queue();
    }

    /// The customer picked up our call.
    pub(super) fn customer_answered(&mut self) {
        if self.call.phase != Phase::Placing {
            return;
        }
        let partner = self.call.legs.iter().find(|leg| leg.role == LegRole::Agent).map(|leg| leg.id);
        if let (Some((agent_id, _)), Some(leg_id)) = (self.call.wanted_agent.clone(), partner) {
            self.connect(Some(agent_id), Some(leg_id));
        } else if self.call.routing.is_some() {
            self.join_queue();
        } else {
            self.connect(None, None);
        }
    }

    /// The party that the customer is to speak with picked up.
    pub(super) fn partner_answered(&mut self, leg_id: LegId) {
        let Some(leg) = self.call.leg(leg_id) else { return };
        let (role, agent_id) = (leg.role, leg.agent_id);
        let is_observed = role == LegRole::Observed;
        match self.call.phase.clone() {
            Phase::Placing if !is_observed => self.place_customer(),
            Phase::Offered(offer) if offer.leg_id == Some(leg_id) => {
                self.connect(Some(offer.agent_id), Some(leg_id));
            }
            Phase::Offered(offer) if is_observed => {
                self.release(&offer);
                self.connect(agent_id, Some(leg_id));
            }
            Phase::Queued if is_observed => {
                self.leave_queue(ExitReasonOrOffer::Left(ExitReason::Answered));
                self.connect(agent_id, Some(leg_id));
            }
            Phase::Placing | Phase::Voicemail { .. } | Phase::Closing { .. } if is_observed => {
                self.connect(agent_id, Some(leg_id));
            }
            Phase::WrapUp { .. } | Phase::Ended => self.connected_before_end(leg_id),
            Phase::Connected { .. } if self.is_partner(leg_id) || is_observed => {}
            Phase::Vacant
            | Phase::Placing
            | Phase::Queued
            | Phase::Offered(_)
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. } => self.end_leg(leg_id),
        }
    }

    /// A late report of an answer. The carrier's clock tells whether they spoke before the end.
    fn connected_before_end(&mut self, leg_id: LegId) {
        let Some(leg) = self.call.leg(leg_id) else { return };
        let (role, agent_id) = (leg.role, leg.agent_id);
        let answered = leg.answered.and_then(|moment| moment.carrier);
        let ended = self.call.customer().and_then(|leg| leg.ended).and_then(|moment| moment.carrier);
        let spoke = match (answered, ended) {
            (Some(answered), Some(ended)) => answered < ended,
            (_, None) | (None, Some(_)) => role == LegRole::Observed,
        };
        match (spoke, &self.call.connection) {
            (true, None) => self.note(CallFact::Connected { agent_id, leg_id: Some(leg_id) }),
            (true, Some(_)) => {}
            (false, _) => self.end_leg(leg_id),
        }
    }

    fn is_partner(&self, leg_id: LegId) -> bool {
        self.call.connection.as_ref().is_some_and(|connection| connection.leg_id == Some(leg_id))
    }

    fn connect(&mut self, agent_id: Option<AgentId>, leg_id: Option<LegId>) {
        self.note(CallFact::Connected { agent_id, leg_id });
        if let Some(agent_id) = agent_id {
            self.tell(agent_id, CallNews::Connected);
        }
    }

    fn place_customer(&mut self) {
        if self.call.customer().is_none() {
            let to = self.call.customer_address().clone();
            self.place(LegRole::Customer, to, None);
        }
    }

    /// Takes an offer back because the customer is served or gone.
    pub(super) fn release(&mut self, offer: &Offer) {
        match offer.leg_id {
            None => self.tell(offer.agent_id, CallNews::Gone { offer_id: offer.offer_id }),
            Some(leg_id) => {
                self.tell(offer.agent_id, CallNews::Ended { wrap_up: None });
                self.end_leg(leg_id);
            }
        }
    }

    /// The agent's leg is over.
    pub(super) fn agent_leg_ended(&mut self, leg_id: LegId) {
        let busy = self.call.leg(leg_id).and_then(|leg| leg.end).is_some_and(|end| match end {
            LegEnd::Busy | LegEnd::Failed | LegEnd::Refused => true,
            LegEnd::Normal | LegEnd::NoAnswer | LegEnd::Canceled => false,
        });
        match self.call.phase.clone() {
            Phase::Offered(offer) if offer.leg_id == Some(leg_id) => {
                self.tell(offer.agent_id, CallNews::PhoneFailed { busy });
                self.requeue(&offer, leg_id);
            }
            Phase::Placing => {
                self.note(CallFact::HangupRequested { by: EndedBy::Agent });
                self.finish();
            }
            Phase::Connected { .. } if self.is_partner(leg_id) => self.finish(),
            Phase::Vacant
            | Phase::Queued
            | Phase::Offered(_)
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => {}
        }
    }

    /// A leg that the provider placed on its own is over; the provider asks us what comes next.
    pub(super) fn observed_ended(&mut self, leg_id: LegId) {
        let speaks = matches!(self.call.phase, Phase::Connected { parted_at: None, .. });
        let answered = self.call.leg(leg_id).is_some_and(|leg| leg.status == LegStatus::Ended);
        if speaks && answered && self.is_partner(leg_id) {
            self.note(CallFact::Parted);
        }
    }

    /// The customer is gone.
    pub(super) fn customer_gone(&mut self) {
        match self.call.phase {
            Phase::Vacant | Phase::WrapUp { .. } | Phase::Ended => {}
            Phase::Placing
            | Phase::Queued
            | Phase::Offered(_)
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. } => self.finish(),
        }
    }
}
