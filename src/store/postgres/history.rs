//! Summaries of calls: their columns within a batch, and lists with filters and pages.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::rows::{Bound, Reading, limit, text};
use super::{PostgresStore, answered};
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::record::CallSummary;
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};

const ONE_CALL: &str = "SELECT id, is_open, summary FROM calls WHERE id = $1";

/// The calls of a batch, each once.
#[derive(Default)]
pub(super) struct CallColumns {
    ids: Vec<Uuid>,
    starts: Vec<i64>,
    directions: Vec<&'static str>,
    from: Vec<String>,
    to: Vec<String>,
    open: Vec<bool>,
    states: Vec<String>,
    statuses: Vec<String>,
    queues: Vec<Option<Uuid>>,
    agents: Vec<Option<Uuid>>,
    summaries: Vec<String>,
}

impl CallColumns {
    pub(super) fn of<'a>(calls: impl Iterator<Item = &'a CallSummary>) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for call in calls {
            let summary = serde_json::to_string(call)
                .map_err(|error| StoreError::Refused(format!("summary of {}: {error}", call.id)))?;
            columns.ids.push(call.id.uuid());
            columns.starts.push(call.started_at.millis());
            columns.directions.push(call.direction.as_str());
            columns.from.push(text(&call.from.to_string()).into_owned());
            columns.to.push(text(&call.to.to_string()).into_owned());
            columns.open.push(call.is_open);
            columns.states.push(call.state.to_string());
            columns.statuses.push(call.status.to_string());
            columns.queues.push(call.queue_id.map(QueueId::uuid));
            columns.agents.push(call.agent_id.map(AgentId::uuid));
            columns.summaries.push(summary);
        }
        Ok(columns)
    }

    /// Binds all columns, in the order of the fields.
    pub(super) fn bind(&self, query: Bound) -> Bound {
        query
            .bind(&self.ids)
            .bind(&self.starts)
            .bind(&self.directions)
            .bind(&self.from)
            .bind(&self.to)
            .bind(&self.open)
            .bind(&self.states)
            .bind(&self.statuses)
            .bind(&self.queues)
            .bind(&self.agents)
            .bind(&self.summaries)
    }
}

#[async_trait]
impl History for PostgresStore {
    async fn call(&self, id: CallId) -> Result<Option<CallSummary>, StoreError> {
        let query = sqlx::query(ONE_CALL).bind(id.uuid());
        answered(query.fetch_optional(&self.pool)).await?.as_ref().map(call).transpose()
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
        sql.push(" LIMIT ").push_bind(self::limit(limit));
        // Filters have too many forms to keep a prepared statement of each.
        let query = sql.build().persistent(false);
        answered(query.fetch_all(&self.pool)).await?.iter().map(call).collect()
    }

    async fn count(&self, filter: &CallFilter) -> Result<u64, StoreError> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM calls WHERE true");
        push_filter(&mut sql, filter);
        let query = sql.build_query_scalar::<i64>().persistent(false);
        Ok(answered(query.fetch_one(&self.pool)).await?.unsigned_abs())
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
        let words: Vec<_> = filter.status.iter().map(|word| text(word)).collect();
        sql.push(" AND (status = ANY(").push_bind(words.clone());
        sql.push(") OR state = ANY(").push_bind(words).push("))");
    }
    push_any_id(sql, "queue_id", filter.queue.iter().map(|id| id.uuid()).collect());
    push_any_id(sql, "agent_id", filter.agent.iter().map(|id| id.uuid()).collect());
    if let Some(direction) = filter.direction {
        sql.push(" AND direction = ").push_bind(direction.as_str());
    }
    if let Some(from) = &filter.from {
        sql.push(" AND from_address = ").push_bind(text(from));
    }
    if let Some(to) = &filter.to {
        sql.push(" AND to_address = ").push_bind(text(to));
    }
    if let Some(number) = &filter.number {
        sql.push(" AND (from_address = ").push_bind(text(number));
        sql.push(" OR to_address = ").push_bind(text(number)).push(")");
    }
    if let Some(start) = filter.started_after {
        sql.push(" AND started_at >= ").push_bind(start.millis());
    }
    if let Some(end) = filter.started_before {
        sql.push(" AND started_at < ").push_bind(end.millis());
    }
}

/// Adds "and this column is one of these ids", or nothing when there are none.
fn push_any_id(sql: &mut QueryBuilder<Postgres>, column: &str, ids: Vec<Uuid>) {
    match ids.as_slice() {
        [] => {}
        // Apart, since only then the index gives the order of the list.
        [id] => drop(sql.push(" AND ").push(column).push(" = ").push_bind(*id)),
        _ => drop(sql.push(" AND ").push(column).push(" = ANY(").push_bind(ids).push(")")),
    }
}

fn call(row: &PgRow) -> Result<CallSummary, StoreError> {
    let reading = Reading { row, table: "calls", named_by: "id" };
    let summary = reading.get::<&str>("summary")?;
    let mut call: CallSummary = serde_json::from_str(summary).map_err(|_| reading.corrupt("summary"))?;
    call.is_open = reading.get("is_open")?;
    Ok(call)
}
