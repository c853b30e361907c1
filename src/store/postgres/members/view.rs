//! Nodes and owners as they are at one moment.

use sqlx::postgres::PgRow;
use sqlx::{Decode, PgPool, Postgres, Type};
use uuid::Uuid;

use super::now;
use crate::domain::node::{ClusterView, NodeRef, NodeRow, NodeStatus};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::postgres::answered;
use crate::store::postgres::rows::Reading;

/// One row with a list for each column, so that nodes, owners and clock come in one answer.
const VIEW: &str = concat!(
    "SELECT ",
    now!(),
    " AS now, nodes.*, shards.* FROM (SELECT \
     array_agg(node_id ORDER BY node_id) AS node_id, array_agg(incarnation ORDER BY node_id) AS incarnation, \
     array_agg(address ORDER BY node_id) AS address, array_agg(public_url ORDER BY node_id) AS public_url, \
     array_agg(roles ORDER BY node_id) AS roles, array_agg(version ORDER BY node_id) AS version, \
     array_agg(status ORDER BY node_id) AS status, array_agg(started_at ORDER BY node_id) AS started_at, \
     array_agg(lease_until ORDER BY node_id) AS lease_until FROM nodes) AS nodes, (SELECT \
     array_agg(shard ORDER BY shard) AS shard, array_agg(node_id ORDER BY shard) AS owner, \
     array_agg(incarnation ORDER BY shard) AS owner_incarnation FROM shards) AS shards"
);

/// All statuses, to find one by its word.
const STATUSES: [NodeStatus; 4] =
    [NodeStatus::Alive, NodeStatus::Draining, NodeStatus::Dead, NodeStatus::Left];

pub(super) async fn read(pool: &PgPool) -> Result<ClusterView, StoreError> {
    let row = answered(sqlx::query(VIEW).fetch_one(pool)).await?;
    let reading = Reading { row: &row, table: "nodes", named_by: "now" };
    let mut view = ClusterView::empty(Timestamp::from_millis(reading.get("now")?));
    view.nodes = nodes(&reading)?;
    note_owners(&mut view, &row)?;
    Ok(view)
}

/// A column as a list; no rows have none.
fn column<'r, T>(reading: &Reading<'r>, name: &'static str) -> Result<std::vec::IntoIter<T>, StoreError>
where
    Vec<T>: Decode<'r, Postgres> + Type<Postgres>,
{
    Ok(reading.get::<Option<Vec<T>>>(name)?.unwrap_or_default().into_iter())
}

fn nodes(reading: &Reading<'_>) -> Result<Vec<NodeRow>, StoreError> {
    let (mut addresses, mut urls) =
        (column::<String>(reading, "address")?, column::<String>(reading, "public_url")?);
    let (mut roles, mut versions) =
        (column::<String>(reading, "roles")?, column::<String>(reading, "version")?);
    let (mut statuses, mut starts) =
        (column::<String>(reading, "status")?, column::<i64>(reading, "started_at")?);
    let mut leases = column::<i64>(reading, "lease_until")?;
    let runs = column::<String>(reading, "node_id")?.zip(column::<Uuid>(reading, "incarnation")?);
    runs.map(|(node, incarnation)| {
        let status = statuses.next().unwrap_or_default();
        Ok(NodeRow {
            at: NodeRef { node: node.into(), incarnation },
            address: addresses.next().unwrap_or_default(),
            public_url: urls.next().unwrap_or_default(),
            // A newer program may know roles that this one does not; nothing of ours goes by them.
            roles: roles.next().unwrap_or_default().split(',').filter_map(|word| word.parse().ok()).collect(),
            version: versions.next().unwrap_or_default(),
            status: status_of(&status).ok_or_else(|| reading.corrupt("status"))?,
            started_at: Timestamp::from_millis(starts.next().unwrap_or_default()),
            lease_until: Timestamp::from_millis(leases.next().unwrap_or_default()),
        })
    })
    .collect()
}

fn status_of(word: &str) -> Option<NodeStatus> {
    STATUSES.into_iter().find(|status: &NodeStatus| status.as_str() == word)
}

fn note_owners(view: &mut ClusterView, row: &PgRow) -> Result<(), StoreError> {
    let reading = Reading { row, table: "shards", named_by: "now" };
    let runs = column::<Option<String>>(&reading, "owner")?
        .zip(column::<Option<Uuid>>(&reading, "owner_incarnation")?);
    for (shard, (node, incarnation)) in column::<i16>(&reading, "shard")?.zip(runs) {
        let number = usize::try_from(shard).map_err(|_| reading.corrupt("shard"))?;
        let owner = view.owners.get_mut(number).ok_or_else(|| reading.corrupt("shard"))?;
        *owner = node.zip(incarnation).map(|(node, incarnation)| NodeRef { node: node.into(), incarnation });
    }
    Ok(())
}
