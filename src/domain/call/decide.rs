//! Deciding: the entry point, arrivals, orders from people, and limits.
//!
//! A `Draft` applies each fact to a copy of the call at once, so that what is decided next in the
//! same step already sees it. Late, doubled and crossing news is normal and leads to no facts.

use super::fact::CallFact;
use super::parts::{Direction, EndedBy, ExitReason, LegRole, LegStatus};
use super::state::{Call, Phase};
use super::{
    Arrival, By, CallCommand, CallEffect, CallReply, Control, DialRequest, Document, ExitReasonOrOffer,
    Overflow, RawEvent,
};
use super::{CallRefusal, CarrierOrder, OrderKind};
use crate::domain::agent::{AgentCommand, CallNews};
use crate::domain::id::{AgentId, AttemptId, LegId, QueueId};
use crate::domain::machine::Decision;
use crate::domain::time::{Millis, Timestamp};

/// A decision in the making.
pub(super) struct Draft {
    pub(super) call: Call,
    pub(super) now: Timestamp,
    facts: Vec<CallFact>,
    effects: Vec<CallEffect>,
}

impl Draft {
    pub(super) fn of(call: &Call, now: Timestamp) -> Self {
        Self { call: call.clone(), now, facts: Vec::new(), effects: Vec::new() }
    }

    pub(super) fn note(&mut self, fact: CallFact) {
        self.call.take(&fact, self.now);
        self.facts.push(fact);
    }

    pub(super) fn order(&mut self, leg_id: LegId, order: CarrierOrder) {
        self.effects.push(CallEffect::Carrier { provider: self.call.provider.clone(), leg_id, order });
    }

    /// Whether this step orders the end of a leg already.
    pub(super) fn has_ended(&self, id: LegId) -> bool {
        let ends = |effect: &CallEffect| match effect {
            CallEffect::Carrier { leg_id, order: CarrierOrder::End { .. }, .. } => *leg_id == id,
            CallEffect::Carrier { .. }
            | CallEffect::EnterQueue(_)
            | CallEffect::LeaveQueue { .. }
            | CallEffect::TellAgent { .. } => false,
        };
        self.effects.iter().any(ends)
    }

    pub(super) fn tell(&mut self, agent_id: AgentId, news: CallNews) {
        let command = Box::new(AgentCommand::FromCall { call_id: self.call.id, news });
        self.effects.push(CallEffect::TellAgent { agent_id, command });
    }

    pub(super) fn inquire(&mut self, agent_id: AgentId, offer_id: Option<crate::domain::id::OfferId>) {
        let command = Box::new(AgentCommand::Inquire { call_id: self.call.id, offer_id });
        self.effects.push(CallEffect::TellAgent { agent_id, command });
    }

    pub(super) fn enter_queue(&mut self) {
        if let Some(entry) = self.call.queue_entry() {
            self.effects.push(CallEffect::EnterQueue(Box::new(entry)));
        }
    }

    pub(super) fn leave_queue(&mut self, reason: ExitReasonOrOffer) {
        if let Some(routing) = &self.call.routing {
            self.leave(routing.queue_id, reason);
        }
    }

    pub(super) fn leave(&mut self, queue_id: QueueId, reason: ExitReasonOrOffer) {
        self.effects.push(CallEffect::LeaveQueue { queue_id, reason });
    }

    pub(super) fn note_raw(&mut self, raw: RawEvent, occurred_at: Option<Timestamp>) {
        self.note(CallFact::CarrierReported {
            key: raw.key,
            name: raw.name,
            occurred_at,
            fields: raw.fields,
        });
    }

    /// Wants a leg and has it placed.
    pub(super) fn place(
        &mut self,
        role: LegRole,
        address: crate::domain::address::Address,
        agent_id: Option<AgentId>,
    ) {
        let (leg_id, attempt) = (LegId::fresh(), AttemptId::fresh());
        self.note(CallFact::LegAdded {
            leg_id,
            role,
            address: address.clone(),
            agent_id,
            attempt: Some(attempt),
            provider_id: None,
        });
        let ring = self.call.leg(leg_id).map_or(self.call.ring, |leg| self.call.ring_for(leg));
        let from = self.call.own_number().clone();
        self.order(leg_id, CarrierOrder::Place { attempt, to: address, from, ring });
    }

    pub(super) fn into_effects(self) -> Vec<CallEffect> {
        self.effects
    }

    pub(super) fn document(self, document: Document) -> Decision<Call> {
        Decision { facts: self.facts, effects: self.effects, reply: CallReply::Document(document) }
    }

