//! Summaries of calls: writing them with a batch, and lists with filters and pages.

use std::collections::HashMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::rows::{Bound, ManyRows, Reading, limit};
use super::{SqliteStore, errors};
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::record::CallSummary;
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};

const INSERT_CALLS: &str = "INSERT INTO calls (id, started_at, direction, from_address, to_address, is_open, \
     state, status, queue_id, agent_id, summary)";

/// Writes calls that are new, or that changed in a column with an index.
static PUT_MOVED: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        INSERT_CALLS,
        11,
        "ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, direction = excluded.direction, \
         from_address = excluded.from_address, to_address = excluded.to_address, is_open = excluded.is_open, \
         state = excluded.state, status = excluded.status, queue_id = excluded.queue_id, \
         agent_id = excluded.agent_id, summary = excluded.summary",
    )
});

/// Writes calls that keep their place in every index. SQLite rewrites an index whenever one of its
/// columns is named here, changed or not, and that is most of the cost of an append.
static PUT_SETTLED: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        INSERT_CALLS,
        11,
        "ON CONFLICT (id) DO UPDATE SET direction = excluded.direction, state = excluded.state, \
         status = excluded.status, summary = excluded.summary",
    )
});

/// Where the indexes hold the calls of a batch so far.
static FIND_PLACES: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::find(
        "SELECT id, started_at, from_address, to_address, is_open, queue_id, agent_id FROM calls WHERE id",
        1,
    )
});

const ONE_CALL: &str = "SELECT id, is_open, summary FROM calls WHERE id = ?";

/// What of a call the indexes hold.
#[derive(PartialEq, Eq)]
struct Place {
    started_at: i64,
    from: String,
    to: String,
    is_open: bool,
    queue_id: Option<Uuid>,
    agent_id: Option<Uuid>,
}

impl Place {
    fn of(call: &CallSummary) -> Self {
        Self {
            started_at: call.started_at.millis(),
            from: call.from.to_string(),
            to: call.to.to_string(),
            is_open: call.is_open,
            queue_id: call.queue_id.map(QueueId::uuid),
            agent_id: call.agent_id.map(AgentId::uuid),
        }
    }

    /// The stored place, or `None` when it cannot be understood and must be written anew.
    fn read(row: &SqliteRow) -> Option<Self> {
        let id = |column| {
            let bytes = row.try_get::<Option<&[u8]>, _>(column).ok()?;
            bytes.map(Uuid::from_slice).transpose().ok()
        };
        Some(Self {
            started_at: row.try_get("started_at").ok()?,
            from: row.try_get("from_address").ok()?,
            to: row.try_get("to_address").ok()?,
            is_open: row.try_get("is_open").ok()?,
            queue_id: id("queue_id")?,
            agent_id: id("agent_id")?,
        })
    }
}

/// A call with what of it must be written out.
struct CallRow<'a> {
    call: &'a CallSummary,
    place: Place,
    summary: String,
}

impl<'a> CallRow<'a> {
    fn new(call: &'a CallSummary) -> Result<Self, StoreError> {
        let summary = serde_json::to_string(call)
            .map_err(|error| StoreError::Refused(format!("summary of {}: {error}", call.id)))?;
        Ok(Self { call, place: Place::of(call), summary })
    }
}

/// Writes the summaries of a batch, each call once.
pub(super) async fn put_calls(
    connection: &mut SqliteConnection,
    calls: &[&CallSummary],
) -> Result<(), StoreError> {
    let rows = calls.iter().map(|call| CallRow::new(call)).collect::<Result<Vec<_>, _>>()?;
    let found = FIND_PLACES.fetch(connection, calls, bind_id).await;
    let found = found.map_err(|error| errors::from(&error))?;
    let stored: HashMap<&[u8], Place> =
        found.iter().filter_map(|row| Some((row.try_get("id").ok()?, Place::read(row)?))).collect();
    let (settled, moved): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| stored.get(row.call.id.uuid().as_bytes().as_slice()) == Some(&row.place));
    let written = match PUT_MOVED.execute(connection, &moved, bind_call).await {
        Ok(()) => PUT_SETTLED.execute(connection, &settled, bind_call).await,
        Err(error) => Err(error),
    };
    written.map_err(|error| errors::from(&error))
}

fn bind_id(query: Bound, call: &CallSummary) -> Bound {
    query.bind(call.id.uuid().as_bytes().as_slice())
}

/// Binds all columns of a call.
fn bind_call(query: Bound, row: &CallRow<'_>) -> Bound {
    let (call, place) = (row.call, &row.place);
    bind_id(query, call)
        .bind(place.started_at)
        .bind(call.direction.as_str())
        .bind(&*place.from)
        .bind(&*place.to)
        .bind(place.is_open)
        .bind(&*call.state)
        .bind(&*call.status)
        .bind(place.queue_id.map(|id| id.as_bytes().to_vec()))
        .bind(place.agent_id.map(|id| id.as_bytes().to_vec()))
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
        sql.push(" AND direction = ").push_bind(direction.as_str());
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

fn call(row: &SqliteRow) -> Result<CallSummary, StoreError> {
    let reading = Reading { row, table: "calls", named_by: "id" };
    let summary = reading.get::<&str>("summary")?;
    let mut call: CallSummary = serde_json::from_str(summary).map_err(|_| reading.corrupt("summary"))?;
    call.is_open = reading.get("is_open")?;
    Ok(call)
}
