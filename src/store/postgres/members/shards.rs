//! Owners of shards: taking, giving, letting go.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection, PgPool, Row};

use super::{announced, living};
use crate::domain::node::{NodeRef, NodeStatus};
use crate::store::error::StoreError;
use crate::store::members::fenced;
use crate::store::postgres::rows;
use crate::store::postgres::{answered, written};

/// Holds the claimer's row, so that it lives until the claim is there, and the shards.
const HOLD: &str = concat!(
    "WITH held AS (SELECT shard FROM shards WHERE shard = ANY($3) ORDER BY shard FOR UPDATE) \
     SELECT status, (SELECT count(*) FROM held) FROM nodes \
     WHERE node_id = $1 AND incarnation = $2 AND status IN ",
    living!(),
    " FOR KEY SHARE"
);

/// A statement of its own, behind the locks: it sees what was committed while they were waited for.
/// Whose owner is over stays so, as no run lives again.
const CLAIM: &str = announced!(
    "shard",
    "UPDATE shards SET node_id = $1, incarnation = $2 WHERE shard = ANY($3) AND NOT EXISTS ( \
     SELECT FROM nodes AS owner WHERE owner.node_id = shards.node_id \
     AND owner.incarnation = shards.incarnation AND owner.status IN ",
    living!(),
    ")"
);

/// Both rows are held; as long as the giver lives nobody else takes its shards.
const TRANSFER: &str = concat!(
    "WITH living AS (SELECT node_id FROM nodes WHERE (node_id = $1 AND incarnation = $2 AND status IN ",
    living!(),
    ") OR (node_id = $3 AND incarnation = $4 AND status = 'alive') FOR KEY SHARE \
     ), moved AS ( \
     UPDATE shards SET node_id = $3, incarnation = $4 WHERE shard = ANY($5) AND node_id = $1 \
     AND incarnation = $2 AND (SELECT count(*) FROM living) = 2 RETURNING shard) \
     SELECT EXISTS (SELECT FROM living WHERE node_id = $1) AS is_living, \
     ARRAY(SELECT shard FROM moved ORDER BY shard) AS shards, pg_notify('eml_nodes', current_schema())"
);

const RELEASE: &str = announced!(
    "shard",
    "UPDATE shards SET node_id = NULL, incarnation = NULL \
     WHERE shard = ANY($3) AND node_id = $1 AND incarnation = $2"
);

pub(super) async fn claim(pool: &PgPool, node: &NodeRef, shards: &[u16]) -> Result<Vec<u16>, StoreError> {
    let mut connection = answered(pool.acquire()).await?;
    written(take(&mut connection, node, &rows::shards(shards))).await?.ok_or_else(|| fenced(node))
}

/// `None` when the claimer is not living.
async fn take(
    connection: &mut PgConnection,
    node: &NodeRef,
    shards: &[i16],
) -> Result<Option<Vec<u16>>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let query = sqlx::query_scalar::<_, String>(HOLD).bind(&*node.node).bind(node.incarnation).bind(shards);
    let Some(status) = query.fetch_optional(&mut *transaction).await? else { return Ok(None) };
    if status != NodeStatus::Alive.as_str() {
        return Ok(Some(Vec::new()));
    }
    let query = sqlx::query(CLAIM).bind(&*node.node).bind(node.incarnation).bind(shards);
    let rows = query.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let taken = rows.iter().map(|row| row.try_get("shard")).collect::<Result<Vec<i16>, _>>()?;
    Ok(Some(in_order(&taken)))
}

pub(super) async fn transfer(
    pool: &PgPool,
    from: &NodeRef,
    to: &NodeRef,
    shards: &[u16],
) -> Result<Vec<u16>, StoreError> {
    let query = sqlx::query(TRANSFER)
        .bind(&*from.node)
        .bind(from.incarnation)
        .bind(&*to.node)
        .bind(to.incarnation)
        .bind(rows::shards(shards));
    let mut connection = answered(pool.acquire()).await?;
    let moved = async {
        let row = query.fetch_one(&mut *connection).await?;
        Ok((row.try_get("is_living")?, row.try_get::<Vec<i16>, _>("shards")?))
    };
    let (is_living, moved): (bool, _) = written(moved).await?;
    if is_living { Ok(in_order(&moved)) } else { Err(fenced(from)) }
}

pub(super) async fn release(pool: &PgPool, node: &NodeRef, shards: &[u16]) -> Result<(), StoreError> {
    let query = sqlx::query(RELEASE).bind(&*node.node).bind(node.incarnation).bind(rows::shards(shards));
    answered(query.execute(pool)).await.map(drop)
}

fn in_order(shards: &[i16]) -> Vec<u16> {
    let shards: BTreeSet<_> = shards.iter().filter_map(|shard| u16::try_from(*shard).ok()).collect();
    shards.into_iter().collect()
}
