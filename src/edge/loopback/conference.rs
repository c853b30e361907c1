//! Conferences: rooms where legs meet, and the callbacks about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::conference_news::News;
use super::leg::{Callback, Direction, Leg};
use super::lines::put;
use super::stats::count;
use super::switch::Switch;
use super::twiml::{self, Link};
use super::webhooks::{Form, Lane};
use crate::domain::time::Timestamp;

/// What somebody in a room hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The conference has not started.
    Waiting,
    /// The others.
    Talking,
    /// Music, away from the others.
    Held,
    /// Nothing: no longer in the room.
    Out,
}

/// One leg in a room.
pub(super) struct Seat {
    pub(super) leg: Arc<Leg>,
    pub(super) label: Option<String>,
    pub(super) starts: bool,
    marks: Mutex<Marks>,
    stage: watch::Sender<Stage>,
}

/// What can be changed about a seat.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) muted: bool,
    pub(super) held: bool,
    pub(super) coaching: Option<String>,
    pub(super) ends: bool,
    pub(super) hold_music: Option<Link>,
}

impl Seat {
    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_held(&self) -> bool {
        self.marks().held
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}

/// One conference, from its first participant to its last.
pub(super) struct Room {
    pub(super) sid: String,
    pub(super) name: String,
    pub(super) lane: Arc<Lane>,
    state: Mutex<RoomState>,
}

/// What changes about a room; every change is reported under its lock, so reports keep their order.
#[derive(Default)]
pub(super) struct RoomState {
    seats: Vec<Arc<Seat>>,
    started: bool,
    ended: bool,
    pub(super) sequence: u32,
    pub(super) callback: Option<Callback>,
    pub(super) wants_recording: Option<Callback>,
    pub(super) tape: Option<(String, Instant, Timestamp)>,
}

/// All rooms that are open.
#[derive(Default)]
pub(super) struct Rooms {
    by_name: DashMap<String, Arc<Room>>,
    by_sid: DashMap<String, Arc<Room>>,
}

impl Rooms {
    /// The open room with this identifier or name.
    pub(super) fn find(&self, sid_or_name: &str) -> Option<Arc<Room>> {
        let found = self.by_sid.get(sid_or_name).or_else(|| self.by_name.get(sid_or_name));
        found.map(|entry| Arc::clone(entry.value()))
    }

    fn open(&self, name: &str, sid: impl FnOnce() -> String) -> Arc<Room> {
        let entry = self.by_name.entry(name.to_owned()).or_insert_with(|| {
            let room =
                Room { sid: sid(), name: name.to_owned(), lane: Arc::default(), state: Mutex::default() };
            let room = Arc::new(room);
            self.by_sid.insert(room.sid.clone(), Arc::clone(&room));
            room
        });
        Arc::clone(entry.value())
    }

    fn close(&self, room: &Arc<Room>) {
        self.by_name.remove_if(&room.name, |_, open| Arc::ptr_eq(open, room));
        self.by_sid.remove(&room.sid);
    }
}

impl Room {
    fn state(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat of a leg, by its identifier or label.
    pub(super) fn seat(&self, sid_or_label: &str) -> Option<Arc<Seat>> {
        let state = self.state();
        let named =
            |seat: &&Arc<Seat>| seat.leg.sid == sid_or_label || seat.label.as_deref() == Some(sid_or_label);
        state.seats.iter().find(named).cloned()
    }

    /// The legs in the room, in order of arrival.
    pub(super) fn seats(&self) -> Vec<Arc<Seat>> {
        self.state().seats.clone()
    }

    /// `init` before the start, `in-progress` after it, `completed` at the end.
    pub(super) fn status(&self) -> &'static str {
        let state = self.state();
        match (state.ended, state.started) {
            (true, _) => "completed",
            (false, true) => "in-progress",
            (false, false) => "init",
        }
    }
}

fn callback(link: Option<&Link>, events: &str) -> Option<Callback> {
    let events = events.split_whitespace().map(ToOwned::to_owned).collect();
    link.map(|link| Callback { link: link.clone(), events })
}

impl Switch {
    /// Seats a leg in the room of that name; `None` when the room is full.
    pub(super) fn enter_room(
        &self,
        leg: &Arc<Leg>,
        asked: &twiml::Conference,
    ) -> Option<(Arc<Room>, Arc<Seat>)> {
        let seat = Arc::new(Seat {
            leg: Arc::clone(leg),
            label: asked.label.clone(),
            starts: asked.starts,
            marks: Mutex::new(Marks {
                muted: asked.muted,
                held: false,
                coaching: asked.coaching.clone(),
                ends: asked.ends,
                hold_music: None,
            }),
            stage: watch::Sender::new(Stage::Waiting),
        });
        loop {
            let room = self.rooms.open(&asked.name, || self.sids.next("CF"));
            let mut state = room.state();
            if state.ended {
                // Its last participant is just leaving: a new room of that name comes next.
                drop(state);
                self.rooms.close(&room);
                continue;
            }
            if state.seats.len() >= asked.max_participants {
                return None;
            }
            if state.sequence == 0 && state.seats.is_empty() {
                state.callback = callback(asked.callback.as_ref(), &asked.events);
            }
            if asked.record && state.wants_recording.is_none() {
                state.wants_recording = callback(asked.recording_callback.as_ref(), &asked.recording_events);
            }
            state.seats.push(Arc::clone(&seat));
            self.tell(&room, &mut state, News::of("participant-join", Some(&seat)));
            self.start_if_due(&room, &mut state);
            self.settle(&state);
            drop(state);
            leg.state().seat = Some((Arc::clone(&room), Arc::clone(&seat)));
            leg.note(format!("joined conference {}", room.name));
            return Some((room, seat));
        }
    }

