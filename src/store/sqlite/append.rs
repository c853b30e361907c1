//! Storing a batch of appends: the hot path of the whole program.
//!
//! One transaction, a handful of statements however many entities take part.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use sqlx::SqliteConnection;

use super::journal::Head;
use super::rows::{Bound, ManyRows, signed};
use super::writer::Writer;
use super::{errors, history};
use crate::domain::placement::shard_of;
use crate::domain::record::{EntityRef, FactRecord, ProviderRef, Summary};
use crate::store::error::StoreError;
use crate::store::journal::{Append, AppendOutcome};
use crate::store::plan::{self, Heads};

static FIND_HEADS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::find("SELECT entity_kind, entity_id, seq, is_open FROM heads WHERE (entity_kind, entity_id)", 2)
});

static INSERT_FACTS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert("INSERT INTO facts (entity_kind, entity_id, seq, fact_id, at, kind, body, cause)", 8, "")
});

const INSERT_HEADS: &str = "INSERT INTO heads (entity_kind, entity_id, seq, is_open, shard)";

/// Writes heads that are new, opened or closed.
static PUT_TURNED_HEADS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        INSERT_HEADS,
        5,
        "ON CONFLICT (entity_kind, entity_id) DO UPDATE SET seq = excluded.seq, is_open = excluded.is_open",
    )
});

/// Writes heads that only count on, without touching the index over open ones.
static PUT_COUNTING_HEADS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(INSERT_HEADS, 5, "ON CONFLICT (entity_kind, entity_id) DO UPDATE SET seq = excluded.seq")
});

static KEEP_REFS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        "INSERT OR IGNORE INTO provider_refs (provider, reference, entity_kind, entity_id)",
        4,
        "",
    )
});

/// The real last number of an entity, should its head say something else than its facts.
const LAST_SEQ: &str = "SELECT coalesce(max(seq), 0) FROM facts WHERE entity_kind = ? AND entity_id = ?";

/// The heads of a batch as they were before it.
#[derive(Default)]
struct Before {
    heads: Heads,
    /// Whether each was open; entities that are new or were not looked at are missing.
    openness: HashMap<EntityRef, bool>,
}

/// Why a batch was undone.
enum Failure {
    /// A fact is in the journal already, although the heads did not show it.
    Double,
    /// Anything else.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if errors::is_double(&error) { Self::Double } else { Self::Store(errors::from(&error)) }
    }
}

