//! Storing a batch of appends: the hot path of the whole program.
//!
//! Three round trips however large the batch: begin, one statement for everything, commit. The
//! statement assumes that every entity is where the first append for it says. If one is not, all of it
//! is undone, the heads are read, and the batch is written again without the appends that came too
//! late.
//!
//! Why two writers of an entity never both succeed, on whichever nodes they are: a head is changed
//! only by a statement that locks it and finds the number that its batch builds on, and the facts go
//! in with the same transaction. The second writer waits for the first one's commit at that row (or,
//! for a new entity, at the unique index that both insert into) and then finds another number. The
//! partitions of the facts could not tell, since a unique index over them must hold their time.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::batch::{Batch, Failure};
use super::rows::{Reading, kind};
use super::transaction::Transaction;
use super::{PostgresStore, answered, within_limit};
use crate::domain::id::FactId;
use crate::domain::record::EntityRef;
use crate::store::error::StoreError;
use crate::store::journal::{Append, AppendOutcome};
use crate::store::plan::{self, Heads};

const FIND_HEADS: &str = "SELECT entity_kind, entity_id, seq FROM heads \
     WHERE (entity_kind, entity_id) IN (SELECT * FROM unnest($1::smallint[], $2::uuid[]))";

const FIND_DOUBLES: &str = "SELECT fact_id FROM facts \
     WHERE (fact_id, at) IN (SELECT * FROM unnest($1::uuid[], $2::bigint[]))";

const IS_UNDER_WAY: &str = "SELECT pg_xact_status($1::text::xid8) = 'in progress'";

/// How often the heads may be elsewhere before the batch is given up. Each time another writer got
/// ahead, which one writer per entity makes rare.
const MOST_READINGS: u32 = 10;
/// How often an unfinished transaction of a lost connection is looked at, and how far apart.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Stores a batch and tells what became of each append, in order.
pub(super) async fn append(
    store: &PostgresStore,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, StoreError> {
    plan::check(batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    store.partitions.make_for(&store.pool, batch).await?;
    let (mut outcomes, mut stored) = View::assumed(batch).outcomes(batch);
    let (mut readings, mut was_broken) = (0, false);
    loop {
        match attempt(store, &stored).await {
            Ok(()) => return Ok(outcomes),
            Err(Failure::Elsewhere | Failure::Double) if readings < MOST_READINGS => {
                readings += 1;
                (outcomes, stored) = View::read(&store.pool, batch).await?.outcomes(batch);
            }
            Err(Failure::Broken(_)) if !was_broken => was_broken = true,
            Err(Failure::NoPartition(_)) if !was_broken => {
                was_broken = true;
                store.partitions.forget();
                store.partitions.make_for(&store.pool, batch).await?;
            }
            Err(Failure::Elsewhere) => {
                return Err(StoreError::Unavailable("heads of a batch do not stand still".to_owned()));
            }
            Err(Failure::Double) => {
                return Err(StoreError::Refused("a fact of the batch is stored already".to_owned()));
            }
            Err(Failure::Broken(error) | Failure::NoPartition(error) | Failure::Store(error)) => {
                return Err(error);
            }
        }
    }
}

/// Writes appends in one transaction, all or none.
async fn attempt(store: &PostgresStore, appends: &[&Append]) -> Result<(), Failure> {
    if appends.is_empty() {
        return Ok(());
    }
    let batch = Batch::of(appends).map_err(Failure::Store)?;
    let mut transaction = Transaction::begin(&store.batches).await.map_err(Failure::Store)?;
    let written = batch.write(transaction.connection(), store.fence.as_ref());
    let number = match tokio::time::timeout(super::ANSWER_TIMEOUT, written).await {
        Ok(Ok(number)) => number,
        Ok(Err(failure)) => {
            transaction.roll_back().await;
            return Err(failure);
        }
        Err(_) => return Err(Failure::Store(StoreError::Unavailable("server does not answer".to_owned()))),
    };
    let committed = transaction.commit().await;
    if matches!(committed, Err(StoreError::InDoubt(_))) {
        await_end(&store.pool, &number).await;
    }
    committed.map_err(Failure::Store)
}

/// Waits until a transaction whose connection is lost has ended, so that whoever reads back next sees
/// for certain what became of it. Its number alone would not tell: after a crash it may be another's.
async fn await_end(pool: &PgPool, number: &str) {
    for _ in 0..LOOKS {
        let look = sqlx::query_scalar::<_, Option<bool>>(IS_UNDER_WAY).bind(number).fetch_one(pool);
        match within_limit(look).await {
            Ok(Some(true)) => tokio::time::sleep(BETWEEN_LOOKS).await,
            // A number that the server does not know died with it.
            Ok(Some(false) | None) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot look up how a transaction ended");
                return;
            }
        }
    }
}

/// What is known or assumed of the store before a batch.
struct View {
    heads: Heads,
    /// Facts of the batch that are stored already.
    doubles: HashSet<FactId>,
}

impl View {
    /// That every entity is where its first append says, and no fact is stored.
    fn assumed(batch: &[Append]) -> Self {
        let mut heads = Heads::default();
        for append in batch.iter().rev() {
            heads.note(append.entity, append.after_seq);
        }
        Self { heads, doubles: HashSet::new() }
    }

    async fn read(pool: &PgPool, batch: &[Append]) -> Result<Self, StoreError> {
        let entities: HashSet<EntityRef> = batch.iter().map(|append| append.entity).collect();
        let query = sqlx::query(FIND_HEADS)
            .bind(entities.iter().map(|entity| kind(entity.kind)).collect::<Vec<_>>())
            .bind(entities.iter().map(|entity| entity.id).collect::<Vec<_>>());
        let mut heads = Heads::default();
        for row in answered(query.fetch_all(pool)).await? {
            let reading = Reading { row: &row, table: "heads", named_by: "entity_id" };
            heads.note(reading.entity()?, reading.number("seq")?);
        }
        let facts = || batch.iter().flat_map(|append| &append.facts);
        let query = sqlx::query_scalar::<_, Uuid>(FIND_DOUBLES)
            .bind(facts().map(|fact| fact.id.uuid()).collect::<Vec<_>>())
            .bind(facts().map(|fact| fact.at.millis()).collect::<Vec<_>>());
        let doubles = answered(query.fetch_all(pool)).await?.into_iter().map(FactId::from_uuid).collect();
        Ok(Self { heads, doubles })
    }

    /// What becomes of each append of a batch, and those that are to be stored.
    fn outcomes(mut self, batch: &[Append]) -> (Vec<AppendOutcome>, Vec<&Append>) {
        let (mut outcomes, mut stored) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for append in batch {
            let mut outcome = self.heads.outcome(append);
            if outcome == AppendOutcome::Stored && self.has_doubles(append) {
                outcome = AppendOutcome::Conflict { found_seq: self.heads.seq(append.entity) };
            }
            if outcome == AppendOutcome::Stored {
                self.heads.advance(append);
                self.doubles.extend(append.facts.iter().map(|fact| fact.id));
                stored.push(append);
            }
            outcomes.push(outcome);
        }
        (outcomes, stored)
    }

    /// Whether a fact of the append is in the store or the batch already, or twice in the append.
    fn has_doubles(&self, append: &Append) -> bool {
        let mut fresh = HashSet::with_capacity(append.facts.len());
        append.facts.iter().any(|fact| self.doubles.contains(&fact.id) || !fresh.insert(fact.id))
    }
}
