//! A moody provider: orders are done, refused or in doubt; phones answer, are busy or ring on;
//! callbacks come late, doubled and out of order.

use std::collections::{HashMap, HashSet};

use eml::domain::call::{
    Asked, CallCommand, CarrierNews, CarrierOrder, Document, LegEnd, LegHint, LegStatus, News, OrderKind,
    OrderResult, RawEvent,
};
use eml::domain::id::{AttemptId, LegId};
use eml::domain::time::{Millis, Timestamp};
use rand::Rng;
use serde_json::value::RawValue;

use super::world::{Message, Place, World};

/// One line at the provider.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) call: usize,
    /// Our name for it, when we placed it.
    pub(super) leg: Option<LegId>,
    pub(super) alive: bool,
    pub(super) joined: bool,
    answered: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Carrier {
    pub(super) lines: Vec<Line>,
    attempts: HashSet<AttemptId>,
    placed: HashMap<LegId, usize>,
    keys: u64,
}

/// What happens on a line.
#[derive(Debug, Clone)]
pub(super) enum PhoneEvent {
    Rings(usize),
    Answers(usize),
    Gives(usize, LegEnd),
    HangsUp(usize),
    Asks(usize),
    LeavesMessage(usize),
}

fn sid(line: usize) -> Box<str> {
    format!("CA{line:04}").into()
}

fn line_of(sid: &str) -> usize {
    sid.trim_start_matches("CA").parse().unwrap()
}

pub(super) fn raw(key: u64, name: &str) -> RawEvent {
    RawEvent { key, name: name.into(), fields: RawValue::from_string("{}".to_owned()).unwrap() }
}

impl World {
    /// The customer's line of an inbound call.
    pub(super) fn inbound_line(&mut self, call: usize) -> Box<str> {
        let now = self.now;
        self.add_line(Line { call, leg: None, alive: true, joined: true, answered: Some(now) })
    }

    /// A refused call never was one: no news of it follows.
    pub(super) fn refuse_last_line(&mut self) {
        if let Some(line) = self.carrier.lines.last_mut() {
            (line.alive, line.joined) = (false, false);
        }
    }

    fn add_line(&mut self, line: Line) -> Box<str> {
        self.carrier.lines.push(line);
        sid(self.carrier.lines.len() - 1)
    }

    pub(super) fn order(&mut self, call: usize, leg: LegId, order: CarrierOrder) {
        let (kind, result) = match order {
            CarrierOrder::Place { attempt, ring, .. } => {
                (OrderKind::Place, self.place(call, leg, attempt, ring))
            }
            CarrierOrder::Find { .. } => {
                let found = self.carrier.placed.get(&leg).map(|line| sid(*line));
                let result = match found {
                    _ if self.chance(10) => OrderResult::InDoubt,
                    Some(found) => OrderResult::Done { provider_id: Some(found) },
                    None => OrderResult::NotFound,
                };
                (OrderKind::Find, result)
            }
            CarrierOrder::Check { provider_id } => {
                let lives = self.carrier.lines[line_of(&provider_id)].alive;
                let done = OrderResult::Done { provider_id: None };
                (OrderKind::Check, if lives { done } else { OrderResult::NotFound })
            }
            CarrierOrder::End { provider_id, .. } => (OrderKind::Change, self.end(line_of(&provider_id))),
            CarrierOrder::Redirect { provider_id } => {
                let line = line_of(&provider_id);
                self.happens(100, PhoneEvent::Asks(line));
                (OrderKind::Change, OrderResult::Done { provider_id: None })
            }
            CarrierOrder::Hold { provider_id, held, .. } => {
                let line = line_of(&provider_id);
                let refused = self.chance(20) || !self.carrier.lines[line].alive;
                if !refused {
                    self.tell(line, News::HoldChanged { held });
                }
                let done = OrderResult::Done { provider_id: None };
                let result = if refused { OrderResult::Refused { code: 404 } } else { done };
                (OrderKind::Hold { held }, result)
            }
        };
        let command = CallCommand::Ordered { leg_id: leg, kind, result };
        self.send(Place::Outside, Place::Call(call), Message::Call(call, command));
    }

    fn place(&mut self, call: usize, leg: LegId, attempt: AttemptId, ring: Millis) -> OrderResult {
        assert!(self.carrier.attempts.insert(attempt), "an attempt was used twice");
        assert!(!self.carrier.placed.contains_key(&leg), "a leg was placed twice");
        let mood = self.rng.random_range(0..100);
        if mood < 4 {
            return OrderResult::Refused { code: 21_217 };
        }
        if mood < 8 {
            return OrderResult::InDoubt;
        }
        let line = Line { call, leg: Some(leg), alive: true, joined: false, answered: None };
        let provider_id = self.add_line(line);
        let line = line_of(&provider_id);
        self.carrier.placed.insert(leg, line);
        self.happens(300, PhoneEvent::Rings(line));
        match self.rng.random_range(0..100) {
            0..65 => self.happens(8_000, PhoneEvent::Answers(line)),
            65..75 => self.happens(2_000, PhoneEvent::Gives(line, LegEnd::Busy)),
            75..80 => self.happens(2_000, PhoneEvent::Gives(line, LegEnd::Failed)),
            _ => self.post(
                self.now + ring,
                Place::Outside,
                Message::Phone(PhoneEvent::Gives(line, LegEnd::NoAnswer)),
            ),
        }
        if mood < 14 { OrderResult::InDoubt } else { OrderResult::Done { provider_id: Some(provider_id) } }
    }

