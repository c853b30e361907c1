//! A request as it came, for the timeline, and the key that tells repetitions from other news.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::{Kind, Malformed};
use crate::domain::call::RawEvent;
use crate::edge::providers::twilio::form::{Fields, value};

/// Bytes of a provider's word that are kept in the name of an event; all known ones are shorter.
const LONGEST_DETAIL: usize = 48;

/// The fields whose equality makes two requests the same news. Tokens and times of sending differ
/// between repetitions and are left out.
pub(super) const TELLING: [&str; 18] = [
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

/// Keeps a request as it came, under its key and its name.
pub(super) fn raw(kind: Kind, form: &Fields) -> Result<RawEvent, Malformed> {
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
    let detail = detail.map(|detail| &detail[..detail.floor_char_boundary(LONGEST_DETAIL)]);
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
