//! Storing a batch of appends: the hot path of the whole program.
//!
//! One transaction of three round trips, however many entities take part: one statement compares
//! and sets the heads, stores the facts, and writes summaries and names. It tells how many heads
//! were as expected; unless all were, everything is undone and the batch is stored in halves, and
//! halves of halves, until those appends are found that conflict.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::fence::Fence;
use super::history::word;
use super::rows::{code, signed};
use super::{PostgresStore, errors};
use crate::domain::id::{AgentId, QueueId};
use crate::domain::placement::shard_of;
use crate::domain::record::{CallSummary, EntityRef, ProviderRef, Summary};
use crate::store::error::StoreError;
use crate::store::journal::{Append, AppendOutcome};
use crate::store::plan;

/// How often a batch is tried whose connection broke before the commit, or that crossed another.
const TRIES: usize = 3;

/// Everything of a batch. Counts the heads that were as expected.
const STORE: &str = "WITH wanted AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::boolean[], $6::smallint[],
        $7::bigint[]) AS wanted (entity_kind, entity_id, before, seq, is_open, shard, first_at)
), begun AS (
    INSERT INTO heads (entity_kind, entity_id, seq, is_open, shard, first_at)
    SELECT entity_kind, entity_id, seq, is_open, shard, first_at FROM wanted WHERE before = 0
    ON CONFLICT DO NOTHING RETURNING 1
), continued AS (
    UPDATE heads SET seq = wanted.seq, is_open = wanted.is_open,
        first_at = least(heads.first_at, wanted.first_at)
    FROM wanted
    WHERE heads.entity_kind = wanted.entity_kind AND heads.entity_id = wanted.entity_id
        AND heads.seq = wanted.before AND wanted.before > 0
    RETURNING 1
), told AS (
    INSERT INTO facts (entity_kind, entity_id, seq, shard, fact_id, at, kind, body)
    SELECT * FROM unnest($8::smallint[], $9::uuid[], $10::bigint[], $11::smallint[], $12::uuid[], $13::bigint[],
        $14::text[], $15::text[])
), shown AS (
    INSERT INTO calls (id, started_at, direction, from_address, to_address, is_open, state, status, queue_id,
        agent_id, summary)
    SELECT * FROM unnest($16::uuid[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::boolean[],
        $22::text[], $23::text[], $24::uuid[], $25::uuid[], $26::text[])
    ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, direction = excluded.direction,
        from_address = excluded.from_address, to_address = excluded.to_address, is_open = excluded.is_open,
        state = excluded.state, status = excluded.status, queue_id = excluded.queue_id,
        agent_id = excluded.agent_id, summary = excluded.summary
), named AS (
    INSERT INTO provider_refs (provider, reference, entity_kind, entity_id)
    SELECT * FROM unnest($27::text[], $28::text[], $29::smallint[], $30::uuid[])
    ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM begun) + (SELECT count(*) FROM continued)";

const HEAD: &str = "SELECT seq FROM heads WHERE entity_kind = $1 AND entity_id = $2";

/// Why a batch was undone.
enum Failure {
    /// A head was not as expected, or a fact is in the journal already.
    Conflict,
    /// Trying again on another connection, or a moment later, may help; nothing was stored.
    Passing(StoreError),
    /// Anything else.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if errors::is_double(&error) {
            Self::Conflict
        } else if errors::is_lost(&error) || errors::is_crossed(&error) {
            Self::Passing(errors::from(&error))
        } else {
            Self::Store(errors::from(&error))
        }
    }
}

/// Stores a batch and tells what became of each append, in order.
pub(super) async fn append(
    store: &PostgresStore,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, StoreError> {
    plan::check(batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let times = batch.iter().flat_map(|append| &append.facts).map(|fact| fact.at);
    store.partitions.make_for(&store.pool, times).await?;
    let mut in_halves = false;
    let mut last = StoreError::Unavailable("no connection".to_owned());
    for _ in 0..TRIES {
        match try_append(store, batch, in_halves).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::Conflict) => {
                in_halves = true;
                last = StoreError::Unavailable("the batch kept crossing others".to_owned());
            }
            Err(Failure::Passing(error)) => last = error,
            Err(Failure::Store(error)) => return Err(error),
        }
    }
    Err(last)
}

