//! Summaries of calls: writing them with a batch, and lists with filters and pages.

use std::sync::LazyLock;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::rows::{Bound, ManyRows, Reading, limit};
use super::{SqliteStore, errors};
use crate::domain::call::Direction;
use crate::domain::id::CallId;
use crate::domain::record::CallSummary;
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};

/// Every column but the id may change, but most never do.
pub(super) static PUT_CALLS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::new(
        "INSERT INTO calls (id, started_at, direction, from_address, to_address, is_open, state, status, \
         queue_id, agent_id, summary) VALUES",
        11,
        "ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, direction = excluded.direction, \
         from_address = excluded.from_address, to_address = excluded.to_address, is_open = excluded.is_open, \
         state = excluded.state, status = excluded.status, queue_id = excluded.queue_id, \
         agent_id = excluded.agent_id, summary = excluded.summary",
    )
});

const ONE_CALL: &str = "SELECT id, is_open, summary FROM calls WHERE id = ?";

/// A call with what of it must be written out.
pub(super) struct CallRow<'a> {
    call: &'a CallSummary,
    summary: String,
}

impl<'a> CallRow<'a> {
    pub(super) fn new(call: &'a CallSummary) -> Result<Self, StoreError> {
        let summary = serde_json::to_string(call)
            .map_err(|error| StoreError::Refused(format!("summary of {}: {error}", call.id)))?;
        Ok(Self { call, summary })
    }
}

/// Binds one row of `PUT_CALLS`.
pub(super) fn bind_call(query: Bound, row: &CallRow<'_>) -> Bound {
    let call = row.call;
    query
        .bind(call.id.uuid().as_bytes().as_slice())
        .bind(call.started_at.millis())
        .bind(word(call.direction))
        .bind(call.from.to_string())
        .bind(call.to.to_string())
        .bind(call.is_open)
        .bind(&*call.state)
        .bind(&*call.status)
        .bind(call.queue_id.map(|id| id.uuid().as_bytes().to_vec()))
        .bind(call.agent_id.map(|id| id.uuid().as_bytes().to_vec()))
        .bind(&*row.summary)
}

#[async_trait]
impl History for SqliteStore {
    async fn call(&self, id: CallId) -> Result<Option<CallSummary>, StoreError> {
        let query = sqlx::query(ONE_CALL).bind(id.uuid().as_bytes().to_vec());
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(call).transpose()
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT id, is_open, summary FROM calls WHERE 1");
        push_filter(&mut sql, filter);
        if let Some(cursor) = after {
            sql.push(if ascending { " AND (started_at, id) > (" } else { " AND (started_at, id) < (" });
            sql.push_bind(cursor.started_at.millis()).push(", ");
            sql.push_bind(cursor.id.uuid().as_bytes().to_vec()).push(")");
        }
        sql.push(if ascending { " ORDER BY started_at, id" } else { " ORDER BY started_at DESC, id DESC" });
        sql.push(" LIMIT ").push_bind(self::limit(limit));
        // Filters have too many forms to keep a prepared statement of each.
        let query = sql.build().persistent(false);
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(call).collect()
    }

    async fn count(&self, filter: &CallFilter) -> Result<u64, StoreError> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM calls WHERE 1");
        push_filter(&mut sql, filter);
        let query = sql.build_query_scalar::<i64>().persistent(false);
        let count = query.fetch_one(&self.readers).await.map_err(|error| errors::from(&error))?;
        Ok(count.unsigned_abs())
    }
}

/// Adds the conditions of a filter.
fn push_filter(sql: &mut QueryBuilder<Sqlite>, filter: &CallFilter) {
    match filter.open {
        // Written out, so that the index over open calls is recognised.
        Some(true) => drop(sql.push(" AND is_open = 1")),
        Some(false) => drop(sql.push(" AND is_open = 0")),
        None => {}
    }
    if !filter.status.is_empty() {
        sql.push(" AND (");
        push_any(sql, "status", filter.status.iter().map(String::as_str));
        sql.push(" OR ");
        push_any(sql, "state", filter.status.iter().map(String::as_str));
        sql.push(")");
    }
    push_any_id(sql, "queue_id", filter.queue.iter().map(|id| id.uuid()));
    push_any_id(sql, "agent_id", filter.agent.iter().map(|id| id.uuid()));
    if let Some(direction) = filter.direction {
        sql.push(" AND direction = ").push_bind(word(direction));
    }
    if let Some(from) = &filter.from {
        sql.push(" AND from_address = ").push_bind(from.as_str());
    }
    if let Some(to) = &filter.to {
        sql.push(" AND to_address = ").push_bind(to.as_str());
    }
    if let Some(number) = &filter.number {
        sql.push(" AND (from_address = ").push_bind(number.as_str());
        sql.push(" OR to_address = ").push_bind(number.as_str()).push(")");
    }
    if let Some(start) = filter.started_after {
        sql.push(" AND started_at >= ").push_bind(start.millis());
    }
    if let Some(end) = filter.started_before {
        sql.push(" AND started_at < ").push_bind(end.millis());
    }
}

/// Adds "this column is one of these words".
fn push_any<'a>(sql: &mut QueryBuilder<Sqlite>, column: &str, words: impl Iterator<Item = &'a str>) {
    sql.push(column).push(" IN (");
    let mut list = sql.separated(", ");
    for word in words {
        list.push_bind(word);
    }
    sql.push(")");
}

/// Adds "and this column is one of these ids", or nothing when there are none.
fn push_any_id(sql: &mut QueryBuilder<Sqlite>, column: &str, ids: impl ExactSizeIterator<Item = Uuid>) {
    if ids.len() == 0 {
        return;
    }
    sql.push(" AND ").push(column).push(" IN (");
    let mut list = sql.separated(", ");
    for id in ids {
        list.push_bind(id.as_bytes().to_vec());
    }
    sql.push(")");
}

/// The stored word of a direction.
const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

fn call(row: &SqliteRow) -> Result<CallSummary, StoreError> {
    let reading = Reading { row, table: "calls", named_by: "id" };
    let summary = reading.get::<&str>("summary")?;
    let mut call: CallSummary = serde_json::from_str(summary).map_err(|_| reading.corrupt("summary"))?;
    call.is_open = reading.get("is_open")?;
    Ok(call)
}
