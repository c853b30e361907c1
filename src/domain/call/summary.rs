//! The call as lists show it, and its place among the machines.

use super::fact::CallFact;
use super::parts::{Direction, LegStatus, Outcome};
use super::state::{Call, Phase};
use super::{CallCommand, CallEffect, CallReply};
use super::{CallRefusal, decide};
use crate::domain::machine::{Decision, Machine};
use crate::domain::record::{CallSummary, EntityRef, ProviderRef, Summary};
use crate::domain::time::Timestamp;

impl Call {
    /// The call as lists show it.
    #[must_use]
    pub fn list_row(&self) -> CallSummary {
        let end = self.end.as_ref();
        CallSummary {
            id: self.id,
            direction: self.direction,
            state: self.state_word().into(),
            status: self.status_word().into(),
            is_open: self.phase != Phase::Ended,
            from: self.from.clone(),
            to: self.to.clone(),
            queue_id: self.routing.as_ref().map(|routing| routing.queue_id),
            agent_id: self.shown_agent(),
            provider: self.provider.clone(),
            provider_call_id: self.customer().and_then(|leg| leg.provider_id.clone()),
            started_at: self.received_at,
            queued_at: self.place_since,
            answered_at: self.answered_at().map(|moment| moment.ours),
            ended_at: self.ended_at,
            wait_ms: end.and_then(|end| end.wait_ms),
            talk_ms: end.and_then(|end| end.talk_ms),
            hold_ms: end.and_then(|end| end.hold_ms),
            exit_reason: end.and_then(|end| end.exit_reason),
            ended_by: end.map(|end| end.ended_by),
            outcome: end.map(|end| end.outcome),
            disposition_id: self.disposition_id,
            note: self.note.clone(),
            context: self.context.clone(),
            legs: self.legs.iter().map(super::Leg::summary).collect(),
        }
    }

    /// The status in the words of carriers, as in the vocabulary's table of provider statuses.
    fn status_word(&self) -> &'static str {
        match &self.phase {
            Phase::Vacant => "queued",
            Phase::Placing => match self.customer().map_or(LegStatus::New, |leg| leg.status) {
                LegStatus::New | LegStatus::Dialing => "initiated",
                LegStatus::Ringing | LegStatus::Connected | LegStatus::Ended => "ringing",
            },
            Phase::Queued => "queued",
            Phase::Offered(_) => "ringing",
            Phase::Connected { .. } | Phase::Voicemail { .. } | Phase::Closing { .. } => "in_progress",
            Phase::WrapUp { .. } | Phase::Ended => self.final_status(),
        }
    }

    fn final_status(&self) -> &'static str {
        let outcome = self.end.as_ref().map_or(Outcome::Failed, |end| end.outcome);
        match (outcome, self.direction) {
            (Outcome::Answered | Outcome::Voicemail | Outcome::Fallback | Outcome::Abandoned, _) => {
                "completed"
            }
            (Outcome::Rejected | Outcome::Failed, _) => "failed",
            (Outcome::Busy, _) => "busy",
            (Outcome::NoAnswer, _) => "no_answer",
            (Outcome::Canceled, Direction::Inbound | Direction::Outbound) => "canceled",
        }
    }
}

impl Machine for Call {
    type Command = CallCommand;
    type Fact = CallFact;
    type Effect = CallEffect;
    type Reply = CallReply;
    type Refusal = CallRefusal;

    fn vacant(entity: EntityRef) -> Self {
        Self::vacant(entity)
    }

    fn decide(&self, command: CallCommand, now: Timestamp) -> Result<Decision<Self>, CallRefusal> {
        decide(self, command, now)
    }

    fn apply(&mut self, fact: &CallFact, at: Timestamp) {
        self.take(fact, at);
    }

    fn resume(&self, now: Timestamp) -> Vec<CallEffect> {
        self.resumed(now)
    }

    fn tick() -> CallCommand {
        CallCommand::Tick
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.wake_at()
    }

    fn summary(&self) -> Summary {
        Summary::Call(Box::new(self.list_row()))
    }

    fn provider_refs(&self) -> Vec<ProviderRef> {
        let legs = self.legs.iter().filter_map(|leg| leg.provider_id.clone());
        let names = legs.chain(self.rooms.iter().cloned());
        names.map(|reference| ProviderRef { provider: self.provider.clone(), reference }).collect()
    }

    fn is_final(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn may_park(&self) -> bool {
        match self.phase {
            Phase::Queued | Phase::Connected { .. } | Phase::WrapUp { .. } | Phase::Ended | Phase::Vacant => {
                true
            }
            Phase::Placing | Phase::Offered(_) | Phase::Voicemail { .. } | Phase::Closing { .. } => false,
        }
    }

    fn event_type(fact: &CallFact) -> &'static str {
        match fact {
            CallFact::Received { .. } => "call.received",
            CallFact::CarrierReported { .. } => "call.carrier_reported",
            CallFact::LegAdded { .. } => "call.leg_added",
            CallFact::LegNamed { .. } => "call.leg_named",
            CallFact::LegMoved { .. } => "call.leg_moved",
            CallFact::LegInDoubt { .. } => "call.leg_in_doubt",
            CallFact::RoomNamed { .. } => "call.room_named",
            CallFact::Queued { .. } => "call.queued",
            CallFact::WaitReported { .. } => "call.wait_reported",
            CallFact::Offered { .. } => "call.offered",
            CallFact::OfferEnded { .. } => "call.offer_ended",
            CallFact::Requeued { .. } => "call.requeued",
            CallFact::Connected { .. } => "call.connected",
            CallFact::Held => "call.held",
            CallFact::Resumed => "call.resumed",
            CallFact::Overflowed { .. } => "call.overflowed",
            CallFact::VoicemailLeft { .. } => "call.voicemail_left",
            CallFact::RecordingReady { .. } => "call.recording_ready",
            CallFact::HangupRequested { .. } => "call.hangup_requested",
            CallFact::Parted => "call.parted",
            CallFact::Ended { .. } => "call.ended",
            CallFact::Corrected { .. } => "call.corrected",
            CallFact::WrapUpExtended { .. } => "call.wrap_up_extended",
            CallFact::Disposed { .. } => "call.disposed",
            CallFact::Completed => "call.completed",
        }
    }
}