async fn try_append(
    store: &PostgresStore,
    batch: &[Append],
    in_halves: bool,
) -> Result<Vec<AppendOutcome>, Failure> {
    let mut place = store.writer.lock().await;
    // Taken out, so that a connection in an unknown state is dropped whatever happens here.
    let mut connection = match place.take() {
        Some(connection) => connection,
        None => store.connect_writer().await.map_err(Failure::Passing)?,
    };
    sqlx::query("BEGIN").execute(&mut connection).await?;
    if let Some(fence) = &store.fence {
        hold(fence, &mut connection).await?;
    }
    let outcomes = if in_halves {
        let mut outcomes = Vec::with_capacity(batch.len());
        store_in_halves(&mut connection, batch, &mut outcomes).await?;
        outcomes
    } else {
        match store_together(&mut connection, batch).await {
            Ok(()) => vec![AppendOutcome::Stored; batch.len()],
            Err(failure) => {
                if sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok() {
                    *place = Some(connection);
                }
                return Err(failure);
            }
        }
    };
    match sqlx::query("COMMIT").execute(&mut connection).await {
        Ok(_) => {
            *place = Some(connection);
            Ok(outcomes)
        }
        Err(error) => Err(Failure::Store(errors::of_commit(&error))),
    }
}

async fn hold(fence: &Fence, connection: &mut PgConnection) -> Result<(), Failure> {
    fence.hold(connection).await.map_err(|error| match error {
        StoreError::Unavailable(_) => Failure::Passing(error),
        StoreError::InDoubt(_)
        | StoreError::Corrupt { .. }
        | StoreError::Exists(_)
        | StoreError::Changed
        | StoreError::Fenced(_)
        | StoreError::Refused(_) => Failure::Store(error),
    })
}

/// The usual way: everything in one statement.
async fn store_together(connection: &mut PgConnection, batch: &[Append]) -> Result<(), Failure> {
    let heads = heads_of(batch).ok_or(Failure::Conflict)?;
    let expected = heads.len();
    let facts = FactColumns::of(batch);
    let calls = CallColumns::of(batch).map_err(Failure::Store)?;
    let names = NameColumns::of(batch);
    let query = sqlx::query(STORE);
    let query = query.bind(column(&heads, |head| code(head.entity.kind)));
    let query = query.bind(column(&heads, |head| head.entity.id));
    let query = query.bind(column(&heads, |head| signed(head.before)));
    let query = query.bind(column(&heads, |head| signed(head.seq)));
    let query = query.bind(column(&heads, |head| head.is_open));
    let query = query.bind(column(&heads, |head| shard(head.entity)));
    let query = query.bind(column(&heads, |head| head.first_at));
    let query = query.bind(facts.kinds).bind(facts.ids).bind(facts.seqs).bind(facts.shards);
    let query = query.bind(facts.fact_ids).bind(facts.ats).bind(facts.types).bind(facts.bodies);
    let query = query.bind(calls.ids).bind(calls.starts).bind(calls.directions).bind(calls.from);
    let query = query.bind(calls.to).bind(calls.openness).bind(calls.states).bind(calls.statuses);
    let query = query.bind(calls.queues).bind(calls.agents).bind(calls.summaries);
    let query = query.bind(names.providers).bind(names.references).bind(names.kinds).bind(names.ids);
    let row = query.fetch_one(connection).await?;
    let found: i64 = row.try_get(0)?;
    if usize::try_from(found) == Ok(expected) { Ok(()) } else { Err(Failure::Conflict) }
}

/// The slow way, taken when some append conflicts: stores what can be stored in parts as large as
/// possible. Appends keep their order, so one behind a conflict of its entity conflicts too.
async fn store_in_halves(
    connection: &mut PgConnection,
    batch: &[Append],
    outcomes: &mut Vec<AppendOutcome>,
) -> Result<(), Failure> {
    sqlx::query("SAVEPOINT part").execute(&mut *connection).await?;
    let stored = store_together(connection, batch).await;
    match stored {
        Ok(()) => {}
        Err(Failure::Conflict) => {
            sqlx::query("ROLLBACK TO part").execute(&mut *connection).await?;
        }
        Err(failure) => return Err(failure),
    }
    sqlx::query("RELEASE part").execute(&mut *connection).await?;
    if stored.is_ok() {
        outcomes.extend(batch.iter().map(|_| AppendOutcome::Stored));
        return Ok(());
    }
    if let [append] = batch {
        let head = sqlx::query_scalar(HEAD).bind(code(append.entity.kind)).bind(append.entity.id);
        let found: Option<i64> = head.fetch_optional(connection).await?;
        outcomes.push(AppendOutcome::Conflict { found_seq: found.unwrap_or_default().unsigned_abs() });
        return Ok(());
    }
    let (front, back) = batch.split_at(batch.len() / 2);
    Box::pin(store_in_halves(connection, front, outcomes)).await?;
    Box::pin(store_in_halves(connection, back, outcomes)).await
}

/// What becomes of the head of one entity.
struct Head {
    entity: EntityRef,
    before: u64,
    seq: u64,
    is_open: bool,
    first_at: i64,
}