    pub(super) fn done(self) -> Decision<Call> {
        let reply = CallReply::Done(Box::new(self.call.list_row()));
        Decision { facts: self.facts, effects: self.effects, reply }
    }
}

/// Decides what a command leads to.
///
/// # Errors
/// A refusal, when the command makes no sense for this call.
pub fn decide(call: &Call, command: CallCommand, now: Timestamp) -> Result<Decision<Call>, CallRefusal> {
    let draft = Draft::of(call, now);
    let is_vacant = call.phase == Phase::Vacant;
    match command {
        CallCommand::Arrive(arrival) if is_vacant => Ok(arrive(draft, *arrival)),
        CallCommand::Arrive(arrival) => Ok(arrive_again(draft, *arrival)),
        CallCommand::Dial(request) if is_vacant => Ok(dial(draft, *request)),
        CallCommand::Dial(_) => Err(CallRefusal::Exists),
        CallCommand::Carrier(_)
        | CallCommand::Ordered { .. }
        | CallCommand::QueueFull { .. }
        | CallCommand::Announce { .. }
        | CallCommand::Control { .. }
        | CallCommand::Show
            if is_vacant =>
        {
            Err(CallRefusal::Unknown)
        }
        CallCommand::Carrier(news) => Ok(draft.hear(*news)),
        CallCommand::Ordered { leg_id, kind, result } => Ok(draft.ordered(leg_id, kind, result)),
        // A vacant call has no offers; the session is told so and frees itself.
        CallCommand::Offer(made) => Ok(draft.offered(*made)),
        CallCommand::OfferSettled { offer_id, agent_id, outcome } => {
            Ok(draft.offer_settled(offer_id, agent_id, outcome))
        }
        CallCommand::Answered { agent_id, offer_id, view } => Ok(draft.agent_view(agent_id, offer_id, view)),
        CallCommand::QueueFull { queue_id } => Ok(queue_full(draft, queue_id)),
        CallCommand::Announce { queue_id } => Ok(announce(draft, queue_id)),
        CallCommand::Control { by, control } => control_call(draft, by, control),
        CallCommand::Tick => Ok(tick(draft)),
        CallCommand::Show => Ok(draft.done()),
    }
}

fn arrive(mut draft: Draft, arrival: Arrival) -> Decision<Call> {
    let Arrival { provider, provider_call_id, from, to, routing, fallback, raw } = arrival;
    draft.note(CallFact::Received {
        direction: Direction::Inbound,
        from: from.clone(),
        to,
        provider,
        routing: routing.map(Box::new),
        agent: None,
        ring: Millis(0),
        wrap_up: Millis(0),
        fallback,
        context: None,
    });
    draft.note(CallFact::LegAdded {
        leg_id: LegId::fresh(),
        role: LegRole::Customer,
        address: from,
        agent_id: None,
        attempt: None,
        provider_id: Some(provider_call_id),
    });
    draft.note_raw(raw, None);
    if draft.call.routing.is_none() {
        draft.note(CallFact::HangupRequested { by: EndedBy::System });
        draft.finish();
        return draft.document(Document::Refuse);
    }
    draft.join_queue();
    draft.document(Document::WaitInRoom)
}

/// The provider repeats its question, or asks the fallback address although we have the call.
fn arrive_again(mut draft: Draft, arrival: Arrival) -> Decision<Call> {
    if !draft.call.seen.contains(&arrival.raw.key) {
        draft.note_raw(arrival.raw, None);
    }
    let document = draft.customer_document();
    draft.document(document)
}

/// A queue that was started anew asks who waits in it.
fn announce(mut draft: Draft, queue_id: QueueId) -> Decision<Call> {
    let is_there = draft.call.routing.as_ref().is_some_and(|routing| routing.queue_id == queue_id);
    if is_there && draft.call.phase == Phase::Queued {
        draft.enter_queue();
    }
    draft.done()
}

fn dial(mut draft: Draft, request: DialRequest) -> Decision<Call> {
    let DialRequest { provider, to, from, routing, agent, ring, wrap_up, context } = request;
    draft.note(CallFact::Received {
        direction: Direction::Outbound,
        from,
        to: to.clone(),
        provider,
        routing: routing.map(Box::new),
        agent: agent.clone(),
        ring,
        wrap_up,
        fallback: None,
        context,
    });
    match agent {
        Some((agent_id, address)) => {
            draft.engage();
            draft.place(LegRole::Agent, address, Some(agent_id));
        }
        None => draft.place(LegRole::Customer, to, None),
    }
    draft.done()
}