    fn start_if_due(&self, room: &Room, state: &mut RoomState) {
        if state.started || state.seats.len() < 2 || !state.seats.iter().any(|seat| seat.starts) {
            return;
        }
        state.started = true;
        self.tell(room, state, News::of("conference-start", None));
        if state.wants_recording.is_some() {
            state.tape = Some((self.sids.next("RE"), Instant::now(), self.clock.now()));
            self.tell_recording(room, state, "in-progress");
        }
    }

    /// Tells every seat what it hears now.
    fn settle(&self, state: &RoomState) {
        let together = state.started && state.seats.len() >= 2;
        for seat in &state.seats {
            let held = seat.is_held();
            let hears = match (held, state.started) {
                (true, _) => Stage::Held,
                (false, true) => Stage::Talking,
                (false, false) => Stage::Waiting,
            };
            seat.stage.send_if_modified(|now| std::mem::replace(now, hears) != hears);
            if seat.leg.set_bridged(together && !held) && seat.leg.direction == Direction::Inbound {
                count(&self.stats.calls_bridged);
            }
        }
    }

    /// Takes a seat out of a room; ends the room when that was the last one, or one that ends it.
    pub(super) fn leave_room(&self, room: &Arc<Room>, seat: &Arc<Seat>, reason: &str) {
        let mut state = room.state();
        let Some(place) = state.seats.iter().position(|other| Arc::ptr_eq(other, seat)) else {
            return;
        };
        state.seats.remove(place);
        self.tell_leave(room, &mut state, seat, reason);
        let ends = seat.marks().ends;
        if ends {
            let why = "participant-with-end-conference-on-exit-left";
            self.end_room(room, &mut state, (why, "moderator_ended_conference"), Some(seat));
        } else if state.seats.is_empty() {
            self.end_room(room, &mut state, ("last-participant-left", ""), Some(seat));
        } else {
            self.settle(&state);
        }
        drop(state);
        seat.stage.send_replace(Stage::Out);
    }

    /// Ends a room because the account says so.
    pub(super) fn end_room_by_request(&self, room: &Arc<Room>) {
        let mut state = room.state();
        if !state.ended {
            self.end_room(room, &mut state, ("conference-ended-via-api", "conference_ended_via_api"), None);
        }
    }

    fn end_room(
        &self,
        room: &Arc<Room>,
        state: &mut RoomState,
        (why, why_left): (&str, &str),
        by: Option<&Arc<Seat>>,
    ) {
        state.ended = true;
        self.rooms.close(room);
        let mut more = Form::new();
        put(&mut more, "ReasonConferenceEnded", why);
        put(&mut more, "Reason", why.replace('-', " "));
        if let Some(seat) = by {
            put(&mut more, "CallSidEndingConference", seat.leg.sid.as_str());
            if let Some(label) = &seat.label {
                put(&mut more, "ParticipantLabelEndingConference", label.as_str());
            }
        }
        self.tell(room, state, News { event: "conference-end", seat: None, more });
        for seat in std::mem::take(&mut state.seats) {
            self.tell_leave(room, state, &seat, why_left);
            seat.leg.set_bridged(false);
            seat.stage.send_replace(Stage::Out);
        }
        if state.tape.is_some() {
            self.tell_recording(room, state, "completed");
        }
    }

    /// Changes a seat and reports each change; `None` leaves a mark as it is.
    pub(super) fn mark(&self, room: &Room, seat: &Arc<Seat>, change: impl FnOnce(&mut Marks)) {
        let mut state = room.state();
        let (before, after) = {
            let mut marks = seat.marks();
            let before = marks.clone();
            change(&mut marks);
            (before, marks.clone())
        };
        let events = [
            (
                before.muted != after.muted,
                if after.muted { "participant-mute" } else { "participant-unmute" },
            ),
            (before.held != after.held, if after.held { "participant-hold" } else { "participant-unhold" }),
            (before.ends != after.ends || before.coaching != after.coaching, "participant-modify"),
        ];
        for (_, event) in events.iter().filter(|(changed, _)| *changed) {
            self.tell(room, &mut state, News::of(event, Some(seat)));
            seat.leg.note(*event);
        }
        self.settle(&state);
    }
}