    fn end(&mut self, line: usize) -> OrderResult {
        match self.rng.random_range(0..100) {
            _ if !self.carrier.lines[line].alive => OrderResult::NotFound,
            0..5 if !self.orderly => OrderResult::InDoubt,
            _ => {
                let end = self.carrier.lines[line].answered.map_or(LegEnd::Canceled, |_| LegEnd::Normal);
                self.line_ends(line, end);
                OrderResult::Done { provider_id: None }
            }
        }
    }

    fn happens(&mut self, within: u64, event: PhoneEvent) {
        let at = self.now + Millis(self.rng.random_range(0..=within));
        self.post(at, Place::Outside, Message::Phone(event));
    }

    pub(super) fn phone(&mut self, event: PhoneEvent) {
        self.say(|| format!("phone {event:?}"));
        match event {
            PhoneEvent::Rings(line) if self.is_fresh(line) => {
                self.tell(line, status(LegStatus::Dialing));
                self.tell(line, status(LegStatus::Ringing));
            }
            PhoneEvent::Answers(line) if self.is_fresh(line) => {
                self.carrier.lines[line].answered = Some(self.now);
                self.tell(line, status(LegStatus::Connected));
                self.asks(line, Asked::Answered);
            }
            PhoneEvent::Gives(line, end) if self.is_fresh(line) => self.line_ends(line, end),
            PhoneEvent::HangsUp(line) => self.line_ends(line, LegEnd::Normal),
            PhoneEvent::Asks(line) if self.carrier.lines[line].alive => {
                self.asks(line, Asked::Next { bridged: false });
            }
            PhoneEvent::LeavesMessage(line) if self.carrier.lines[line].alive => {
                let hung_up = self.chance(50);
                self.tell(line, News::VoicemailLeft { recording_url: "r".into(), length: None, hung_up });
                self.line_ends(line, LegEnd::Normal);
            }
            PhoneEvent::Rings(_)
            | PhoneEvent::Answers(_)
            | PhoneEvent::Gives(..)
            | PhoneEvent::Asks(_)
            | PhoneEvent::LeavesMessage(_) => {}
        }
    }

    fn is_fresh(&self, line: usize) -> bool {
        let line = &self.carrier.lines[line];
        line.alive && line.answered.is_none()
    }

    /// The provider asks at once, because it needs the answer.
    fn asks(&mut self, line: usize, asked: Asked) {
        let news = self.news(line, News::Document(asked));
        let call = self.carrier.lines[line].call;
        match self.step_call(call, CallCommand::Carrier(Box::new(news))) {
            Some(Document::JoinRoom { .. } | Document::WaitInRoom) => {
                self.carrier.lines[line].joined = true;
                self.tell(line, News::Joined);
            }
            Some(Document::Voicemail) => self.happens(60_000, PhoneEvent::LeavesMessage(line)),
            Some(Document::Goodbye) => self.happens(5_000, PhoneEvent::HangsUp(line)),
            Some(
                Document::Hangup
                | Document::Refuse
                | Document::WaitMusic
                | Document::HoldMusic
                | Document::Acknowledge,
            )
            | None => self.line_ends(line, LegEnd::Normal),
        }
    }

    /// A line is over; the room takes the agent's line along when the customer leaves it.
    pub(super) fn line_ends(&mut self, line: usize, end: LegEnd) {
        if !self.carrier.lines[line].alive {
            return;
        }
        self.carrier.lines[line].alive = false;
        let answered_for = self.carrier.lines[line].answered.map(|at| self.now.since(at));
        let end = if answered_for.is_none() && end == LegEnd::Normal { LegEnd::Canceled } else { end };
        self.tell(line, News::Leg { status: LegStatus::Ended, end: Some(end), answered_for });
        if self.carrier.lines[line].joined && self.chance(50) {
            self.tell(line, News::Left { hung_up: true });
        }
        let call = self.carrier.lines[line].call;
        if self.is_customer(line) {
            for other in 0..self.carrier.lines.len() {
                let same_room = self.carrier.lines[other].call == call && self.carrier.lines[other].joined;
                if same_room {
                    self.line_ends(other, LegEnd::Normal);
                }
            }
        }
    }

    pub(super) fn is_customer(&self, line: usize) -> bool {
        let line = &self.carrier.lines[line];
        let customer = self.calls[line.call].machine.customer().map(|leg| leg.id);
        line.leg.is_none() || line.leg == customer
    }

    fn tell(&mut self, line: usize, news: News) {
        // Some callbacks never arrive.
        if !self.orderly && !self.leaving && self.chance(2) {
            return;
        }
        let call = self.carrier.lines[line].call;
        let news = CallCommand::Carrier(Box::new(self.news(line, news)));
        if self.chance(10) {
            self.send(Place::Outside, Place::Call(call), Message::Call(call, news.clone()));
        }
        self.send(Place::Outside, Place::Call(call), Message::Call(call, news));
    }

    fn news(&mut self, line: usize, news: News) -> CarrierNews {
        self.carrier.keys += 1;
        let leg = LegHint {
            leg_id: self.carrier.lines[line].leg,
            provider_id: Some(sid(line)),
            ..LegHint::default()
        };
        let seconds = self.now.millis() / 1000 * 1000;
        CarrierNews {
            leg,
            room: None,
            occurred_at: Some(Timestamp::from_millis(seconds)),
            news,
            raw: raw(self.carrier.keys, "news"),
        }
    }
}

fn status(status: LegStatus) -> News {
    News::Leg { status, end: None, answered_for: None }
}