impl Draft {
    /// Tells the agent for whom this call is made that it is.
    pub(super) fn engage(&mut self) {
        if let Some((agent_id, _)) = self.call.wanted_agent {
            let call = Box::new(self.call.brief());
            let command = Box::new(AgentCommand::Engage { call, settings: None });
            self.effects.push(CallEffect::TellAgent { agent_id, command });
        }
    }

    /// Puts the call into the queue of its routing, at the place its age gives it.
    pub(super) fn join_queue(&mut self) {
        let Some(queue_id) = self.call.routing.as_ref().map(|routing| routing.queue_id) else { return };
        let since = self.call.place_since.unwrap_or(self.now);
        self.note(CallFact::Queued { queue_id, since });
        self.enter_queue();
    }

    /// The queue's limit is reached: the call goes where the queue's overflow says.
    fn overflow(&mut self) {
        self.leave_queue(ExitReasonOrOffer::Left(ExitReason::Overflowed));
        let overflow = self.call.routing.as_ref().map(|routing| routing.overflow.clone());
        match overflow {
            Some(Overflow::Queue(next)) => {
                self.note(CallFact::Overflowed { routing: Some(next), voicemail: false });
                self.join_queue();
            }
            Some(Overflow::Voicemail) => {
                self.note(CallFact::Overflowed { routing: None, voicemail: true });
                self.redirect_customer();
            }
            Some(Overflow::Hangup) | None => {
                self.note(CallFact::Overflowed { routing: None, voicemail: false });
                self.redirect_customer();
            }
        }
    }

    /// Makes the customer's leg ask again what to do.
    fn redirect_customer(&mut self) {
        let customer = self.call.customer().and_then(|leg| Some((leg.id, leg.provider_id.clone()?)));
        if let Some((leg_id, provider_id)) = customer {
            self.order(leg_id, CarrierOrder::Redirect { provider_id });
        }
    }

    /// What the customer's leg shall do now.
    pub(super) fn customer_document(&self) -> Document {
        match &self.call.phase {
            Phase::Placing | Phase::Queued | Phase::Offered(_) => Document::WaitInRoom,
            Phase::Connected { parted_at: None, .. } => Document::WaitInRoom,
            Phase::Connected { parted_at: Some(_), .. } => Document::Hangup,
            Phase::Voicemail { .. } => Document::Voicemail,
            Phase::Closing { .. } => Document::Goodbye,
            Phase::WrapUp { .. } | Phase::Ended | Phase::Vacant => Document::Hangup,
        }
    }
}

fn queue_full(mut draft: Draft, queue_id: QueueId) -> Decision<Call> {
    let waits_there = draft.call.routing.as_ref().is_some_and(|routing| routing.queue_id == queue_id);
    if draft.call.phase == Phase::Queued && waits_there {
        draft.overflow();
    }
    draft.done()
}

fn control_call(mut draft: Draft, by: By, control: Control) -> Result<Decision<Call>, CallRefusal> {
    if let By::Agent(agent_id) = by {
        let owner = draft.call.shown_agent();
        if owner != Some(agent_id) {
            return Err(CallRefusal::NotYours);
        }
    }
    match control {
        Control::Hold => set_hold(&mut draft, true)?,
        Control::Resume => set_hold(&mut draft, false)?,
        Control::Hangup => hang_up(&mut draft, by),
        Control::Dispose { disposition_id, note } => {
            draft.note(CallFact::Disposed { disposition_id, note });
            if let Some(agent_id) = draft.call.current_agent() {
                draft.tell(agent_id, CallNews::Disposed);
            }
        }
    }
    Ok(draft.done())
}

fn set_hold(draft: &mut Draft, held: bool) -> Result<(), CallRefusal> {
    let is_held = match draft.call.phase {
        Phase::Connected { held_since, parted_at: None } => held_since.is_some(),
        Phase::Connected { parted_at: Some(_), .. }
        | Phase::Vacant
        | Phase::Placing
        | Phase::Queued
        | Phase::Offered(_)
        | Phase::Voicemail { .. }
        | Phase::Closing { .. }
        | Phase::WrapUp { .. }
        | Phase::Ended => return Err(CallRefusal::WrongState { state: draft.call.state_word().into() }),
    };
    if is_held == held {
        return Ok(());
    }
    draft.note_hold(held);
    let customer = draft.call.customer().and_then(|leg| Some((leg.id, leg.provider_id.clone()?)));
    if let Some((leg_id, provider_id)) = customer {
        let room = draft.call.room();
        draft.order(leg_id, CarrierOrder::Hold { provider_id, room, held });
    }
    Ok(())
}

