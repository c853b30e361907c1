//! Summaries of calls: lists with filters and pages.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::rows::Reading;
use super::{PostgresStore, errors, rows};
use crate::domain::call::Direction;
use crate::domain::id::CallId;
use crate::domain::record::CallSummary;
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};

const ONE_CALL: &str = "SELECT id, is_open, summary FROM calls WHERE id = $1";

#[async_trait]
impl History for PostgresStore {
    async fn call(&self, id: CallId) -> Result<Option<CallSummary>, StoreError> {
        let query = sqlx::query(ONE_CALL).bind(id.uuid());
        let row = query.fetch_optional(&self.pool).await.map_err(|error| errors::from(&error))?;
        row.as_ref().map(call).transpose()
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT id, is_open, summary FROM calls WHERE true");
        push_filter(&mut sql, filter);
        if let Some(cursor) = after {
            sql.push(if ascending { " AND (started_at, id) > (" } else { " AND (started_at, id) < (" });
            sql.push_bind(cursor.started_at.millis()).push(", ");
            sql.push_bind(cursor.id.uuid()).push(")");
        }
        sql.push(if ascending { " ORDER BY started_at, id" } else { " ORDER BY started_at DESC, id DESC" });
        sql.push(" LIMIT ").push_bind(rows::limit(limit));
        // Filters have too many forms to keep a prepared statement of each.
        let query = sql.build().persistent(false);
        let rows = query.fetch_all(&self.pool).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(call).collect()
    }

    async fn count(&self, filter: &CallFilter) -> Result<u64, StoreError> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM calls WHERE true");
        push_filter(&mut sql, filter);
        let query = sql.build_query_scalar::<i64>().persistent(false);
        let count = query.fetch_one(&self.pool).await.map_err(|error| errors::from(&error))?;
        Ok(count.unsigned_abs())
    }
}

/// Adds the conditions of a filter.
fn push_filter(sql: &mut QueryBuilder<Postgres>, filter: &CallFilter) {
    match filter.open {
        // Written out, so that the index over open calls is recognised.
        Some(true) => drop(sql.push(" AND is_open")),
        Some(false) => drop(sql.push(" AND NOT is_open")),
        None => {}
    }
    if !filter.status.is_empty() {
        sql.push(" AND (status = ANY(").push_bind(filter.status.clone());
        sql.push(") OR state = ANY(").push_bind(filter.status.clone()).push("))");
    }
    push_any(sql, "queue_id", filter.queue.iter().map(|id| id.uuid()).collect());
    push_any(sql, "agent_id", filter.agent.iter().map(|id| id.uuid()).collect());
    if let Some(direction) = filter.direction {
        sql.push(" AND direction = ").push_bind(word(direction));
    }
    if let Some(from) = &filter.from {
        sql.push(" AND from_address = ").push_bind(from.clone());
    }
    if let Some(to) = &filter.to {
        sql.push(" AND to_address = ").push_bind(to.clone());
    }
    if let Some(number) = &filter.number {
        sql.push(" AND (from_address = ").push_bind(number.clone());
        sql.push(" OR to_address = ").push_bind(number.clone()).push(")");
    }
    if let Some(start) = filter.started_after {
        sql.push(" AND started_at >= ").push_bind(start.millis());
    }
    if let Some(end) = filter.started_before {
        sql.push(" AND started_at < ").push_bind(end.millis());
    }
}

/// Adds "and this column is one of these ids", or nothing when there are none.
fn push_any(sql: &mut QueryBuilder<Postgres>, column: &str, ids: Vec<Uuid>) {
    if !ids.is_empty() {
        sql.push(" AND ").push(column).push(" = ANY(").push_bind(ids).push(")");
    }
}

/// The stored word of a direction.
pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

fn call(row: &PgRow) -> Result<CallSummary, StoreError> {
    let reading = Reading { row, table: "calls", named_by: "id" };
    let summary = reading.get::<&str>("summary")?;
    let mut call: CallSummary = serde_json::from_str(summary).map_err(|_| reading.corrupt("summary"))?;
    call.is_open = reading.get("is_open")?;
    Ok(call)
}
