//! Events: facts as the outside sees them, `CloudEvents` 1.0 in structured JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::identity::AuditEntry;
use super::record::FactRecord;

/// The version of the `CloudEvents` specification that is spoken.
const SPEC_VERSION: &str = "1.0";
/// What the data of an event is.
const DATA_CONTENT_TYPE: &str = "application/json";

/// One event, in the form that its JSON has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Version of the specification: `1.0`.
    pub specversion: String,
    /// The fact or audit entry it tells of; who has seen it drops it.
    pub id: String,
    /// Where it happened: `/nodes/<name>`.
    pub source: String,
    /// What happened, as in `call.queued`.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what it happened, as in `call_…`.
    pub subject: String,
    /// When it was decided, RFC 3339.
    pub time: String,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// The number of the fact in the life of its subject, or that of the entry in the audit trail.
    pub sequence: u64,
    /// The command that led to it, as in `cmd_…`; an extension attribute, absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// What else is known.
    pub data: Box<RawValue>,
}

impl Event {
    /// A fact as an event of a node.
    #[must_use]
    pub fn of(record: &FactRecord, node: &str) -> Self {
        Self {
            specversion: SPEC_VERSION.to_owned(),
            id: record.id.to_string(),
            source: format!("/nodes/{node}"),
            kind: record.kind.to_string(),
            subject: record.entity.to_string(),
            time: record.at.to_string(),
            datacontenttype: DATA_CONTENT_TYPE.to_owned(),
            sequence: record.seq,
            causationid: record.cause.map(|cause| cause.to_string()),
            data: untagged(&record.body),
        }
    }

    /// An entry of the audit trail as an event of the node that took it.
    #[must_use]
    pub fn of_entry(number: u64, entry: &AuditEntry) -> Self {
        let AuditEntry { at, what, actor, subject, ip, request_id, node, details } = entry;
        let data = serde_json::json!({
            "actor": actor, "ip": ip, "request_id": request_id, "details": details,
        });
        Self {
            specversion: SPEC_VERSION.to_owned(),
            id: format!("aud_{number}"),
            source: format!("/nodes/{node}"),
            kind: what.clone(),
            // An event has a subject: what was done to nothing in particular is about whoever did it.
            subject: subject.clone().unwrap_or_else(|| actor.word()),
            time: at.to_string(),
            datacontenttype: DATA_CONTENT_TYPE.to_owned(),
            sequence: number,
            causationid: None,
            data: RawValue::from_string(data.to_string()).unwrap_or_default(),
        }
    }
}

/// The fields of a stored fact without the tag around them. A fact without fields is stored as its
/// bare name; it has none.
#[must_use]
pub fn untagged(body: &RawValue) -> Box<RawValue> {
    let inner = serde_json::from_str::<std::collections::BTreeMap<&str, &RawValue>>(body.get());
    let fields = inner.ok().and_then(|tagged| tagged.into_values().next().map(RawValue::to_owned));
    fields.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| body.to_owned()))
}

/// Whether a type of event is like a pattern, in which `*` stands for anything.
#[must_use]
pub fn is_like(kind: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == kind,
        Some((start, rest)) => kind.strip_prefix(start).is_some_and(|tail| {
            rest.is_empty()
                || (0..=tail.len()).filter(|i| tail.is_char_boundary(*i)).any(|i| is_like(&tail[i..], rest))
        }),
    }
}

/// The narrowest topic of a broker (AMQP 0-9-1: words between dots, `#` for any number of them)
/// that holds all types like a pattern; it may hold more.
#[must_use]
pub fn topic_of(pattern: &str) -> String {
    match pattern.split_once('*') {
        None => pattern.to_owned(),
        Some((start, _)) => match start.rsplit_once('.') {
            Some((words, _)) => format!("{words}.#"),
            None => "#".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{CallId, CommandId, FactId};
    use crate::domain::time::Timestamp;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, kind, want) in [
            ("*", "call.queued", true),
            ("call.*", "call.queued", true),
            ("call.*", "offer.created", false),
            ("*.created", "offer.created", true),
            ("call.queued", "call.queued", true),
            ("call", "call.queued", false),
            ("c*.q*d", "call.queued", true),
        ] {
            assert_eq!(is_like(kind, pattern), want, "{pattern} {kind}");
        }
    }

    #[test]
    fn a_topic_holds_all_that_a_pattern_does() {
        for (pattern, want) in [
            ("*", "#"),
            ("call.*", "call.#"),
            ("call.que*", "call.#"),
            ("*.created", "#"),
            ("call.queued", "call.queued"),
        ] {
            assert_eq!(topic_of(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn the_command_behind_a_fact_is_an_attribute_only_where_there_is_one() {
        let command = CommandId::fresh();
        let mut record = FactRecord {
            id: FactId::fresh(),
            entity: CallId::fresh().into(),
            seq: 3,
            at: Timestamp::from_millis(0),
            kind: "call.held".into(),
            body: RawValue::from_string(r#"{"held":{}}"#.to_owned()).unwrap(),
            cause: None,
        };
        for cause in [None, Some(command)] {
            record.cause = cause;
            let text = serde_json::to_string(&Event::of(&record, "node-1")).unwrap();
            assert_eq!(text.contains("causationid"), cause.is_some(), "{text}");
            let read: Event = serde_json::from_str(&text).unwrap();
            assert_eq!(read.causationid, cause.map(|command| command.to_string()));
        }
    }

    #[test]
    fn the_tag_around_a_fact_is_taken_off() {
        for (body, want) in [
            (r#"{"Held":{"by":"agent"}}"#, r#"{"by":"agent"}"#),
            (r#""Ended""#, "{}"),
            (r#"{"Told":[1,2]}"#, "[1,2]"),
        ] {
            let body = RawValue::from_string(body.to_owned()).unwrap();
            assert_eq!(untagged(&body).get(), want);
        }
    }
}