fn hang_up(draft: &mut Draft, by: By) {
    match draft.call.phase {
        Phase::WrapUp { .. } | Phase::Ended | Phase::Vacant => {}
        Phase::Placing
        | Phase::Queued
        | Phase::Offered(_)
        | Phase::Connected { .. }
        | Phase::Voicemail { .. }
        | Phase::Closing { .. } => {
            let by = match by {
                By::Agent(_) => EndedBy::Agent,
                By::Operator => EndedBy::System,
            };
            draft.note(CallFact::HangupRequested { by });
            draft.finish();
        }
    }
}

impl Draft {
    /// Notes that the customer is on hold or back, and tells the agent.
    pub(super) fn note_hold(&mut self, held: bool) {
        self.note(if held { CallFact::Held } else { CallFact::Resumed });
        if let Some(agent_id) = self.call.current_agent() {
            self.tell(agent_id, if held { CallNews::Held } else { CallNews::Resumed });
        }
    }
}

fn tick(mut draft: Draft) -> Decision<Call> {
    if draft.call.wake_at().is_none_or(|at| at > draft.now) {
        return draft.done();
    }
    match draft.call.phase.clone() {
        Phase::Vacant | Phase::Ended => {}
        Phase::Placing => draft.give_up_placing(),
        Phase::Queued => draft.overflow(),
        Phase::Offered(offer) => match offer.leg_id {
            None => draft.inquire(offer.agent_id, Some(offer.offer_id)),
            Some(leg_id) => draft.give_up_leg(leg_id),
        },
        Phase::Connected { .. } | Phase::Voicemail { .. } | Phase::Closing { .. } => {
            let spoke = matches!(draft.call.phase, Phase::Connected { parted_at: None, .. });
            if spoke {
                draft.note(CallFact::HangupRequested { by: EndedBy::System });
            }
            draft.finish();
        }
        Phase::WrapUp { agent_id, .. } => {
            draft.give_up_agent_legs();
            if draft.call.wake_at().is_some_and(|at| at <= draft.now) {
                draft.inquire(agent_id, None);
            }
        }
    }
    draft.done()
}

impl Draft {
    /// An outbound call whose legs never reported: it failed.
    fn give_up_placing(&mut self) {
        let silent: Vec<_> =
            self.call.legs.iter().filter(|leg| leg.status < LegStatus::Connected).map(|leg| leg.id).collect();
        for leg_id in silent {
            self.give_up_leg(leg_id);
        }
        if self.call.phase == Phase::Placing {
            self.finish();
        }
    }

    /// Legs of agents whose end was never reported after the customer left.
    fn give_up_agent_legs(&mut self) {
        let is_live = |leg: &&super::Leg| leg.role == LegRole::Agent && leg.status < LegStatus::Ended;
        let live: Vec<_> =
            self.call.legs.iter().filter(is_live).map(|leg| (leg.id, leg.answered.is_some())).collect();
        for (leg_id, answered) in live {
            self.end_leg(leg_id);
            let end = if answered { super::LegEnd::Normal } else { super::LegEnd::Canceled };
            self.move_leg(leg_id, LegStatus::Ended, Some(end), None);
        }
    }

    /// A leg that never reported is called off and counts as not answered.
    fn give_up_leg(&mut self, leg_id: LegId) {
        self.end_leg(leg_id);
        self.move_leg(leg_id, LegStatus::Ended, Some(super::LegEnd::NoAnswer), None);
    }

    /// What became of an order to the provider.
    fn ordered(mut self, leg_id: LegId, kind: OrderKind, result: super::OrderResult) -> Decision<Call> {
        match kind {
            OrderKind::Place | OrderKind::Find => self.placed(leg_id, kind, result),
            OrderKind::Check => {
                if result == super::OrderResult::NotFound {
                    self.move_leg(leg_id, LegStatus::Ended, Some(super::LegEnd::Normal), None);
                }
            }
            OrderKind::Hold { held } => self.hold_result(held, &result),
            OrderKind::Change => {}
        }
        self.done()
    }

    fn hold_result(&mut self, held: bool, result: &super::OrderResult) {
        let Phase::Connected { held_since, parted_at: None } = self.call.phase else { return };
        let refused = matches!(result, super::OrderResult::Refused { .. } | super::OrderResult::NotFound);
        // What was noted when it was ordered did not happen.
        if refused && held == held_since.is_some() {
            self.note_hold(!held);
        }
    }
}
