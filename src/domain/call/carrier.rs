//! What the provider tells, and what follows from it.

use super::decide::Draft;
use super::fact::CallFact;
use super::parts::{LegEnd, LegRole, LegStatus};
use super::state::{Call, Phase};
use super::{Asked, CallReply, CarrierNews, CarrierOrder, Document, LegHint, News, OrderKind, OrderResult};
use crate::domain::id::LegId;
use crate::domain::machine::Decision;
use crate::domain::time::{Millis, Timestamp};

impl Draft {
    /// Takes in one piece of news. Repeated news gets the same answer and changes nothing.
    pub(super) fn hear(mut self, news: CarrierNews) -> Decision<Call> {
        let CarrierNews { leg: hint, room, occurred_at, news, raw } = news;
        let is_repeated = self.call.seen.contains(&raw.key);
        if !is_repeated {
            self.note_raw(raw, occurred_at);
        }
        let leg_id = self.find_leg(&hint, is_repeated);
        if let Some(room) = room.filter(|room| !self.call.rooms.contains(room)) {
            self.note(CallFact::RoomNamed { room });
        }
        if !is_repeated {
            self.take_news(leg_id, &news, occurred_at);
            // Any late news may tell an earlier beginning.
            self.correct();
        }
        let document = self.answer_to(leg_id, &news);
        self.document(document)
    }

    /// The leg that news is about; a leg that the provider placed on its own is added.
    fn find_leg(&mut self, hint: &LegHint, is_repeated: bool) -> Option<LegId> {
        let legs = &self.call.legs;
        let same_id = |leg: &&super::Leg| hint.provider_id.is_some() && leg.provider_id == hint.provider_id;
        if let Some(leg) = legs.iter().find(same_id) {
            return Some(leg.id);
        }
        // The first callback of a leg we placed may come before the answer to our request.
        let unnamed = legs.iter().find(|leg| {
            leg.provider_id.is_none()
                && match hint.leg_id {
                    Some(id) => leg.id == id,
                    None => hint.address.as_ref() == Some(&leg.address) && hint.parent_id.is_none(),
                }
        });
        if let (Some(leg), Some(provider_id)) = (unnamed, hint.provider_id.clone()) {
            let leg_id = leg.id;
            self.name_leg(leg_id, provider_id);
            return Some(leg_id);
        }
        let by_parent = hint.parent_id.is_some() && legs.iter().any(|leg| leg.provider_id == hint.parent_id);
        if by_parent && !is_repeated {
            return self.observe(hint);
        }
        hint.leg_id.filter(|id| self.call.leg(*id).is_some())
    }

    /// A leg that we placed has its name. One that lost its purpose meanwhile is ended at last.
    fn name_leg(&mut self, leg_id: LegId, provider_id: Box<str>) {
        self.note(CallFact::LegNamed { leg_id, provider_id: provider_id.clone() });
        let Some(leg) = self.call.leg(leg_id) else { return };
        // One that was given up counts as over, but the provider may just have placed it.
        if leg.status == LegStatus::Ended || !self.wants(leg_id) {
            self.order(leg_id, CarrierOrder::End { provider_id, answered: leg.answered.is_some() });
        }
    }

    fn observe(&mut self, hint: &LegHint) -> Option<LegId> {
        let (provider_id, address) = (hint.provider_id.clone()?, hint.address.clone()?);
        let leg_id = LegId::fresh();
        self.note(CallFact::LegAdded {
            leg_id,
            role: LegRole::Observed,
            address,
            agent_id: hint.agent_id,
            attempt: None,
            provider_id: Some(provider_id),
        });
        Some(leg_id)
    }

    fn take_news(&mut self, leg_id: Option<LegId>, news: &News, occurred_at: Option<Timestamp>) {
        match (news, leg_id) {
            (News::Leg { status, end, answered_for }, Some(leg_id)) => {
                let was_answered = answered_for.filter(|span| span.0 > 0);
                if let (LegStatus::Ended, Some(span)) = (status, was_answered) {
                    self.answered_late(leg_id, occurred_at.map(|at| at - span));
                }
                self.move_leg(leg_id, *status, *end, occurred_at);
            }
            (News::Joined | News::Document(Asked::Answered), Some(leg_id)) => {
                self.move_leg(leg_id, LegStatus::Connected, None, occurred_at);
            }
            (News::Left { hung_up: true }, Some(leg_id)) => {
                self.move_leg(leg_id, LegStatus::Ended, Some(LegEnd::Normal), occurred_at);
            }
            (News::HoldChanged { held }, Some(leg_id)) => self.hold_changed(leg_id, *held),
            (News::QueueReport { waited, hung_up }, leg_id) => self.queue_report(leg_id, *waited, *hung_up),
            (News::VoicemailLeft { recording_url, length, hung_up }, leg_id) => {
                self.note(CallFact::VoicemailLeft { recording_url: recording_url.clone(), length: *length });
                if let (true, Some(leg_id)) = (*hung_up, leg_id) {
                    self.move_leg(leg_id, LegStatus::Ended, Some(LegEnd::Normal), occurred_at);
                }
            }
            (News::Recording { recording_id, status, url, length }, _) => {
                let is_final = matches!(&**status, "completed" | "absent");
                if is_final && !self.call.recordings.contains(recording_id) {
                    self.note(CallFact::RecordingReady {
                        recording_id: recording_id.clone(),
                        status: status.clone(),
                        url: url.clone(),
                        length: *length,
                    });
                }
            }
            (News::Document(Asked::Next { .. }), Some(leg_id)) => self.leg_asks_on(leg_id),
            (
                News::Leg { .. }
                | News::Joined
                | News::HoldChanged { .. }
                | News::Document(Asked::Answered | Asked::Next { .. }),
                None,
            )
            | (
                News::Left { .. }
                | News::Room { .. }
                | News::Document(Asked::Wait | Asked::Hold)
                | News::Other,
                _,
            ) => {}
        }
    }

