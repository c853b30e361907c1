//! Reading what Twilio posts, into the neutral words of a call.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::form::{Fields, value};
use crate::domain::address::Address;
use crate::domain::call::{Arrival, Asked, CarrierNews, LegEnd, LegHint, LegStatus, News, RawEvent};
use crate::domain::id::CallId;
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
    let is_ours = value(query, "call").is_some();
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
    let sid = value(form, "CallSid").filter(|sid| !sid.is_empty()).ok_or(Malformed("CallSid"))?;
    let to = value(form, "To").or_else(|| value(form, "Called")).ok_or(Malformed("To"))?;
    let from = value(form, "From").or_else(|| value(form, "Caller")).unwrap_or("unknown");
    let error_code = value(form, "ErrorCode").unwrap_or("unknown");
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

fn news(kind: Kind, query: &Fields, form: &Fields) -> Result<Correlated, Malformed> {
    let named_call = value(query, "call").or_else(|| value(form, "FriendlyName"));
    let names = ["CallSid", "ParentCallSid", "ConferenceSid", "FriendlyName"];
    let names: Vec<Box<str>> = names
        .iter()
        .filter_map(|name| value(form, name))
        .filter(|name| !name.is_empty())
        .map(Into::into)
        .collect();
    let call_id = named_call.and_then(|id| id.parse().ok());
    if names.is_empty() && call_id.is_none() && !matches!(kind, Kind::Messages | Kind::MessagesStatus) {
        return Err(Malformed("CallSid"));
    }
    let leg = LegHint {
        leg_id: value(query, "leg").and_then(|id| id.parse().ok()),
        provider_id: value(form, "CallSid").map(Into::into),
        parent_id: value(form, "ParentCallSid").map(Into::into),
        address: far_end(form),
        agent_id: None,
    };
    Ok(Correlated {
        call_id,
        names,
        news: CarrierNews {
            leg,
            room: value(form, "ConferenceSid").map(Into::into),
            occurred_at: value(form, "Timestamp").and_then(Timestamp::from_rfc2822),
            news: what(kind, form),
            raw: raw(kind, form)?,
        },
    })
}

/// The far end of a leg that Twilio placed; on an inbound leg `To` is our own number.
fn far_end(form: &Fields) -> Option<Address> {
    let is_outbound = value(form, "Direction")?.starts_with("outbound");
    is_outbound.then(|| value(form, "To")).flatten().map(Address::reported)
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
        Some("participant-leave") => {
            News::Left { hung_up: value(form, "ReasonParticipantLeft") == Some("participant_hung_up") }
        }
        Some("participant-hold") => News::HoldChanged { held: true },
        Some("participant-unhold") => News::HoldChanged { held: false },
        Some("conference-start") => News::Room { open: true },
        Some("conference-end") => News::Room { open: false },
        Some(_) | None => News::Other,
    }
}

/// A caller in `<Enqueue>`: asked for what it hears, or told how it left.
fn queued(form: &Fields) -> Option<News> {
    let result = value(form, "QueueResult");
    if result.is_none() && value(form, "QueuePosition").is_none() {
        return None;
    }
    Some(News::QueueReport { waited: seconds(form, "QueueTime"), hung_up: result == Some("hangup") })
}

