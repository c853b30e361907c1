//! Taking facts in. Total: a fact that makes no sense in a state changes nothing.

use super::fact::CallFact;
use super::parts::{Direction, Leg, LegRole, LegStatus, Moment};
use super::state::{Call, Connection, Offer, Phase};
use crate::domain::agent::OfferOutcome;
use crate::domain::id::{AgentId, LegId};
use crate::domain::time::{Millis, Timestamp};

/// How long an agent who let a call pass is not offered the same call again.
const PASS_BY: Millis = Millis::from_secs(10);

impl Call {
    /// Takes in one fact.
    #[expect(clippy::too_many_lines, reason = "a table: one line per kind of fact")]
    pub fn take(&mut self, fact: &CallFact, at: Timestamp) {
        match fact {
            CallFact::Received { .. } => self.take_received(fact, at),
            CallFact::CarrierReported { key, occurred_at, .. } => {
                self.seen.push(*key);
                if let Some(told) = occurred_at {
                    self.carrier_first = Some(self.carrier_first.map_or(*told, |first| first.min(*told)));
                }
            }
            CallFact::LegAdded { .. } | CallFact::LegNamed { .. } | CallFact::LegMoved { .. } => {
                self.take_leg(fact, at);
            }
            CallFact::LegInDoubt { leg_id } => self.change_leg(*leg_id, |leg| leg.in_doubt = true),
            CallFact::RoomNamed { room } => self.rooms.push(room.clone()),
            CallFact::Queued { since, .. } => {
                self.place_since = Some(*since);
                self.entered_at = Some(at);
                self.phase = Phase::Queued;
            }
            CallFact::WaitReported { waited } => self.waited_reported = Some(*waited),
            CallFact::Offered { offer_id, agent_id, address, deadline, .. } => {
                self.phase = Phase::Offered(Offer {
                    offer_id: *offer_id,
                    agent_id: *agent_id,
                    address: address.clone(),
                    deadline: *deadline,
                    leg_id: None,
                });
            }
            CallFact::OfferEnded { agent_id, outcome, .. } => match outcome {
                OfferOutcome::Accepted => {}
                OfferOutcome::Rejected
                | OfferOutcome::Timeout
                | OfferOutcome::Rescinded
                | OfferOutcome::Canceled => self.take_requeued(*agent_id, at),
            },
            CallFact::Requeued { agent_id, .. } => self.take_requeued(*agent_id, at),
            CallFact::Connected { agent_id, leg_id } => self.take_connected(*agent_id, *leg_id, at),
            CallFact::Held | CallFact::Resumed | CallFact::Parted => self.take_talk(fact, at),
            CallFact::Overflowed { routing, voicemail } => match routing {
                Some(routing) => self.routing = Some(routing.clone()),
                None if *voicemail => {
                    self.exit = Some(super::ExitReason::Overflowed);
                    self.phase = Phase::Voicemail { since: at };
                }
                None => {
                    self.exit = Some(super::ExitReason::Timeout);
                    self.phase = Phase::Closing { since: at };
                }
            },
            CallFact::VoicemailLeft { .. } => self.has_voicemail = true,
            CallFact::RecordingReady { recording_id, .. } => self.recordings.push(recording_id.clone()),
            CallFact::HangupRequested { by } => self.hangup_by = Some(*by),
            CallFact::Ended { .. }
            | CallFact::Corrected { .. }
            | CallFact::WrapUpExtended { .. }
            | CallFact::Completed => {
                self.take_ending(fact, at);
            }
            CallFact::Disposed { disposition_id, note } => {
                self.disposition_id = disposition_id.or(self.disposition_id);
                self.note = note.clone().or_else(|| self.note.take());
            }
        }
    }

