//! Calls as lists, one by one, and fact by fact.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, Code};
use super::list::{self, List, Page};
use super::request::{Path, Query};
use super::router::EdgeState;
use crate::domain::call::Direction;
use crate::domain::event::untagged;
use crate::domain::id::{CallId, FactId};
use crate::domain::record::CallSummary;
use crate::domain::time::Timestamp;
use crate::store::history::{CallCursor, CallFilter};

/// Facts of one page of a timeline at most.
const TIMELINE: usize = 500;

/// Which calls to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Who started the call.
    from: Option<String>,
    /// Who was called.
    to: Option<String>,
    /// Either side.
    number: Option<String>,
    /// Any of these `status` or `state` words, by comma.
    status: Option<String>,
    /// Any of these queues, by comma.
    queue: Option<String>,
    /// Any of these agents, by comma.
    agent: Option<String>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// Started at or after this time.
    started_after: Option<String>,
    /// Started before this time.
    started_before: Option<String>,
    /// Rows of a page, 50 when absent, 200 at most.
    limit: Option<usize>,
    /// `page.next_cursor` of the page before.
    cursor: Option<String>,
    /// `-started_at` (newest first) or `started_at`.
    sort: Option<String>,
    /// Whether to count all matching rows.
    count: Option<bool>,
    /// `json` or `csv`.
    format: Option<String>,
}

fn bad(name: &str, what: &str) -> ApiError {
    ApiError::new(Code::BadFilter).detail(format!("{name}: {what}"))
}

fn ids<T: std::str::FromStr>(text: Option<&str>, name: &str) -> Result<Vec<T>, ApiError> {
    let parts = text.unwrap_or_default().split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.trim().parse().map_err(|_| bad(name, "not an id"))).collect()
}

fn time(text: Option<&str>, name: &str) -> Result<Option<Timestamp>, ApiError> {
    text.map(|text| text.parse().map_err(|_| bad(name, "not an RFC 3339 time"))).transpose()
}

impl HistoryQuery {
    fn filter(&self) -> Result<CallFilter, ApiError> {
        let status = self.status.as_deref().unwrap_or_default().split(',').filter(|part| !part.is_empty());
        let direction = match self.direction.as_deref() {
            None => None,
            Some("inbound") => Some(Direction::Inbound),
            Some("outbound") => Some(Direction::Outbound),
            Some(_) => return Err(bad("direction", "inbound or outbound")),
        };
        Ok(CallFilter {
            open: None,
            status: status.map(ToOwned::to_owned).collect(),
            queue: ids(self.queue.as_deref(), "queue")?,
            agent: ids(self.agent.as_deref(), "agent")?,
            direction,
            from: self.from.clone(),
            to: self.to.clone(),
            number: self.number.clone(),
            started_after: time(self.started_after.as_deref(), "started_after")?,
            started_before: time(self.started_before.as_deref(), "started_before")?,
        })
    }

    fn ascending(&self) -> Result<bool, ApiError> {
        match self.sort.as_deref() {
            None | Some("-started_at") => Ok(false),
            Some("started_at") => Ok(true),
            Some(_) => Err(bad("sort", "started_at or -started_at")),
        }
    }
}

/// Calls, newest first.
#[utoipa::path(get, path = "/calls/history", tag = "calls", params(HistoryQuery), responses((status = 200, body = List<CallSummary>)))]
pub(super) async fn history(
    State(state): State<EdgeState>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, ApiError> {
    let filter = query.filter()?;
    page(&state, &query, &filter).await
}

/// Calls that are not over.
#[utoipa::path(get, path = "/calls/active", tag = "calls", params(HistoryQuery), responses((status = 200, body = List<CallSummary>)))]
pub(super) async fn active(
    State(state): State<EdgeState>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, ApiError> {
    let filter = CallFilter { open: Some(true), ..query.filter()? };
    page(&state, &query, &filter).await
}

async fn page(state: &EdgeState, query: &HistoryQuery, filter: &CallFilter) -> Result<Response, ApiError> {
    let limit = list::limit(query.limit)?;
    let after = query.cursor.as_deref().map(list::read_cursor).transpose()?;
    let store = &state.engine.stores().history;
    let mut data = store.calls(filter, after, query.ascending()?, limit + 1).await?;
    let has_more = data.len() > limit;
    data.truncate(limit);
    let last = data.last().map(|row| list::cursor(CallCursor { started_at: row.started_at, id: row.id }));
    let count = match query.count {
        Some(true) => Some(store.count(filter).await?),
        Some(false) | None => None,
    };
    match query.format.as_deref() {
        None | Some("json") => {
            let page = Page { next_cursor: last.filter(|_| has_more), has_more, count };
            Ok(axum::Json(List { data, page }).into_response())
        }
        Some("csv") => Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&data)).into_response()),
        Some(_) => Err(bad("format", "json or csv")),
    }
}

