//! Ending a call, and telling how it ended.
//!
//! How a call ended is derived from its legs, so it comes out the same in whatever order the news
//! arrives; late news that changes it is noted as a correction.

use super::decide::Draft;
use super::fact::{CallFact, EndRecord};
use super::parts::{Direction, EndedBy, ExitReason, LegEnd, LegRole, LegStatus, Outcome};
use super::state::{Call, Phase};
use super::{CallEffect, CarrierOrder, ExitReasonOrOffer};
use crate::domain::agent::CallNews;
use crate::domain::id::LegId;
use crate::domain::time::{Millis, Timestamp};

impl Draft {
    /// Ends the call: everybody is told, what still rings is called off.
    pub(super) fn finish(&mut self) {
        let is_refused = self.call.phase == Phase::Placing && self.call.direction == Direction::Inbound;
        let is_spoken = self.release_parties();
        let wrap_up = self.wrap_up().filter(|_| is_spoken);
        if !is_refused {
            self.end_customer();
        }
        // The room closes when the customer leaves it and takes the agent's leg along; with
        // after-call work there is time to see that, without it we do not wait.
        let customer_left = self.call.customer().is_some_and(|leg| leg.status == LegStatus::Ended);
        if !(is_spoken && customer_left && wrap_up.is_some()) {
            self.end_agent_legs();
        }
        let record = self.call.end_record(self.now);
        self.note(CallFact::Ended { record, wrap_up_until: wrap_up.map(|span| self.now + span) });
    }

    /// Tells queue and agents that the call is over; answers whether an agent of ours spoke in it.
    fn release_parties(&mut self) -> bool {
        match self.call.phase.clone() {
            Phase::Queued => {
                let reason = self.call.exit_reason().unwrap_or(ExitReason::Abandoned);
                self.leave_queue(ExitReasonOrOffer::Left(reason));
                false
            }
            Phase::Offered(offer) => {
                self.release(&offer);
                false
            }
            Phase::Connected { .. } => {
                let agent_id = self.call.connection.as_ref().and_then(|connection| connection.agent_id);
                let wrap_up = self.wrap_up();
                if let Some(agent_id) = agent_id {
                    self.tell(agent_id, CallNews::Ended { wrap_up });
                }
                true
            }
            Phase::Placing => {
                if let Some((agent_id, _)) = self.call.wanted_agent.clone() {
                    self.tell(agent_id, CallNews::Ended { wrap_up: None });
                }
                false
            }
            Phase::Vacant
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => false,
        }
    }

    /// After-call work is for agents whose leg we placed.
    fn wrap_up(&self) -> Option<Millis> {
        let connection = self.call.connection.as_ref()?;
        let leg = connection.leg_id.and_then(|id| self.call.leg(id))?;
        let wrap_up = self.call.wrap_up_time();
        (leg.role == LegRole::Agent && connection.agent_id.is_some() && wrap_up.0 > 0).then_some(wrap_up)
    }

    fn end_customer(&mut self) {
        if let Some(leg_id) = self.call.customer().map(|leg| leg.id) {
            self.end_leg(leg_id);
        }
    }

    pub(super) fn end_agent_legs(&mut self) {
        let legs: Vec<_> =
            self.call.legs.iter().filter(|leg| leg.role == LegRole::Agent).map(|leg| leg.id).collect();
        for leg_id in legs {
            self.end_leg(leg_id);
        }
    }

    /// Orders the end of a leg that is not over. One without a name yet is ended when it gets one.
    pub(super) fn end_leg(&mut self, leg_id: LegId) {
        let Some(leg) = self.call.leg(leg_id).filter(|leg| leg.status < LegStatus::Ended) else { return };
        let answered = leg.status == LegStatus::Connected
            || (leg.role == LegRole::Customer && self.call.direction == Direction::Inbound);
        if let Some(provider_id) = leg.provider_id.clone().filter(|_| !self.has_ended(leg_id)) {
            self.order(leg_id, CarrierOrder::End { provider_id, answered });
        }
    }

    /// Notes it when later news changed how the call ended.
    pub(super) fn correct(&mut self) {
        let (Some(known), Some(ended_at)) = (&self.call.end, self.call.ended_at) else { return };
        let record = self.call.end_record(ended_at);
        if record != *known {
            self.note(CallFact::Corrected { record });
        }
    }
}

impl Call {
    /// How the call ended, as far as its legs tell at this moment.
    #[must_use]
    pub fn end_record(&self, ended_at: Timestamp) -> EndRecord {
        EndRecord {
            ended_by: self.ended_by(),
            exit_reason: self.exit_reason(),
            outcome: self.outcome(),
            wait_ms: self.wait(ended_at),
            talk_ms: self.talk(ended_at),
            hold_ms: self.connection.is_some().then(|| self.hold(ended_at)),
        }
    }

    fn ended_by(&self) -> EndedBy {
        if let Some(by) = self.hangup_by {
            return by;
        }
        let customer = EndedBy::customer(self.direction);
        let customer_end = self.customer().and_then(|leg| leg.ended);
        let partner = self.connection.as_ref().and_then(|connection| connection.leg_id);
        let partner_end = partner.and_then(|id| self.leg(id)).and_then(|leg| leg.ended);
        match (customer_end, partner_end) {
            (Some(customer_end), Some(partner_end)) => {
                let agent_first = match (customer_end.carrier, partner_end.carrier) {
                    (Some(customer), Some(partner)) => partner < customer,
                    (Some(_) | None, None) | (None, Some(_)) => partner_end.ours < customer_end.ours,
                };
                if agent_first { EndedBy::Agent } else { customer }
            }
            (Some(_), None) => customer,
            (None, Some(_)) => EndedBy::Agent,
            (None, None) => EndedBy::System,
        }
    }

