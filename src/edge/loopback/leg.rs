//! One leg: a telephone connected with the switch, and what is known about it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::conference::{Room, Seat};
pub(super) use super::status::{LegView, Status};
use super::twiml::{Enqueue, Link, Record};
use super::webhooks::{Form, Lane};
use crate::domain::time::Timestamp;

/// How many lines of its life a leg remembers.
const LONGEST_LOG: usize = 64;

/// Who made a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    OutboundApi,
    OutboundDial,
}

impl Direction {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::OutboundApi => "outbound-api",
            Self::OutboundDial => "outbound-dial",
        }
    }
}

/// Where the next document comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Ask this URL, adding these fields.
    Ask(Link, Form),
    /// The document itself.
    Inline(String),
}

/// What can be done to a living leg from outside.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// The person hangs up.
    HangUp,
    /// The account ends the leg.
    End,
    /// Go on with another document.
    Redirect(Source),
}

/// How the person at the telephone behaves; spans in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "the unit belongs into the name")]
pub(super) struct Habits {
    pub(super) hang_up_after_ms: Option<u64>,
    pub(super) talk_ms: Option<u64>,
    pub(super) patience_ms: Option<u64>,
    pub(super) record_ms: Option<u64>,
}

/// Who wants to know about a leg: where, and which events.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub(super) link: Link,
    pub(super) events: Vec<String>,
}

/// A message being left.
#[derive(Clone)]
pub(super) struct Taping {
    pub(super) verb: Record,
    pub(super) sid: String,
    pub(super) began: Instant,
    pub(super) began_at: Timestamp,
}

/// A place in a named queue.
#[derive(Clone)]
pub(super) struct Queued {
    pub(super) verb: Enqueue,
    pub(super) sid: String,
    pub(super) since: Instant,
}

/// What makes a leg, fixed for its life.
pub(super) struct Origin {
    pub(super) direction: Direction,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) parent: Option<String>,
    pub(super) habits: Habits,
    pub(super) fallback: Option<Link>,
    pub(super) callback: Option<Callback>,
}

/// One leg.
pub(super) struct Leg {
    pub(super) sid: String,
    pub(super) direction: Direction,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) parent: Option<String>,
    pub(super) habits: Habits,
    pub(super) fallback: Option<Link>,
    pub(super) created: Timestamp,
    pub(super) arrived: Instant,
    pub(super) lane: Arc<Lane>,
    orders: mpsc::Sender<Order>,
    changes: watch::Sender<()>,
    state: Mutex<LegState>,
}

/// What changes about a leg.
pub(super) struct LegState {
    pub(super) status: Status,
    pub(super) callback: Option<Callback>,
    pub(super) sequence: u32,
    pub(super) answered: Option<(Instant, Timestamp)>,
    pub(super) ended: Option<(Instant, Timestamp)>,
    pub(super) bridged: bool,
    pub(super) first_bridged: Option<Instant>,
    /// Somebody or something takes care of the caller: patience no longer counts.
    pub(super) served: bool,
    pub(super) taping: Option<Taping>,
    pub(super) queued: Option<Queued>,
    pub(super) seat: Option<(Arc<Room>, Arc<Seat>)>,
    pub(super) children: Vec<Arc<Leg>>,
    pub(super) log: VecDeque<String>,
}

impl Leg {
    pub(super) fn new(sid: String, origin: Origin, created: Timestamp) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(8);
        let state = LegState {
            status: Status::Queued,
            callback: origin.callback,
            sequence: 0,
            answered: None,
            ended: None,
            bridged: false,
            first_bridged: None,
            served: false,
            taping: None,
            queued: None,
            seat: None,
            children: Vec::new(),
            log: VecDeque::new(),
        };
        let leg = Self {
            sid,
            direction: origin.direction,
            from: origin.from,
            to: origin.to,
            parent: origin.parent,
            habits: origin.habits,
            fallback: origin.fallback,
            created,
            arrived: Instant::now(),
            lane: Arc::default(),
            orders,
            changes: watch::Sender::new(()),
            state: Mutex::new(state),
        };
        (Arc::new(leg), inbox)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LegState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.state().status
    }

    /// Hands an order over; false when the leg has ended or is flooded with orders.
    pub(super) fn order(&self, order: Order) -> bool {
        !self.status().is_final() && self.orders.try_send(order).is_ok()
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Writes a line into the log and wakes whoever watches.
    pub(super) fn note(&self, line: impl Into<String>) {
        let mut state = self.state();
        if state.log.len() == LONGEST_LOG {
            state.log.pop_front();
        }
        state.log.push_back(line.into());
        drop(state);
        self.changes.send_replace(());
    }

    /// Marks the leg as joined with another party, or not; true when it is the first time.
    pub(super) fn set_bridged(&self, bridged: bool) -> bool {
        let mut state = self.state();
        if state.bridged == bridged {
            return false;
        }
        state.bridged = bridged;
        let first = bridged && state.first_bridged.is_none();
        if first {
            state.first_bridged = Some(Instant::now());
        }
        drop(state);
        self.note(if bridged { "bridged" } else { "unbridged" });
        first
    }

    /// How long the leg has been answered, in milliseconds.
    pub(super) fn answered_ms(&self) -> u64 {
        let state = self.state();
        let until = state.ended.map_or_else(Instant::now, |(at, _)| at);
        let span = state.answered.map(|(at, _)| until.saturating_duration_since(at));
        span.map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    /// A copy of what can be seen from outside.
    pub(super) fn view(&self) -> LegView {
        let answered_ms = self.answered_ms();
        let state = self.state();
        LegView {
            sid: self.sid.clone(),
            parent_call_sid: self.parent.clone(),
            direction: self.direction.as_str(),
            from: self.from.clone(),
            to: self.to.clone(),
            status: state.status,
            bridged: state.bridged,
            was_bridged: state.first_bridged.is_some(),
            held: state.seat.as_ref().is_some_and(|(_, seat)| seat.is_held()),
            recording: state.taping.is_some(),
            conference_sid: state.seat.as_ref().map(|(room, _)| room.sid.clone()),
            conference: state.seat.as_ref().map(|(room, _)| room.name.clone()),
            answered_ms,
            log: state.log.iter().cloned().collect(),
        }
    }
}