/// The columns of a CSV export; the names are those of the JSON rows.
const COLUMNS: [&str; 18] = [
    "id",
    "direction",
    "state",
    "status",
    "from",
    "to",
    "queue_id",
    "agent_id",
    "provider",
    "provider_call_id",
    "started_at",
    "answered_at",
    "ended_at",
    "wait_ms",
    "talk_ms",
    "exit_reason",
    "ended_by",
    "outcome",
];

fn csv(rows: &[CallSummary]) -> String {
    let mut out = COLUMNS.join(",");
    out.push_str("\r\n");
    for row in rows {
        let row = serde_json::to_value(row).unwrap_or_default();
        let cells = COLUMNS.map(|column| match &row[column] {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => cell(text),
            other @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => other.to_string(),
        });
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

/// A quoted cell. What a spreadsheet would take for a formula is made text; a number in E.164 form
/// begins with a plus and must stay as it is.
fn cell(text: &str) -> String {
    let is_number = text.parse::<crate::domain::address::PhoneNumber>().is_ok();
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    let guard = if is_formula { "'" } else { "" };
    let text = text.replace('"', "\"\"");
    if is_formula || text.contains(['"', ',', '\n', '\r']) { format!("\"{guard}{text}\"") } else { text }
}

/// One call.
#[utoipa::path(get, path = "/calls/{id}", tag = "calls", params(("id" = String, Path)), responses((status = 200, body = CallSummary)))]
pub(super) async fn show(
    State(state): State<EdgeState>,
    Path(id): Path<CallId>,
) -> Result<axum::Json<CallSummary>, ApiError> {
    let row = state.engine.stores().history.call(id).await?;
    row.map(axum::Json).ok_or(ApiError::new(Code::CallNotFound))
}

/// Where a page of a timeline begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct TimelineQuery {
    /// The sequence behind which it begins.
    after: u64,
    /// Facts of a page, 500 at most.
    limit: Option<usize>,
}

/// One fact of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineRow {
    /// The fact's id.
    #[schema(value_type = String)]
    id: FactId,
    /// Its number in the call.
    sequence: u64,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// Its type.
    #[serde(rename = "type")]
    kind: Box<str>,
    /// What it tells; the provider's request as it came, or why this agent was chosen.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

/// Everything that happened to a call.
#[utoipa::path(get, path = "/calls/{id}/timeline", tag = "calls", params(("id" = String, Path), TimelineQuery), responses((status = 200, body = List<TimelineRow>)))]
pub(super) async fn timeline(
    State(state): State<EdgeState>,
    Path(id): Path<CallId>,
    Query(TimelineQuery { after, limit }): Query<TimelineQuery>,
) -> Result<axum::Json<List<TimelineRow>>, ApiError> {
    let limit = limit.unwrap_or(TIMELINE).clamp(1, TIMELINE);
    let mut facts = state.engine.stores().journal.facts(id.into(), after, limit + 1).await?;
    if facts.is_empty() && after == 0 {
        return Err(ApiError::new(Code::CallNotFound));
    }
    let has_more = facts.len() > limit;
    facts.truncate(limit);
    let next_cursor = facts.last().filter(|_| has_more).map(|fact| fact.seq.to_string());
    let data = facts
        .into_iter()
        .map(|fact| TimelineRow {
            id: fact.id,
            sequence: fact.seq,
            time: fact.at,
            kind: fact.kind,
            data: untagged(&fact.body),
        })
        .collect();
    Ok(axum::Json(List { data, page: Page { next_cursor, has_more, count: None } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text_and_numbers_stay() {
        for (text, want) in [
            ("+12025550143", "+12025550143"),
            ("=1+1", "\"'=1+1\""),
            ("+1+1", "\"'+1+1\""),
            ("-x", "\"'-x\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("plain", "plain"),
        ] {
            assert_eq!(cell(text), want);
        }
    }

    #[test]
    fn filters_are_read_or_refused() {
        let query = HistoryQuery { status: Some("completed,busy".to_owned()), ..HistoryQuery::default() };
        assert_eq!(query.filter().unwrap().status, ["completed", "busy"]);
        for query in [
            HistoryQuery { direction: Some("sideways".to_owned()), ..HistoryQuery::default() },
            HistoryQuery { queue: Some("que_x".to_owned()), ..HistoryQuery::default() },
            HistoryQuery { started_after: Some("yesterday".to_owned()), ..HistoryQuery::default() },
        ] {
            assert_eq!(query.filter().unwrap_err().code(), Code::BadFilter);
        }
    }
}