    /// How the call left its queue; `None` when it never was in one.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.place_since?;
        Some(match (&self.connection, self.exit, self.hangup_by) {
            (Some(_), _, _) => ExitReason::Answered,
            (None, Some(exit), _) => exit,
            (None, None, Some(EndedBy::Agent | EndedBy::System)) => ExitReason::Canceled,
            (None, None, Some(EndedBy::Caller | EndedBy::Callee) | None) => ExitReason::Abandoned,
        })
    }

    fn outcome(&self) -> Outcome {
        if self.connection.is_some() {
            return Outcome::Answered;
        }
        if self.has_voicemail {
            return Outcome::Voicemail;
        }
        if self.fallback.is_some() {
            return Outcome::Fallback;
        }
        match self.direction {
            Direction::Inbound if self.exit.is_some() || self.routing.is_none() => Outcome::Rejected,
            Direction::Inbound if self.hangup_by.is_some() => Outcome::Canceled,
            Direction::Inbound => Outcome::Abandoned,
            Direction::Outbound => self.outbound_outcome(),
        }
    }

    fn outbound_outcome(&self) -> Outcome {
        match self.customer().and_then(|leg| leg.end) {
            Some(LegEnd::Busy) => Outcome::Busy,
            Some(LegEnd::NoAnswer) => Outcome::NoAnswer,
            Some(LegEnd::Failed | LegEnd::Refused) => Outcome::Failed,
            Some(LegEnd::Normal) => Outcome::Abandoned,
            Some(LegEnd::Canceled) => Outcome::Canceled,
            None if self.hangup_by.is_some() => Outcome::Canceled,
            None => Outcome::Failed,
        }
    }

    /// From queueing to answer or end. The provider's own count goes first where it told one.
    fn wait(&self, ended_at: Timestamp) -> Option<Millis> {
        let start = self.wait_start()?;
        if let (Some(waited), None) = (self.waited_reported, &self.connection) {
            return Some(waited);
        }
        let over = self.answered_at().or_else(|| self.parted_at());
        Some(over.map_or(ended_at.since(start.ours), |over| start.until(over)))
    }

    /// From answer to end, without time on hold.
    fn talk(&self, ended_at: Timestamp) -> Option<Millis> {
        let start = self.answered_at()?;
        let whole = self.parted_at().map_or(ended_at.since(start.ours), |over| start.until(over));
        Some(Millis(whole.0.saturating_sub(self.hold(ended_at).0)))
    }

    fn hold(&self, until: Timestamp) -> Millis {
        match self.phase {
            Phase::Connected { held_since: Some(since), .. } => self.held + until.since(since),
            Phase::Connected { held_since: None, .. }
            | Phase::Vacant
            | Phase::Placing
            | Phase::Queued
            | Phase::Offered(_)
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => self.held,
        }
    }

    /// What to take up again after a restart. Each effect is safe to repeat: orders are searches or
    /// ends, never a second placing.
    #[must_use]
    pub fn resumed(&self, now: Timestamp) -> Vec<CallEffect> {
        let mut draft = Draft::of(self, now);
        draft.check_legs();
        draft.look_for_unnamed();
        draft.end_unwanted();
        if self.phase != Phase::Queued {
            let reason = self.exit_reason().unwrap_or(ExitReason::Canceled);
            draft.leave_queue(ExitReasonOrOffer::Left(reason));
        }
        match self.phase.clone() {
            Phase::Vacant | Phase::Ended | Phase::Voicemail { .. } | Phase::Closing { .. } => {}
            Phase::Placing => draft.engage(),
            Phase::Queued => draft.enter_queue(),
            Phase::Offered(offer) => draft.inquire(offer.agent_id, Some(offer.offer_id)),
            Phase::Connected { .. } => {
                if let Some(agent_id) = self.current_agent() {
                    draft.tell(agent_id, CallNews::Connected);
                }
            }
            Phase::WrapUp { agent_id, .. } => draft.inquire(agent_id, None),
        }
        draft.into_effects()
    }
}

impl Draft {
    /// Callbacks may have been missed while nobody listened: the provider knows which legs live.
    fn check_legs(&mut self) {
        let is_over = matches!(self.call.phase, Phase::Vacant | Phase::WrapUp { .. } | Phase::Ended);
        let legs = self.call.legs.iter().filter(|leg| leg.status < LegStatus::Ended && !is_over);
        let named: Vec<_> = legs.filter_map(|leg| Some((leg.id, leg.provider_id.clone()?))).collect();
        for (leg_id, provider_id) in named {
            self.order(leg_id, CarrierOrder::Check { provider_id });
        }
    }

    /// A leg that was wanted when the program stopped may or may not have been placed.
    fn look_for_unnamed(&mut self) {
        let unnamed: Vec<_> = self
            .call
            .legs
            .iter()
            .filter(|leg| leg.attempt.is_some() && leg.provider_id.is_none() && leg.status < LegStatus::Ended)
            .map(|leg| leg.id)
            .collect();
        for leg_id in unnamed {
            self.look_for(leg_id);
        }
    }

    /// The order to end a leg may have been lost after the reason for it was noted.
    fn end_unwanted(&mut self) {
        let ours = self.call.legs.iter().filter(|leg| leg.role != LegRole::Observed);
        let legs: Vec<_> = ours.map(|leg| leg.id).filter(|leg_id| !self.wants(*leg_id)).collect();
        for leg_id in legs {
            self.end_leg(leg_id);
        }
    }
}