    fn take_received(&mut self, fact: &CallFact, at: Timestamp) {
        let CallFact::Received {
            direction,
            from,
            to,
            provider,
            routing,
            agent,
            ring,
            wrap_up,
            fallback,
            context,
        } = fact
        else {
            return;
        };
        self.direction = *direction;
        self.from = from.clone();
        self.to = to.clone();
        self.provider = provider.clone();
        self.routing.clone_from(routing);
        self.wanted_agent.clone_from(agent);
        self.ring = *ring;
        self.wrap_up = *wrap_up;
        self.fallback.clone_from(fallback);
        self.context.clone_from(context);
        self.received_at = at;
        self.phase = Phase::Placing;
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands over these kinds only")]
    fn take_leg(&mut self, fact: &CallFact, at: Timestamp) {
        match fact {
            CallFact::LegAdded { leg_id, role, address, agent_id, attempt, provider_id } => {
                let rings = *role == LegRole::Customer && self.direction == Direction::Inbound;
                self.legs.push(Leg {
                    id: *leg_id,
                    role: *role,
                    address: address.clone(),
                    agent_id: *agent_id,
                    attempt: *attempt,
                    provider_id: provider_id.clone(),
                    status: if rings { LegStatus::Ringing } else { LegStatus::New },
                    in_doubt: false,
                    started: Moment { ours: at, carrier: None },
                    answered: None,
                    ended: None,
                    end: None,
                });
                if let (LegRole::Agent, Phase::Offered(offer)) = (role, &mut self.phase) {
                    offer.leg_id = Some(*leg_id);
                }
            }
            CallFact::LegNamed { leg_id, provider_id } => self.change_leg(*leg_id, |leg| {
                leg.provider_id = Some(provider_id.clone());
                leg.in_doubt = false;
            }),
            CallFact::LegMoved { leg_id, status, end, carrier_at } => {
                self.change_leg(*leg_id, |leg| {
                    let told = Moment { ours: at, carrier: *carrier_at };
                    move_leg(leg, *status, told);
                    if *status == LegStatus::Ended && leg.end.is_none() {
                        leg.end = *end;
                    }
                });
            }
            _ => {}
        }
    }

    fn change_leg(&mut self, id: LegId, change: impl FnOnce(&mut Leg)) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) {
            change(leg);
        }
    }

    fn take_requeued(&mut self, agent_id: AgentId, at: Timestamp) {
        self.passed_by.retain(|(agent, until)| *agent != agent_id && *until > at);
        self.passed_by.push((agent_id, at + PASS_BY));
        self.phase = Phase::Queued;
    }

    fn take_connected(&mut self, agent_id: Option<AgentId>, leg_id: Option<LegId>, at: Timestamp) {
        self.connection = Some(Connection { agent_id, leg_id, at });
        match self.phase {
            Phase::WrapUp { .. } | Phase::Ended => {}
            Phase::Vacant
            | Phase::Placing
            | Phase::Queued
            | Phase::Offered(_)
            | Phase::Connected { .. }
            | Phase::Voicemail { .. }
            | Phase::Closing { .. } => self.phase = Phase::Connected { held_since: None, parted_at: None },
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands over these kinds only")]
    fn take_talk(&mut self, fact: &CallFact, at: Timestamp) {
        let Phase::Connected { held_since, parted_at } = &mut self.phase else { return };
        match fact {
            CallFact::Held => *held_since = Some(at),
            CallFact::Resumed => {
                self.held = self.held + held_since.take().map_or(Millis(0), |since| at.since(since));
            }
            CallFact::Parted => *parted_at = Some(at),
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller hands over these kinds only")]
    fn take_ending(&mut self, fact: &CallFact, at: Timestamp) {
        match fact {
            CallFact::Ended { record, wrap_up_until } => {
                if let Phase::Connected { held_since: Some(since), .. } = self.phase {
                    self.held = self.held + at.since(since);
                }
                let agent_id = self.connection.as_ref().and_then(|connection| connection.agent_id);
                self.phase = match (agent_id, wrap_up_until) {
                    (Some(agent_id), Some(until)) => Phase::WrapUp { agent_id, until: *until },
                    (Some(_) | None, None) | (None, Some(_)) => Phase::Ended,
                };
                self.ended_at = Some(at);
                self.end = Some(record.clone());
            }
            CallFact::Corrected { record } => self.end = Some(record.clone()),
            CallFact::WrapUpExtended { until } => {
                if let Phase::WrapUp { until: limit, .. } = &mut self.phase {
                    *limit = *until;
                }
            }
            CallFact::Completed => self.phase = Phase::Ended,
            _ => {}
        }
    }
}

/// Moves a leg forward, or fills in a time that a late report tells.
fn move_leg(leg: &mut Leg, status: LegStatus, told: Moment) {
    match status {
        LegStatus::Connected => fill(&mut leg.answered, told),
        LegStatus::Ended => {
            leg.ended = Some(leg.ended.map_or(told, |known| known.earlier(told)));
        }
        LegStatus::New | LegStatus::Dialing | LegStatus::Ringing => {}
    }
    leg.status = leg.status.max(status);
}

/// Keeps the first report of a moment, but takes the carrier's time when the first had none.
fn fill(moment: &mut Option<Moment>, told: Moment) {
    match moment {
        None => *moment = Some(told),
        Some(known) if known.carrier.is_none() => known.carrier = told.carrier,
        Some(_) => {}
    }
}
