//! The frames of `eml.v1.json`: one JSON object per text frame.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::actors::AgentEvent;
use crate::domain::agent::AgentSnapshot;
use crate::domain::id::SocketId;
use crate::domain::time::Timestamp;

/// The sub-protocol's name.
pub(crate) const PROTOCOL: &str = "eml.v1.json";

/// A frame from a client.
#[derive(Debug, Deserialize)]
pub(crate) struct ClientFrame {
    /// Chosen by the client; the reply repeats it. The same id twice gets the same reply.
    pub id: String,
    /// What is asked, as in `offer.accept`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its arguments.
    #[serde(default)]
    pub data: Value,
}

/// The answer to a frame.
#[derive(Debug, Serialize)]
pub(crate) struct Reply<'a> {
    /// The id of the frame.
    pub re: &'a str,
    /// `ack` or `error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Why not, as in HTTP answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Value>,
}

/// A frame that nobody asked for.
#[derive(Debug, Serialize)]
struct EventFrame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    data: &'a RawValue,
}

/// The first frame of a server.
#[derive(Debug, Serialize)]
struct HelloFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence: u64,
    time: Timestamp,
    data: Hello<'a>,
}

#[derive(Debug, Serialize)]
struct Hello<'a> {
    session_id: SocketId,
    resumed: bool,
    snapshot: Option<&'a AgentSnapshot>,
}

/// Writes an event of an agent session.
#[must_use]
pub(crate) fn event(event: &AgentEvent) -> String {
    let subject = subject(&event.data);
    let frame = EventFrame {
        kind: &event.kind,
        sequence: Some(event.sequence),
        time: event.time,
        subject,
        data: &event.data,
    };
    serde_json::to_string(&frame).unwrap_or_default()
}

/// Writes a frame outside the numbered events: figures of a queue, a notice of the node.
#[must_use]
pub(crate) fn notice(kind: &str, subject: Option<String>, data: &impl Serialize, now: Timestamp) -> String {
    let Ok(data) = serde_json::value::to_raw_value(data) else { return String::new() };
    let frame = EventFrame { kind, sequence: None, time: now, subject, data: &data };
    serde_json::to_string(&frame).unwrap_or_default()
}

/// Writes the greeting. `resync` tells a client that it missed more than can be replayed.
#[must_use]
pub(crate) fn hello(
    kind: &'static str,
    session_id: SocketId,
    resumed: bool,
    snapshot: Option<&AgentSnapshot>,
    now: Timestamp,
) -> String {
    let sequence = snapshot.map_or(0, |snapshot| snapshot.sequence);
    let frame = HelloFrame { kind, sequence, time: now, data: Hello { session_id, resumed, snapshot } };
    serde_json::to_string(&frame).unwrap_or_default()
}

/// The thing an event is about: its call where it has one.
fn subject(data: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        call_id: Option<String>,
        call: Option<NamedCall>,
    }
    #[derive(Deserialize)]
    struct NamedCall {
        id: String,
    }
    let named: Named = serde_json::from_str(data.get()).ok()?;
    named.call_id.or(named.call.map(|call| call.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_call_and_number() {
        let data =
            RawValue::from_string(r#"{"offer_id":"ofr_1","call":{"id":"call_1"}}"#.to_owned()).unwrap();
        let text = event(&AgentEvent {
            sequence: 7,
            time: Timestamp::from_millis(0),
            kind: "offer.created".into(),
            data,
        });
        assert_eq!(
            text,
            r#"{"type":"offer.created","sequence":7,"time":"1970-01-01T00:00:00.000Z","subject":"call_1","data":{"offer_id":"ofr_1","call":{"id":"call_1"}}}"#
        );
    }
}
