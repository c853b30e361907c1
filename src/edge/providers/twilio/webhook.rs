//! Reading what Twilio posts, into the neutral words of a call.

mod raw;
#[cfg(test)]
mod tests;

use self::raw::raw;
use super::form::{Fields, value};
use crate::domain::address::Address;
use crate::domain::call::{Arrival, Asked, CarrierNews, LegEnd, LegHint, LegStatus, News};
use crate::domain::id::{CallId, LegId};
use crate::domain::time::{Millis, Timestamp};

/// The paths that Twilio posts to, below `/webhooks/{provider}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/voice`: a call arrives.
    Voice,
    /// `/voice/fallback`: the same after the first address failed.
    Fallback,
    /// `/agent`: a leg we placed was answered.
    Agent,
    /// `/status`: a leg came further.
    Status,
    /// `/conference`: something happened in a room.
    Conference,
    /// `/wait`: what does a waiting caller hear?
    Wait,
    /// `/hold`: what does a party on hold hear?
    Hold,
    /// `/dial-action`: a leg has done what it was told.
    DialAction,
    /// `/gather`: a caller pressed keys.
    Gather,
    /// `/recording`: what became of a recording.
    Recording,
    /// `/amd`: a person or a machine answered.
    Amd,
    /// `/messages`: a message came in.
    Messages,
    /// `/messages/status`: a message came further.
    MessagesStatus,
}

impl Kind {
    /// The kind behind a path below `/webhooks/{provider}/`.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "voice" => Self::Voice,
            "voice/fallback" => Self::Fallback,
            "agent" => Self::Agent,
            "status" => Self::Status,
            "conference" => Self::Conference,
            "wait" => Self::Wait,
            "hold" => Self::Hold,
            "dial-action" => Self::DialAction,
            "gather" => Self::Gather,
            "recording" => Self::Recording,
            "amd" => Self::Amd,
            "messages" => Self::Messages,
            "messages/status" => Self::MessagesStatus,
            _ => return None,
        })
    }

    /// Whether Twilio wants a document in the answer.
    #[must_use]
    pub const fn wants_document(self) -> bool {
        match self {
            Self::Voice | Self::Fallback | Self::Agent | Self::Wait | Self::Hold => true,
            Self::DialAction | Self::Gather | Self::Messages => true,
            Self::Status | Self::Conference | Self::Recording | Self::Amd | Self::MessagesStatus => false,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Fallback => "fallback",
            Self::Agent => "agent",
            Self::Status => "status",
            Self::Conference => "conference",
            Self::Wait => "wait",
            Self::Hold => "hold",
            Self::DialAction => "dial_action",
            Self::Gather => "gather",
            Self::Recording => "recording",
            Self::Amd => "amd",
            Self::Messages => "message",
            Self::MessagesStatus => "message_status",
        }
    }
}

