//! The rows of nodes: a run begins, lives, and ends.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres};
use uuid::Uuid;

use super::{announced, living, now};
use crate::domain::node::NodeRef;
use crate::domain::time::Millis;
use crate::store::error::StoreError;
use crate::store::members::NewNode;
use crate::store::postgres::rows::{Bound, signed, text};
use crate::store::postgres::{answered, within_limit, written};

const INSERT: &str = announced!(
    "node_id",
    "INSERT INTO nodes (node_id, incarnation, status, address, public_url, roles, version, started_at, \
     lease_until) SELECT $1::text, $2::uuid, 'alive', $3::text, $4::text, $5::text, $6::text, \
     clock.now, clock.now + $7::bigint FROM (SELECT ",
    now!(),
    " AS now) AS clock ON CONFLICT (node_id) DO NOTHING"
);

const REPLACE: &str = announced!(
    "node_id",
    "UPDATE nodes SET incarnation = $2::uuid, status = 'alive', address = $3::text, \
     public_url = $4::text, roles = $5::text, version = $6::text, started_at = clock.now, \
     lease_until = clock.now + $7::bigint FROM (SELECT ",
    now!(),
    " AS now) AS clock WHERE node_id = $1::text"
);

/// Touches nothing that an index holds, so it stays within its page.
const RENEW: &str = concat!(
    "UPDATE nodes SET lease_until = ",
    now!(),
    " + $3 WHERE node_id = $1 AND incarnation = $2 AND status IN ",
    living!()
);

const SET_DRAINING: &str = announced!(
    "node_id",
    "UPDATE nodes SET status = 'draining' WHERE node_id = $1 AND incarnation = $2 AND status IN ",
    living!()
);

const LOCK: &str = "SELECT incarnation FROM nodes WHERE node_id = $1 FOR UPDATE";

/// Finds the row also when the run is over already, whose status stays.
const END: &str = announced!(
    "node_id",
    "UPDATE nodes SET status = CASE WHEN status IN ",
    living!(),
    " THEN $3::text ELSE status END WHERE node_id = $1 AND incarnation = $2 \
     AND (NOT $4 OR lease_until <= ",
    now!(),
    " OR status NOT IN ",
    living!(),
    ")"
);

/// Ends sessions that hold a lock this one waits for while their client says nothing: a node that froze
/// or was cut off between a statement and its commit. What they did is undone, as if they had gone.
const END_SILENT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE pid = ANY(pg_blocking_pids($1)) AND usename = current_user AND state = 'idle in transaction' \
     AND state_change < now() - interval '100 milliseconds'";

/// How long a batch under way is waited for before silent sessions are looked for, each time.
const PATIENCE: Duration = Duration::from_millis(100);

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Leave,
    Die,
    /// Only when its lease is over.
    DieExpired,
}

pub(super) async fn register(pool: &PgPool, node: &NewNode, lease: Millis) -> Result<NodeRef, StoreError> {
    let at = NodeRef { node: text(&node.node).into(), incarnation: Uuid::now_v7() };
    let bind = |statement| bind(statement, &at, node, lease);
    let mut connection = answered(pool.acquire()).await?;
    let registered = async {
        let mut transaction = connection.begin().await?;
        // First so, since a row that is not there yet cannot be locked against somebody who inserts it.
        if bind(INSERT).execute(&mut *transaction).await?.rows_affected() == 0 {
            lock(&mut transaction, pool, &at).await?;
            bind(REPLACE).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    };
    written(registered).await?;
    Ok(at)
}

fn bind(statement: &'static str, at: &NodeRef, node: &NewNode, lease: Millis) -> Bound {
    let roles: Vec<_> = node.roles.iter().map(|role| role.as_str()).collect();
    sqlx::query(statement)
        .bind(at.node.to_string())
        .bind(at.incarnation)
        .bind(text(&node.address).into_owned())
        .bind(text(&node.public_url).into_owned())
        .bind(roles.join(","))
        .bind(text(&node.version).into_owned())
        .bind(signed(lease.0))
}

/// Renews by whatever runs statements; the outcome of one without answer is not known.
pub(super) async fn renew_on<'c>(
    executor: impl Executor<'c, Database = Postgres>,
    node: &NodeRef,
    lease: Millis,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(RENEW).bind(&*node.node).bind(node.incarnation).bind(signed(lease.0));
    Ok(query.execute(executor).await?.rows_affected() > 0)
}

pub(super) async fn renew(pool: &PgPool, node: &NodeRef, lease: Millis) -> Result<bool, StoreError> {
    answered(renew_on(pool, node, lease)).await
}

pub(super) async fn set_draining(pool: &PgPool, node: &NodeRef) -> Result<bool, StoreError> {
    let query = sqlx::query(SET_DRAINING).bind(&*node.node).bind(node.incarnation);
    Ok(answered(query.execute(pool)).await?.rows_affected() > 0)
}

/// Ends a run, once its batches under way have ended; answers whether it is over.
pub(super) async fn end(pool: &PgPool, node: &NodeRef, end: End) -> Result<bool, StoreError> {
    let status = match end {
        End::Leave => "left",
        End::Die | End::DieExpired => "dead",
    };
    let mut connection = answered(pool.acquire()).await?;
    let ended = async {
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, pool, node).await?;
        let query = sqlx::query(END).bind(&*node.node).bind(node.incarnation).bind(status);
        let query = query.bind(end == End::DieExpired);
        let is_over = query.execute(&mut *transaction).await?.rows_affected() > 0;
        transaction.commit().await?;
        Ok(is_over)
    };
    written(ended).await
}

/// Takes the row of a node until the end of the transaction. A batch under way is waited for, but not
/// one whose node has fallen silent.
async fn lock(connection: &mut PgConnection, pool: &PgPool, node: &NodeRef) -> Result<(), sqlx::Error> {
    let own: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await?;
    let taken = sqlx::query(LOCK).bind(&*node.node).fetch_optional(connection);
    let mut taken = std::pin::pin!(taken);
    loop {
        tokio::select! {
            taken = &mut taken => return taken.map(drop),
            () = tokio::time::sleep(PATIENCE) => end_silent(pool, own, node).await,
        }
    }
}

async fn end_silent(pool: &PgPool, waiting: i32, node: &NodeRef) {
    let query = sqlx::query_scalar::<_, i64>(END_SILENT).bind(waiting);
    match within_limit(query.fetch_one(pool)).await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(%node, count, "ended sessions that held the node's row in silence"),
        Err(error) => tracing::warn!(%error, %node, "cannot look for sessions that hold the node's row"),
    }
}