/// The heads of a batch in the order of their ids; `None` when appends of an entity do not follow
/// each other.
fn heads_of(batch: &[Append]) -> Option<Vec<Head>> {
    let mut heads: BTreeMap<EntityRef, Head> = BTreeMap::new();
    for append in batch {
        let first_at = append.facts.iter().map(|fact| fact.at.millis()).min().unwrap_or(i64::MAX);
        let seq = append.after_seq.saturating_add(append.facts.len() as u64);
        let head = heads.entry(append.entity).or_insert(Head {
            entity: append.entity,
            before: append.after_seq,
            seq: append.after_seq,
            is_open: true,
            first_at,
        });
        if head.seq != append.after_seq {
            return None;
        }
        head.seq = seq;
        head.is_open = append.summary.is_open();
        head.first_at = head.first_at.min(first_at);
    }
    Some(heads.into_values().collect())
}

fn column<T, V>(items: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    items.iter().map(value).collect()
}

fn shard(entity: EntityRef) -> i16 {
    i16::try_from(shard_of(entity)).unwrap_or_default()
}

/// The facts of a batch, column by column.
#[derive(Default)]
struct FactColumns<'a> {
    kinds: Vec<i16>,
    ids: Vec<Uuid>,
    seqs: Vec<i64>,
    shards: Vec<i16>,
    fact_ids: Vec<Uuid>,
    ats: Vec<i64>,
    types: Vec<&'a str>,
    bodies: Vec<&'a str>,
}

impl<'a> FactColumns<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut columns = Self::default();
        for append in batch {
            let (kind, shard) = (code(append.entity.kind), shard(append.entity));
            for fact in &append.facts {
                columns.kinds.push(kind);
                columns.ids.push(append.entity.id);
                columns.seqs.push(signed(fact.seq));
                columns.shards.push(shard);
                columns.fact_ids.push(fact.id.uuid());
                columns.ats.push(fact.at.millis());
                columns.types.push(&fact.kind);
                columns.bodies.push(fact.body.get());
            }
        }
        columns
    }
}

/// The newest summaries of the calls of a batch, column by column.
#[derive(Default)]
struct CallColumns<'a> {
    ids: Vec<Uuid>,
    starts: Vec<i64>,
    directions: Vec<&'static str>,
    from: Vec<String>,
    to: Vec<String>,
    openness: Vec<bool>,
    states: Vec<&'a str>,
    statuses: Vec<&'a str>,
    queues: Vec<Option<Uuid>>,
    agents: Vec<Option<Uuid>>,
    summaries: Vec<String>,
}

impl<'a> CallColumns<'a> {
    fn of(batch: &'a [Append]) -> Result<Self, StoreError> {
        let mut newest: BTreeMap<EntityRef, &CallSummary> = BTreeMap::new();
        for append in batch {
            match &append.summary {
                Summary::Call(call) => {
                    newest.insert(append.entity, call);
                }
                Summary::Agent { .. } | Summary::Unchanged { .. } => {}
            }
        }
        let mut columns = Self::default();
        for call in newest.into_values() {
            columns.push(call)?;
        }
        Ok(columns)
    }

    fn push(&mut self, call: &'a CallSummary) -> Result<(), StoreError> {
        let summary = serde_json::to_string(call)
            .map_err(|error| StoreError::Refused(format!("summary of {}: {error}", call.id)))?;
        self.ids.push(call.id.uuid());
        self.starts.push(call.started_at.millis());
        self.directions.push(word(call.direction));
        self.from.push(call.from.to_string());
        self.to.push(call.to.to_string());
        self.openness.push(call.is_open);
        self.states.push(&call.state);
        self.statuses.push(&call.status);
        self.queues.push(call.queue_id.map(QueueId::uuid));
        self.agents.push(call.agent_id.map(AgentId::uuid));
        self.summaries.push(summary);
        Ok(())
    }
}

/// The names of a batch, column by column; the first entity that claims a name gets it.
#[derive(Default)]
struct NameColumns<'a> {
    providers: Vec<&'a str>,
    references: Vec<&'a str>,
    kinds: Vec<i16>,
    ids: Vec<Uuid>,
}

impl<'a> NameColumns<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut first: HashMap<&ProviderRef, EntityRef> = HashMap::new();
        for append in batch {
            for name in &append.refs {
                first.entry(name).or_insert(append.entity);
            }
        }
        let mut names: Vec<_> = first.into_iter().collect();
        names.sort_unstable();
        let mut columns = Self::default();
        for (name, entity) in names {
            columns.providers.push(&name.provider);
            columns.references.push(&name.reference);
            columns.kinds.push(code(entity.kind));
            columns.ids.push(entity.id);
        }
        columns
    }
}