/// A request makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {0} is missing or unusable")]
pub struct Malformed(pub &'static str);

/// What a request is.
#[derive(Debug, Clone)]
pub enum Incoming {
    /// A call arrives; where it leads is for the directory to say.
    Arrival(Box<Arrival>),
    /// News about a call.
    News(Box<Correlated>),
}

/// News, and everything that may tell which call it belongs to.
#[derive(Debug, Clone)]
pub struct Correlated {
    /// Our own id of the call, if the address or the room's name carries it.
    pub call_id: Option<CallId>,
    /// Twilio's ids, the most telling first.
    pub names: Vec<Box<str>>,
    /// What happened.
    pub news: CarrierNews,
}

/// Reads a verified request.
///
/// # Errors
/// When a field is missing that nothing can be done without.
pub fn parse(kind: Kind, provider: &str, query: &Fields, form: &Fields) -> Result<Incoming, Malformed> {
    let is_ours = our_call(query).is_some();
    let is_outbound = value(form, "Direction").is_some_and(|direction| direction.starts_with("outbound"));
    match kind {
        Kind::Voice | Kind::Fallback if !is_ours && !is_outbound => {
            arrival(kind, provider, form).map(|arrival| Incoming::Arrival(Box::new(arrival)))
        }
        Kind::Voice
        | Kind::Fallback
        | Kind::Agent
        | Kind::Status
        | Kind::Conference
        | Kind::Wait
        | Kind::Hold
        | Kind::DialAction
        | Kind::Gather
        | Kind::Recording
        | Kind::Amd
        | Kind::Messages
        | Kind::MessagesStatus => news(kind, query, form).map(|news| Incoming::News(Box::new(news))),
    }
}

fn arrival(kind: Kind, provider: &str, form: &Fields) -> Result<Arrival, Malformed> {
    let sid = told(form, "CallSid").ok_or(Malformed("CallSid"))?;
    let to = told(form, "To").or_else(|| told(form, "Called")).ok_or(Malformed("To"))?;
    let from = told(form, "From").or_else(|| told(form, "Caller")).unwrap_or("unknown");
    let error_code = told(form, "ErrorCode").unwrap_or("unknown");
    Ok(Arrival {
        provider: provider.into(),
        provider_call_id: sid.into(),
        from: Address::reported(from),
        to: Address::reported(to),
        routing: None,
        fallback: (kind == Kind::Fallback).then(|| error_code.into()),
        raw: raw(kind, form)?,
    })
}

/// The call that one of our own addresses names.
fn our_call(query: &Fields) -> Option<CallId> {
    value(query, "call")?.parse().ok()
}

/// The leg that one of our own addresses names, or the label that we gave it in the room.
fn our_leg(query: &Fields, form: &Fields) -> Option<LegId> {
    let named = |fields, name| value(fields, name).and_then(|id| id.parse().ok());
    named(query, "leg").or_else(|| named(form, "ParticipantLabel"))
}

/// The value of a field that is there and not empty: Twilio also sends empty ones.
fn told<'a>(form: &'a Fields, name: &str) -> Option<&'a str> {
    value(form, name).filter(|text| !text.is_empty())
}

fn news(kind: Kind, query: &Fields, form: &Fields) -> Result<Correlated, Malformed> {
    let names = ["CallSid", "ParentCallSid", "ConferenceSid", "FriendlyName"];
    let names: Vec<Box<str>> = names.iter().filter_map(|name| told(form, name)).map(Into::into).collect();
    let call_id = our_call(query).or_else(|| value(form, "FriendlyName")?.parse().ok());
    if names.is_empty() && call_id.is_none() && !matches!(kind, Kind::Messages | Kind::MessagesStatus) {
        return Err(Malformed("CallSid"));
    }
    let leg = LegHint {
        leg_id: our_leg(query, form),
        provider_id: told(form, "CallSid").map(Into::into),
        parent_id: told(form, "ParentCallSid").map(Into::into),
        address: far_end(form),
        agent_id: None,
    };
    Ok(Correlated {
        call_id,
        names,
        news: CarrierNews {
            leg,
            room: told(form, "ConferenceSid").map(Into::into),
            occurred_at: value(form, "Timestamp").and_then(Timestamp::from_rfc2822),
            news: what(kind, form),
            raw: raw(kind, form)?,
        },
    })
}

/// The far end of a leg that Twilio placed; on an inbound leg `To` is our own number.
fn far_end(form: &Fields) -> Option<Address> {
    let is_outbound = value(form, "Direction")?.starts_with("outbound");
    is_outbound.then(|| told(form, "To")).flatten().map(Address::reported)
}

