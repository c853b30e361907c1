//! A batch as columns, and the one statement that writes all of it.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::errors;
use super::history::CallColumns;
use super::rows::{Bound, kind, shard, signed, text};
use crate::domain::id::CommandId;
use crate::domain::node::NodeRef;
use crate::domain::placement::shard_of;
use crate::domain::record::{EntityRef, FactRecord, ProviderRef, Summary};
use crate::store::error::StoreError;
use crate::store::journal::Append;
use crate::store::members;

/// Writes heads, facts, calls and names in one round trip.
///
/// A head is compared and set in one step: the row of an existing entity is locked, and changed only
/// if its number is the one the batch builds on; a new one is inserted, which only counts when the
/// batch builds on nothing. Rows come sorted, so that two batches take their locks in one order.
/// The lock on the node's row is held until the commit, wherever in the statement it is taken.
const WRITE: &str = "\
WITH alive AS ( \
    SELECT FROM nodes WHERE node_id = $1 AND incarnation = $2 AND status IN ('alive', 'draining') \
    FOR KEY SHARE \
), moved AS ( \
    INSERT INTO heads (entity_kind, entity_id, prior_seq, seq, since, shard, is_open, version) \
    SELECT *, 1 FROM unnest($3::smallint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], \
        $8::smallint[], $9::boolean[]) \
    ON CONFLICT (entity_id, entity_kind) DO UPDATE SET prior_seq = excluded.prior_seq, \
        seq = excluded.seq, since = least(heads.since, excluded.since), is_open = excluded.is_open, \
        version = heads.version + 1 \
    WHERE heads.seq = excluded.prior_seq \
    RETURNING version, prior_seq \
), told AS ( \
    INSERT INTO facts (entity_kind, entity_id, shard, seq, fact_id, at, kind, body, cause) \
    SELECT * FROM unnest($10::smallint[], $11::uuid[], $12::smallint[], $13::bigint[], $14::uuid[], \
        $15::bigint[], $16::text[], $17::text[], $18::uuid[]) \
), shown AS ( \
    INSERT INTO calls (id, started_at, direction, from_address, to_address, is_open, state, status, \
        queue_id, agent_id, summary) \
    SELECT * FROM unnest($19::uuid[], $20::bigint[], $21::text[], $22::text[], $23::text[], \
        $24::boolean[], $25::text[], $26::text[], $27::uuid[], $28::uuid[], $29::text[]) \
    ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, direction = excluded.direction, \
        from_address = excluded.from_address, to_address = excluded.to_address, \
        is_open = excluded.is_open, state = excluded.state, status = excluded.status, \
        queue_id = excluded.queue_id, agent_id = excluded.agent_id, summary = excluded.summary \
), named AS ( \
    INSERT INTO provider_refs (provider, reference, entity_kind, entity_id) \
    SELECT * FROM unnest($30::text[], $31::text[], $32::smallint[], $33::uuid[]) \
    ON CONFLICT (provider, reference) DO NOTHING \
) \
SELECT $1 IS NULL OR EXISTS (SELECT FROM alive) AS is_alive, \
    (SELECT count(*) FROM moved WHERE version > 1 OR prior_seq = 0) AS moved, \
    pg_current_xact_id()::text AS transaction";

/// Why a batch was undone.
pub(super) enum Failure {
    /// A head is elsewhere than assumed.
    Elsewhere,
    /// A fact is in the journal already.
    Double,
    /// The connection broke before the commit, or two transactions crossed: worth one more try.
    Broken(StoreError),
    /// A month has no partition.
    NoPartition(StoreError),
    /// Anything else.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if errors::is_double(&error) {
            return Self::Double;
        }
        let meaning = errors::from(&error);
        if errors::is_lost(&error) || errors::has_crossed(&error) {
            Self::Broken(meaning)
        } else if errors::lacks_partition(&error) {
            Self::NoPartition(meaning)
        } else {
            Self::Store(meaning)
        }
    }
}

/// The heads of a batch, one row per entity in order of entity.
#[derive(Default)]
struct Heads {
    kinds: Vec<i16>,
    ids: Vec<Uuid>,
    prior_seqs: Vec<i64>,
    seqs: Vec<i64>,
    sinces: Vec<i64>,
    shards: Vec<i16>,
    open: Vec<bool>,
}

/// The facts of a batch, in the order in which they get their positions.
#[derive(Default)]
struct Facts<'a> {
    kinds: Vec<i16>,
    ids: Vec<Uuid>,
    shards: Vec<i16>,
    seqs: Vec<i64>,
    fact_ids: Vec<Uuid>,
    times: Vec<i64>,
    words: Vec<&'a str>,
    bodies: Vec<&'a str>,
    causes: Vec<Option<Uuid>>,
}