    /// A leg whose end tells that it had been answered, although nobody told when it was.
    fn answered_late(&mut self, leg_id: LegId, carrier_at: Option<Timestamp>) {
        let unanswered = self.call.leg(leg_id).is_some_and(|leg| leg.answered.is_none());
        if unanswered {
            self.move_leg(leg_id, LegStatus::Connected, None, carrier_at);
        }
    }

    /// Moves a leg forward if this is new, then lets the consequences follow.
    pub(super) fn move_leg(
        &mut self,
        leg_id: LegId,
        status: LegStatus,
        end: Option<LegEnd>,
        carrier_at: Option<Timestamp>,
    ) {
        let Some(leg) = self.call.leg(leg_id) else { return };
        let (before, role) = (leg.status, leg.role);
        let fills = match status {
            LegStatus::Connected => {
                leg.answered.is_none_or(|moment| moment.carrier.is_none() && carrier_at.is_some())
            }
            LegStatus::Ended => leg.ended.is_none_or(|moment| {
                carrier_at.is_some_and(|at| moment.carrier.is_none_or(|known| at < known))
            }),
            LegStatus::New | LegStatus::Dialing | LegStatus::Ringing => false,
        };
        if status <= before && !fills {
            return;
        }
        self.note(CallFact::LegMoved { leg_id, status, end, carrier_at });
        if status > before {
            self.leg_moved(leg_id, role, status);
        } else if status == LegStatus::Connected && role != LegRole::Customer {
            self.partner_answered(leg_id);
        }
    }

    fn leg_moved(&mut self, leg_id: LegId, role: LegRole, status: LegStatus) {
        match (role, status) {
            (LegRole::Customer, LegStatus::Connected) => self.customer_answered(),
            (LegRole::Customer, LegStatus::Ended) => self.customer_gone(),
            (LegRole::Agent, LegStatus::Ringing) => {
                if let Some(agent_id) = self.call.current_agent() {
                    self.tell(agent_id, crate::domain::agent::CallNews::Ringing);
                }
            }
            (LegRole::Agent | LegRole::Observed, LegStatus::Connected) => self.partner_answered(leg_id),
            (LegRole::Agent, LegStatus::Ended) => self.agent_leg_ended(leg_id),
            (LegRole::Observed, LegStatus::Ended) => self.observed_ended(leg_id),
            (
                LegRole::Customer | LegRole::Observed,
                LegStatus::New | LegStatus::Dialing | LegStatus::Ringing,
            )
            | (LegRole::Agent, LegStatus::New | LegStatus::Dialing) => {}
        }
    }

    fn hold_changed(&mut self, leg_id: LegId, held: bool) {
        let is_customer = self.call.customer().is_some_and(|leg| leg.id == leg_id);
        let Phase::Connected { held_since, parted_at: None } = self.call.phase else { return };
        if is_customer && held_since.is_some() != held {
            self.note_hold(held);
        }
    }

    fn queue_report(&mut self, leg_id: Option<LegId>, waited: Option<Millis>, hung_up: bool) {
        if let Some(waited) =
            waited.filter(|waited| self.call.waited_reported.is_none_or(|known| known < *waited))
        {
            self.note(CallFact::WaitReported { waited });
        }
        if let (true, Some(leg_id)) = (hung_up, leg_id) {
            self.move_leg(leg_id, LegStatus::Ended, Some(LegEnd::Normal), None);
        }
    }

    /// A leg has done what it was told and asks for more.
    fn leg_asks_on(&mut self, leg_id: LegId) {
        let is_customer = self.call.customer().is_some_and(|leg| leg.id == leg_id);
        let waits = matches!(self.call.phase, Phase::Queued);
        // The provider's own attempt to reach somebody failed; a queue that takes messages takes one.
        let observed = self.call.legs.iter().any(|leg| leg.role == LegRole::Observed);
        if is_customer && waits && observed && self.call.overflows_to_voicemail() {
            self.leave_queue(super::ExitReasonOrOffer::Left(super::ExitReason::Overflowed));
            self.note(CallFact::Overflowed { routing: None, voicemail: true });
        }
    }

