//! Finished calls as documents: fields for filters and sorting, and the whole summary beside them.

use mongodb::bson::{Bson, Document, doc};

use super::{CALLS, SCHEMA_VERSION, corrupt, date, signed, understood};
use crate::domain::record::CallSummary;
use crate::domain::time::{Millis, Timestamp};
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter};

pub(super) fn document(call: &CallSummary) -> Result<Document, StoreError> {
    let summary = serde_json::to_string(call)
        .map_err(|error| StoreError::Refused(format!("summary of {}: {error}", call.id)))?;
    let word = |value: serde_json::Value| Bson::from(value.as_str().map(ToOwned::to_owned));
    let outcome = serde_json::to_value(call.outcome).map_or(Bson::Null, word);
    let exit_reason = serde_json::to_value(call.exit_reason).map_or(Bson::Null, word);
    Ok(doc! {
        "_id": call.id.to_string(),
        "started_at": date(call.started_at),
        "queued_at": time(call.queued_at),
        "answered_at": time(call.answered_at),
        "ended_at": time(call.ended_at),
        "direction": call.direction.as_str(),
        "from": call.from.to_string(),
        "to": call.to.to_string(),
        "state": call.state.to_string(),
        "status": call.status.to_string(),
        "queue_id": call.queue_id.map(|id| id.to_string()),
        "agent_id": call.agent_id.map(|id| id.to_string()),
        "wait_ms": span(call.wait_ms),
        "talk_ms": span(call.talk_ms),
        "hold_ms": span(call.hold_ms),
        "outcome": outcome,
        "exit_reason": exit_reason,
        "summary": summary,
        "schema_version": SCHEMA_VERSION,
    })
}

pub(super) fn summary(document: &Document) -> Result<CallSummary, StoreError> {
    let text = understood(document, CALLS)?.get_str("summary");
    let call = text.ok().and_then(|text| serde_json::from_str(text).ok());
    call.ok_or_else(|| corrupt(document, CALLS, "summary"))
}

/// The filter of a list, with the place behind which its page begins.
pub(super) fn filter(filter: &CallFilter, after: Option<CallCursor>, ascending: bool) -> Document {
    let mut all = Vec::new();
    if !filter.status.is_empty() {
        let words = doc! { "$in": filter.status.clone() };
        all.push(doc! { "$or": [{ "status": words.clone() }, { "state": words }] });
    }
    let mut any_of = |field: &str, ids: Vec<String>| {
        if !ids.is_empty() {
            all.push(doc! { field: { "$in": ids } });
        }
    };
    any_of("queue_id", filter.queue.iter().map(ToString::to_string).collect());
    any_of("agent_id", filter.agent.iter().map(ToString::to_string).collect());
    any_of("direction", filter.direction.iter().map(|known| known.as_str().to_owned()).collect());
    any_of("from", filter.from.iter().cloned().collect());
    any_of("to", filter.to.iter().cloned().collect());
    if let Some(number) = &filter.number {
        all.push(doc! { "$or": [{ "from": number }, { "to": number }] });
    }
    if let Some(start) = filter.started_after {
        all.push(doc! { "started_at": { "$gte": date(start) } });
    }
    if let Some(end) = filter.started_before {
        all.push(doc! { "started_at": { "$lt": date(end) } });
    }
    if let Some(cursor) = after {
        let (behind, start, id) =
            (if ascending { "$gt" } else { "$lt" }, date(cursor.started_at), cursor.id.to_string());
        let same_start = doc! { "started_at": start, "_id": { behind: id } };
        all.push(doc! { "$or": [{ "started_at": { behind: start } }, same_start] });
    }
    if all.is_empty() {
        doc! {}
    } else {
        doc! { "$and": all }
    }
}

fn time(at: Option<Timestamp>) -> Bson {
    at.map_or(Bson::Null, |at| date(at).into())
}

fn span(span: Option<Millis>) -> Bson {
    span.map_or(Bson::Null, |span| signed(span.0).into())
}