impl<'a> Facts<'a> {
    fn push(&mut self, fact: &'a FactRecord, shard: i16) {
        self.kinds.push(kind(fact.entity.kind));
        self.ids.push(fact.entity.id);
        self.shards.push(shard);
        self.seqs.push(signed(fact.seq));
        self.fact_ids.push(fact.id.uuid());
        self.times.push(fact.at.millis());
        self.words.push(&fact.kind);
        self.bodies.push(fact.body.get());
        self.causes.push(fact.cause.map(CommandId::uuid));
    }
}

/// Everything to be written, as columns.
pub(super) struct Batch<'a> {
    heads: Heads,
    facts: Facts<'a>,
    calls: CallColumns,
    names: BTreeMap<&'a ProviderRef, EntityRef>,
}

impl<'a> Batch<'a> {
    /// Takes the appends that are to be stored, in order.
    pub(super) fn of(appends: &[&'a Append]) -> Result<Self, StoreError> {
        let mut facts = Facts::default();
        let mut names = BTreeMap::new();
        // The first append of an entity tells what the batch builds on, the last how it leaves it.
        let mut ends: BTreeMap<EntityRef, (&Append, &Append)> = BTreeMap::new();
        for append in appends {
            let shard = shard(shard_of(append.entity));
            append.facts.iter().for_each(|fact| facts.push(fact, shard));
            for name in &append.refs {
                names.entry(name).or_insert(append.entity);
            }
            ends.entry(append.entity).or_insert((append, append)).1 = append;
        }
        let mut heads = Heads::default();
        for (entity, (first, last)) in &ends {
            heads.kinds.push(kind(entity.kind));
            heads.ids.push(entity.id);
            heads.prior_seqs.push(signed(first.after_seq));
            heads.seqs.push(signed(last.after_seq.saturating_add(last.facts.len() as u64)));
            heads.shards.push(shard(shard_of(*entity)));
            heads.open.push(last.summary.is_open());
        }
        heads.sinces = earliest(&ends, appends);
        let calls = appends.iter().filter_map(|append| match &append.summary {
            Summary::Call(call) => Some((append.entity, &**call)),
            Summary::Agent { .. } | Summary::Unchanged { .. } => None,
        });
        let newest: BTreeMap<_, _> = calls.collect();
        Ok(Self { heads, facts, calls: CallColumns::of(newest.into_values())?, names })
    }

    /// Writes it and answers with the transaction's number, by which its end can be looked up.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        fence: Option<&NodeRef>,
    ) -> Result<String, Failure> {
        let (heads, facts, calls) = (&self.heads, &self.facts, &self.calls);
        let query = sqlx::query(WRITE)
            .bind(fence.map(|fence| &*fence.node))
            .bind(fence.map(|fence| fence.incarnation))
            .bind(&heads.kinds)
            .bind(&heads.ids)
            .bind(&heads.prior_seqs)
            .bind(&heads.seqs)
            .bind(&heads.sinces)
            .bind(&heads.shards)
            .bind(&heads.open)
            .bind(&facts.kinds)
            .bind(&facts.ids)
            .bind(&facts.shards)
            .bind(&facts.seqs)
            .bind(&facts.fact_ids)
            .bind(&facts.times)
            .bind(&facts.words)
            .bind(&facts.bodies)
            .bind(&facts.causes);
        let row = self.bind_names(calls.bind(query)).fetch_one(connection).await?;
        if let Some(fence) = fence
            && !row.try_get::<bool, _>("is_alive")?
        {
            return Err(Failure::Store(members::fenced(fence)));
        }
        if row.try_get::<i64, _>("moved")?.unsigned_abs() != heads.ids.len() as u64 {
            return Err(Failure::Elsewhere);
        }
        Ok(row.try_get("transaction")?)
    }

    fn bind_names(&self, query: Bound) -> Bound {
        let names = self.names.iter();
        query
            .bind(names.clone().map(|(name, _)| text(&name.provider)).collect::<Vec<_>>())
            .bind(names.clone().map(|(name, _)| text(&name.reference)).collect::<Vec<_>>())
            .bind(names.clone().map(|(_, entity)| kind(entity.kind)).collect::<Vec<_>>())
            .bind(names.map(|(_, entity)| entity.id).collect::<Vec<_>>())
    }
}

/// The time of the earliest fact of each entity, in order of entity; without facts, the latest there is.
fn earliest(ends: &BTreeMap<EntityRef, (&Append, &Append)>, appends: &[&Append]) -> Vec<i64> {
    let mut times: BTreeMap<EntityRef, i64> = ends.keys().map(|entity| (*entity, i64::MAX)).collect();
    for fact in appends.iter().flat_map(|append| &append.facts) {
        times.entry(fact.entity).and_modify(|earliest| *earliest = fact.at.millis().min(*earliest));
    }
    times.into_values().collect()
}