fn what(kind: Kind, form: &Fields) -> News {
    match kind {
        Kind::Voice | Kind::Fallback | Kind::Agent => News::Document(Asked::Answered),
        Kind::Status => leg_status(form),
        Kind::Conference => in_room(form),
        Kind::Hold => News::Document(Asked::Hold),
        Kind::Wait | Kind::DialAction | Kind::Recording => match recorded(form).or_else(|| queued(form)) {
            Some(news) => news,
            None if kind == Kind::Wait => News::Document(Asked::Wait),
            None if kind == Kind::DialAction => News::Document(Asked::Next { bridged: was_bridged(form) }),
            None => News::Other,
        },
        Kind::Gather | Kind::Amd | Kind::Messages | Kind::MessagesStatus => News::Other,
    }
}

fn leg_status(form: &Fields) -> News {
    let (status, end) = match value(form, "CallStatus") {
        Some("queued" | "initiated") => (LegStatus::Dialing, None),
        Some("ringing") => (LegStatus::Ringing, None),
        Some("in-progress" | "answered") => (LegStatus::Connected, None),
        Some("completed") => (LegStatus::Ended, Some(LegEnd::Normal)),
        Some("busy") => (LegStatus::Ended, Some(LegEnd::Busy)),
        Some("no-answer") => (LegStatus::Ended, Some(LegEnd::NoAnswer)),
        Some("canceled") => (LegStatus::Ended, Some(LegEnd::Canceled)),
        Some("failed") => (LegStatus::Ended, Some(LegEnd::Failed)),
        Some(_) | None => return News::Other,
    };
    News::Leg { status, end, answered_for: seconds(form, "CallDuration") }
}

fn seconds(form: &Fields, name: &str) -> Option<Millis> {
    value(form, name)?.parse().ok().map(Millis::from_secs)
}

fn in_room(form: &Fields) -> News {
    match value(form, "StatusCallbackEvent") {
        Some("participant-join") => News::Joined,
        Some("participant-leave") => News::Left { hung_up: is_gone(form) },
        Some("participant-hold") => News::HoldChanged { held: true },
        Some("participant-unhold") => News::HoldChanged { held: false },
        Some("conference-start") => News::Room { open: true },
        Some("conference-end") => News::Room { open: false },
        Some(_) | None => News::Other,
    }
}

/// Whether a party that left a room is gone, not only moved.
fn is_gone(form: &Fields) -> bool {
    value(form, "ReasonParticipantLeft") == Some("participant_hung_up")
        || value(form, "ParticipantCallStatus") == Some("completed")
}

/// A caller in `<Enqueue>`: asked for what it hears, or told how it left. One that never got in, as
/// when the queue is full, has no report to make and only asks what next.
fn queued(form: &Fields) -> Option<News> {
    let (result, waited) = (value(form, "QueueResult"), seconds(form, "QueueTime"));
    match (result, waited) {
        (Some("hangup"), _) => Some(News::QueueReport { waited, hung_up: true }),
        (Some(_), Some(_)) => Some(News::QueueReport { waited, hung_up: false }),
        (Some(_), None) => Some(News::Document(Asked::Next { bridged: false })),
        (None, _) if value(form, "QueuePosition").is_some() => {
            Some(News::QueueReport { waited, hung_up: false })
        }
        (None, _) => None,
    }
}

/// A message that the caller left, or the state of a recording.
fn recorded(form: &Fields) -> Option<News> {
    let (url, length) = (told(form, "RecordingUrl"), seconds(form, "RecordingDuration"));
    match value(form, "RecordingStatus") {
        Some(status) => Some(News::Recording {
            recording_id: told(form, "RecordingSid")?.into(),
            status: status.replace('-', "_").into(),
            url: url.map(Into::into),
            length,
        }),
        // After a bridged dial the address of its recording is only mentioned in passing.
        None if value(form, "DialCallStatus").is_some() => None,
        None => Some(News::VoicemailLeft {
            recording_url: url?.into(),
            length,
            hung_up: value(form, "Digits") == Some("hangup"),
        }),
    }
}

fn was_bridged(form: &Fields) -> bool {
    let status = value(form, "DialCallStatus");
    value(form, "DialBridged") == Some("true") || matches!(status, Some("completed" | "answered"))
}