/// Stores a batch and tells what became of each append, in order.
pub(super) async fn append(writer: &Writer, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
    plan::check(batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = writer.begin().await?;
    let mut result = store_together(transaction.connection(), batch).await;
    if matches!(result, Err(Failure::Double)) {
        transaction.roll_back().await;
        transaction = writer.begin().await?;
        result = store_one_by_one(transaction.connection(), batch).await;
    }
    match result {
        Ok(outcomes) => transaction.commit().await.map(|()| outcomes),
        Err(failure) => {
            transaction.roll_back().await;
            Err(match failure {
                Failure::Store(error) => error,
                Failure::Double => StoreError::Refused("a fact of the batch is stored already".to_owned()),
            })
        }
    }
}

/// The usual way: all facts of the batch in as few statements as possible.
async fn store_together(
    connection: &mut SqliteConnection,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, Failure> {
    let Before { mut heads, openness } = find_heads(connection, batch).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for append in batch {
        let outcome = heads.outcome(append);
        if outcome == AppendOutcome::Stored {
            heads.advance(append);
        }
        outcomes.push(outcome);
    }
    let facts: Vec<_> = stored(batch, &outcomes).flat_map(|append| &append.facts).collect();
    INSERT_FACTS.execute(connection, &facts, bind_fact).await?;
    put_summaries(connection, &stored(batch, &outcomes).collect::<Vec<_>>(), &openness).await?;
    Ok(outcomes)
}

/// The slow way, taken when a fact turned out to be stored already: finds out which appends are to
/// blame, with the numbers of the facts themselves, and stores the rest.
async fn store_one_by_one(
    connection: &mut SqliteConnection,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, Failure> {
    let mut heads = Heads::default();
    for entity in batch.iter().map(|append| append.entity).collect::<HashSet<_>>() {
        let query =
            sqlx::query_scalar(LAST_SEQ).bind(entity.kind.code()).bind(entity.id.as_bytes().as_slice());
        let last: i64 = query.fetch_one(&mut *connection).await?;
        heads.note(entity, last.unsigned_abs());
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    for append in batch {
        let mut outcome = heads.outcome(append);
        if outcome == AppendOutcome::Stored {
            if insert_unless_double(connection, append).await? {
                heads.advance(append);
            } else {
                outcome = AppendOutcome::Conflict { found_seq: heads.seq(append.entity) };
            }
        }
        outcomes.push(outcome);
    }
    put_summaries(connection, &stored(batch, &outcomes).collect::<Vec<_>>(), &HashMap::new()).await?;
    Ok(outcomes)
}

/// Inserts the facts of one append; answers `false`, with none of them stored, when one is there.
async fn insert_unless_double(connection: &mut SqliteConnection, append: &Append) -> Result<bool, Failure> {
    sqlx::query("SAVEPOINT one_append").execute(&mut *connection).await?;
    let facts: Vec<_> = append.facts.iter().collect();
    let inserted = match INSERT_FACTS.execute(connection, &facts, bind_fact).await {
        Ok(()) => true,
        Err(error) if errors::is_double(&error) => {
            sqlx::query("ROLLBACK TO one_append").execute(&mut *connection).await?;
            false
        }
        Err(error) => return Err(error.into()),
    };
    sqlx::query("RELEASE one_append").execute(&mut *connection).await?;
    Ok(inserted)
}

async fn find_heads(connection: &mut SqliteConnection, batch: &[Append]) -> Result<Before, Failure> {
    let entities: HashSet<EntityRef> = batch.iter().map(|append| append.entity).collect();
    let entities: Vec<_> = entities.into_iter().collect();
    let rows = FIND_HEADS.fetch(connection, &entities, bind_entity).await?;
    let mut before = Before::default();
    for row in rows {
        let head = Head::read(&row).map_err(Failure::Store)?;
        before.heads.note(head.entity, head.seq);
        before.openness.insert(head.entity, head.is_open);
    }
    Ok(before)
}

/// Writes heads, summaries of calls and names of what was stored, once per entity.
async fn put_summaries(
    connection: &mut SqliteConnection,
    stored: &[&Append],
    openness: &HashMap<EntityRef, bool>,
) -> Result<(), Failure> {
    // The last append of an entity tells how it stands after the batch.
    let newest: HashMap<EntityRef, &Append> = stored.iter().map(|append| (append.entity, *append)).collect();
    let (counting, turned): (Vec<&Append>, Vec<&Append>) =
        newest.values().partition(|append| openness.get(&append.entity) == Some(&append.summary.is_open()));
    PUT_TURNED_HEADS.execute(connection, &turned, bind_head).await?;
    PUT_COUNTING_HEADS.execute(connection, &counting, bind_head).await?;
    let calls = stored.iter().filter_map(|append| match &append.summary {
        Summary::Call(call) => Some((append.entity, &**call)),
        Summary::Agent { .. } | Summary::Unchanged { .. } => None,
    });
    let calls: HashMap<_, _> = calls.collect();
    let calls: Vec<_> = calls.into_values().collect();
    history::put_calls(connection, &calls).await.map_err(Failure::Store)?;
    // From the back, so that the first to claim a name is the last to be collected and keeps it.
    let names: HashMap<&ProviderRef, EntityRef> =
        stored.iter().rev().flat_map(|append| append.refs.iter().map(|name| (name, append.entity))).collect();
    let names: Vec<_> = names.into_iter().collect();
    KEEP_REFS.execute(connection, &names, bind_ref).await?;
    Ok(())
}

/// The appends of a batch that are stored.
fn stored<'a>(batch: &'a [Append], outcomes: &'a [AppendOutcome]) -> impl Iterator<Item = &'a Append> {
    let with_outcome = batch.iter().zip(outcomes);
    with_outcome.filter(|(_, outcome)| **outcome == AppendOutcome::Stored).map(|(append, _)| append)
}

pub(super) fn bind_entity(query: Bound, entity: EntityRef) -> Bound {
    query.bind(entity.kind.code()).bind(entity.id.as_bytes().as_slice())
}

fn bind_fact(query: Bound, fact: &FactRecord) -> Bound {
    bind_entity(query, fact.entity)
        .bind(signed(fact.seq))
        .bind(fact.id.uuid().as_bytes().as_slice())
        .bind(fact.at.millis())
        .bind(&*fact.kind)
        .bind(fact.body.get())
        .bind(fact.cause.map(|cause| cause.uuid().into_bytes().to_vec()))
}

fn bind_head(query: Bound, append: &Append) -> Bound {
    let seq = append.after_seq.saturating_add(append.facts.len() as u64);
    bind_entity(query, append.entity)
        .bind(signed(seq))
        .bind(append.summary.is_open())
        .bind(i64::from(shard_of(append.entity)))
}

fn bind_ref(query: Bound, name: (&ProviderRef, EntityRef)) -> Bound {
    bind_entity(query.bind(&*name.0.provider).bind(&*name.0.reference), name.1)
}