/// A message that the caller left, or the state of a recording.
fn recorded(form: &Fields) -> Option<News> {
    let (url, length) = (value(form, "RecordingUrl"), seconds(form, "RecordingDuration"));
    match value(form, "RecordingStatus") {
        Some(status) => Some(News::Recording {
            recording_id: value(form, "RecordingSid")?.into(),
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

/// The fields whose equality makes two requests the same news. Tokens and times of sending differ
/// between repetitions and are left out.
const TELLING: [&str; 18] = [
    "CallSid",
    "CallStatus",
    "SequenceNumber",
    "CallbackSource",
    "StatusCallbackEvent",
    "ConferenceSid",
    "ParentCallSid",
    "DialCallSid",
    "DialCallStatus",
    "QueueResult",
    "QueueTime",
    "RecordingSid",
    "RecordingStatus",
    "Digits",
    "AnsweredBy",
    "MessageSid",
    "MessageStatus",
    "ErrorCode",
];

fn raw(kind: Kind, form: &Fields) -> Result<RawEvent, Malformed> {
    let mut key = Fnv::default();
    key.add(kind.word());
    for name in TELLING {
        key.add(name);
        key.add(value(form, name).unwrap_or_default());
    }
    let detail = match kind {
        Kind::Conference => value(form, "StatusCallbackEvent"),
        Kind::Recording => value(form, "RecordingStatus"),
        Kind::DialAction => value(form, "DialCallStatus").or_else(|| value(form, "QueueResult")),
        Kind::Voice | Kind::Fallback | Kind::Agent | Kind::Status | Kind::Wait | Kind::Hold => {
            value(form, "CallStatus")
        }
        Kind::Gather | Kind::Amd | Kind::Messages | Kind::MessagesStatus => None,
    };
    let name = detail.map_or_else(|| kind.word().to_owned(), |detail| format!("{}:{detail}", kind.word()));
    Ok(RawEvent { key: key.0, name: name.into(), fields: fields(form)? })
}

fn fields(form: &Fields) -> Result<Box<RawValue>, Malformed> {
    let mut object = Map::new();
    for (name, text) in form {
        let text = Value::from(text.as_str());
        match object.get_mut(name) {
            None => {
                object.insert(name.clone(), text);
            }
            Some(Value::Array(list)) => list.push(text),
            Some(known) => *known = Value::Array(vec![known.take(), text]),
        }
    }
    to_raw_value(&object).map_err(|_| Malformed("body"))
}

/// FNV-1a, 64 bit: the same on every node and after every restart.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(text: &str) -> Fields {
        super::super::form::parse(text.as_bytes()).unwrap()
    }

    fn told(kind: Kind, text: &str) -> News {
        match parse(kind, "twilio", &Vec::new(), &form(text)).unwrap() {
            Incoming::News(correlated) => correlated.news.news,
            Incoming::Arrival(arrival) => panic!("{arrival:?}"),
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn requests_become_neutral_news() {
        let leg = |status, end, answered_for: Option<u64>| News::Leg {
            status,
            end,
            answered_for: answered_for.map(Millis::from_secs),
        };
        for (why, kind, text, want) in [
            (
                "dialing",
                Kind::Status,
                "CallSid=CA1&CallStatus=initiated",
                leg(LegStatus::Dialing, None, None),
            ),
            (
                "answered",
                Kind::Status,
                "CallSid=CA1&CallStatus=in-progress",
                leg(LegStatus::Connected, None, None),
            ),
            (
                "over",
                Kind::Status,
                "CallSid=CA1&CallStatus=completed&CallDuration=45",
                leg(LegStatus::Ended, Some(LegEnd::Normal), Some(45)),
            ),
            (
                "busy",
                Kind::Status,
                "CallSid=CA1&CallStatus=busy&CallDuration=0",
                leg(LegStatus::Ended, Some(LegEnd::Busy), Some(0)),
            ),
            ("an unknown status is kept only", Kind::Status, "CallSid=CA1&CallStatus=new-thing", News::Other),
            ("waits in the room", Kind::Wait, "CallSid=CA1&ConferenceSid=CF1", News::Document(Asked::Wait)),
            (
                "waits in a queue of Twilio's",
                Kind::Wait,
                "CallSid=CA1&QueuePosition=2&QueueTime=15",
                News::QueueReport { waited: Some(Millis::from_secs(15)), hung_up: false },
            ),
            (
                "gives up in it",
                Kind::DialAction,
                "CallSid=CA1&QueueResult=hangup&QueueTime=41",
                News::QueueReport { waited: Some(Millis::from_secs(41)), hung_up: true },
            ),
            (
                "dial failed",
                Kind::DialAction,
                "CallSid=CA1&DialCallStatus=busy&DialBridged=false",
                News::Document(Asked::Next { bridged: false }),
            ),
            (
                "left the room by hanging up",
                Kind::Conference,
                "CallSid=CA1&StatusCallbackEvent=participant-leave&ReasonParticipantLeft=participant_hung_up",
                News::Left { hung_up: true },
            ),
            (
                "left a message",
                Kind::DialAction,
                "CallSid=CA1&RecordingUrl=https://r&RecordingDuration=22&Digits=hangup",
                News::VoicemailLeft {
                    recording_url: "https://r".into(),
                    length: Some(Millis::from_secs(22)),
                    hung_up: true,
                },
            ),
        ] {
            assert_eq!(told(kind, text), want, "{why}");
        }
    }

    #[test]
    fn a_repetition_has_the_same_key_and_other_news_another() {
        let key = |kind, text: &str| match parse(kind, "twilio", &Vec::new(), &form(text)).unwrap() {
            Incoming::News(correlated) => correlated.news.raw.key,
            Incoming::Arrival(arrival) => arrival.raw.key,
        };
        let ringing = key(Kind::Status, "CallSid=CA1&CallStatus=ringing&SequenceNumber=1");
        assert_eq!(ringing, key(Kind::Status, "SequenceNumber=1&CallSid=CA1&CallStatus=ringing&New=field"));
        assert_ne!(ringing, key(Kind::Status, "CallSid=CA1&CallStatus=ringing&SequenceNumber=2"));
        assert_ne!(ringing, key(Kind::Wait, "CallSid=CA1&CallStatus=ringing&SequenceNumber=1"));
    }

    #[test]
    fn callers_may_be_words_and_needed_fields_may_be_missing() {
        let arrival =
            parse(Kind::Voice, "twilio", &Vec::new(), &form("CallSid=CA1&From=anonymous&To=%2B12025550100"));
        match arrival.unwrap() {
            Incoming::Arrival(arrival) => assert_eq!(arrival.from, Address::Word("anonymous".into())),
            Incoming::News(news) => panic!("{news:?}"),
        }
        for text in ["", "From=a&To=b", "CallSid=&To=b"] {
            assert!(parse(Kind::Voice, "twilio", &Vec::new(), &form(text)).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_form_makes_it_panic(
            path in prop::sample::select(vec!["voice", "voice/fallback", "agent", "status", "conference", "wait", "hold", "dial-action", "gather", "recording", "amd", "messages", "messages/status"]),
            pairs in prop::collection::vec((prop::sample::select(TELLING.to_vec()), ".{0,20}"), 0..20),
            noise in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut fields: Fields = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            fields.extend(super::super::form::parse(&noise).unwrap_or_default());
            let _ = parse(Kind::of_path(path).unwrap(), "twilio", &fields.clone(), &fields);
        }
    }
}
