//! Callbacks about conferences and their recordings.

use std::sync::Arc;

use super::conference::{Room, RoomState, Seat};
use super::lines::{put, seconds};
use super::switch::Switch;
use super::webhooks::Form;

/// One event of a conference.
pub(super) struct News<'a> {
    /// Its name as it is reported.
    pub(super) event: &'a str,
    /// Whom it is about; `None` for the room itself.
    pub(super) seat: Option<&'a Arc<Seat>>,
    /// Fields of this kind of event only.
    pub(super) more: Form,
}

impl<'a> News<'a> {
    /// An event without fields of its own.
    pub(super) fn of(event: &'a str, seat: Option<&'a Arc<Seat>>) -> Self {
        Self { event, seat, more: Form::new() }
    }
}

/// The word by which an event is asked for.
fn asked_as(event: &str) -> &str {
    match event {
        "conference-start" => "start",
        "conference-end" => "end",
        "participant-join" => "join",
        "participant-leave" => "leave",
        "participant-mute" | "participant-unmute" => "mute",
        "participant-hold" | "participant-unhold" => "hold",
        other => other.strip_prefix("participant-").unwrap_or(other),
    }
}

impl Switch {
    pub(super) fn tell_leave(&self, room: &Room, state: &mut RoomState, seat: &Arc<Seat>, reason: &str) {
        let mut more = Form::new();
        put(&mut more, "ParticipantCallStatus", seat.leg.status().as_str());
        put(&mut more, "ReasonParticipantLeft", reason);
        self.tell(room, state, News { event: "participant-leave", seat: Some(seat), more });
    }

    pub(super) fn tell(&self, room: &Room, state: &mut RoomState, news: News<'_>) {
        let News { event, seat, more } = news;
        let Some(callback) = state.callback.as_ref() else { return };
        if !callback.events.iter().any(|asked| asked == asked_as(event)) {
            return;
        }
        state.sequence += 1;
        let mut form = Form::with_capacity(20);
        put(&mut form, "AccountSid", self.settings.account_sid.as_str());
        put(&mut form, "ConferenceSid", room.sid.as_str());
        put(&mut form, "FriendlyName", room.name.as_str());
        put(&mut form, "SequenceNumber", state.sequence.to_string());
        put(&mut form, "StatusCallbackEvent", event);
        put(&mut form, "Timestamp", self.clock.now().to_rfc2822());
        if let Some(seat) = seat {
            let marks = seat.marks().clone();
            put(&mut form, "CallSid", seat.leg.sid.as_str());
            put(&mut form, "Muted", marks.muted.to_string());
            put(&mut form, "Hold", marks.held.to_string());
            put(&mut form, "Coaching", marks.coaching.is_some().to_string());
            put(&mut form, "EndConferenceOnExit", marks.ends.to_string());
            put(&mut form, "StartConferenceOnEnter", seat.starts.to_string());
            if let Some(label) = &seat.label {
                put(&mut form, "ParticipantLabel", label.as_str());
            }
        }
        form.extend(more);
        self.courier.post(&room.lane, &callback.link, form);
    }

    pub(super) fn tell_recording(&self, room: &Room, state: &RoomState, status: &str) {
        let (Some(callback), Some((sid, began, began_at))) = (&state.wants_recording, &state.tape) else {
            return;
        };
        if !callback.events.iter().any(|asked| asked == status) {
            return;
        }
        let length = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut form = Form::new();
        put(&mut form, "AccountSid", self.settings.account_sid.as_str());
        put(&mut form, "ConferenceSid", room.sid.as_str());
        put(&mut form, "RecordingSid", sid.as_str());
        put(&mut form, "RecordingUrl", self.recording_url(sid));
        put(&mut form, "RecordingStatus", status);
        put(
            &mut form,
            "RecordingDuration",
            if status == "completed" { seconds(length) } else { "0".to_owned() },
        );
        put(&mut form, "RecordingChannels", "1");
        put(&mut form, "RecordingStartTime", began_at.to_rfc2822());
        put(&mut form, "RecordingSource", "Conference");
        self.courier.post(&room.lane, &callback.link, form);
    }
}