    /// What the leg that asked shall do.
    fn answer_to(&self, leg_id: Option<LegId>, news: &News) -> Document {
        let role = leg_id.and_then(|id| self.call.leg(id)).map(|leg| leg.role);
        match news {
            News::Document(Asked::Wait) => Document::WaitMusic,
            News::QueueReport { hung_up: false, .. } => Document::WaitMusic,
            News::Document(Asked::Hold) => Document::HoldMusic,
            News::Document(Asked::Answered) => match (role, leg_id) {
                (Some(LegRole::Agent), Some(leg_id)) => self.agent_document(leg_id),
                (Some(LegRole::Customer), _) => self.customer_document(),
                (Some(LegRole::Observed) | None, _) | (Some(LegRole::Agent), None) => Document::Hangup,
            },
            News::Document(Asked::Next { .. }) => match role {
                Some(LegRole::Customer) => self.customer_document(),
                Some(LegRole::Agent | LegRole::Observed) | None => Document::Hangup,
            },
            News::VoicemailLeft { .. } => Document::Hangup,
            News::Leg { .. }
            | News::Joined
            | News::Left { .. }
            | News::HoldChanged { .. }
            | News::Room { .. }
            | News::QueueReport { hung_up: true, .. }
            | News::Recording { .. }
            | News::Other => Document::Acknowledge,
        }
    }

    fn agent_document(&self, leg_id: LegId) -> Document {
        let is_wanted = match &self.call.phase {
            Phase::Connected { parted_at: None, .. } => {
                self.call.connection.as_ref().is_some_and(|connection| connection.leg_id == Some(leg_id))
            }
            Phase::Offered(offer) => offer.leg_id == Some(leg_id),
            Phase::Placing => true,
            Phase::Connected { parted_at: Some(_), .. }
            | Phase::Vacant
            | Phase::Queued
            | Phase::Voicemail { .. }
            | Phase::Closing { .. }
            | Phase::WrapUp { .. }
            | Phase::Ended => false,
        };
        if is_wanted { Document::JoinRoom { leg_id } } else { Document::Hangup }
    }

    /// What became of placing a leg, or of looking for one.
    pub(super) fn placed(&mut self, leg_id: LegId, kind: OrderKind, result: OrderResult) {
        let Some(leg) = self.call.leg(leg_id) else { return };
        let is_named = leg.provider_id.is_some();
        match result {
            OrderResult::Done { provider_id: Some(provider_id) } if !is_named => {
                self.name_leg(leg_id, provider_id);
            }
            OrderResult::Refused { .. } if !is_named => {
                self.move_leg(leg_id, LegStatus::Ended, Some(LegEnd::Failed), None);
            }
            OrderResult::InDoubt if !is_named && kind == OrderKind::Place => {
                self.note(CallFact::LegInDoubt { leg_id });
                self.look_for(leg_id);
            }
            OrderResult::NotFound | OrderResult::Done { provider_id: None } if !is_named => {
                self.move_leg(leg_id, LegStatus::Ended, Some(LegEnd::Failed), None);
            }
            OrderResult::Done { .. }
            | OrderResult::Refused { .. }
            | OrderResult::InDoubt
            | OrderResult::NotFound => {}
        }
    }

    /// Looks for a leg whose placing had no clear answer. Never places it again.
    pub(super) fn look_for(&mut self, leg_id: LegId) {
        let Some(leg) = self.call.leg(leg_id) else { return };
        let (to, placed_at) = (leg.address.clone(), leg.started.ours);
        let from = self.call.own_number().clone();
        self.order(leg_id, CarrierOrder::Find { to, from, placed_at });
    }

    /// Whether a leg still has a purpose.
    pub(super) fn wants(&self, leg_id: LegId) -> bool {
        let is_customer = self.call.customer().is_some_and(|leg| leg.id == leg_id);
        match &self.call.phase {
            Phase::Placing => true,
            Phase::Offered(offer) => is_customer || offer.leg_id == Some(leg_id),
            Phase::Connected { .. } => {
                let partner = self.call.connection.as_ref().and_then(|connection| connection.leg_id);
                is_customer || partner == Some(leg_id)
            }
            Phase::Queued | Phase::Voicemail { .. } | Phase::Closing { .. } => is_customer,
            Phase::Vacant | Phase::WrapUp { .. } | Phase::Ended => false,
        }
    }
}

impl CallReply {
    /// The document in it, if that is what was asked.
    #[must_use]
    pub const fn document(&self) -> Option<&Document> {
        match self {
            Self::Document(document) => Some(document),
            Self::Done(_) => None,
        }
    }
}
