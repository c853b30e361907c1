//! The nodes of the cluster, what they own, and sending one away.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Map;
use utoipa::ToSchema;

use super::auth::{Act, Caller, Origin};
use super::error::{ApiError, Code};
use super::request::Path;
use super::router::EdgeState;
use crate::domain::node::{ClusterView, NodeRow};
use crate::store::members::Members;

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeView {
    /// Its name.
    node: String,
    /// Which run of it.
    incarnation: String,
    /// `alive`, `draining`, `dead` or `left`.
    status: &'static str,
    /// What it does.
    roles: Vec<&'static str>,
    /// Where other nodes reach it.
    address: String,
    /// How the outside reaches it.
    public_url: String,
    /// Version of its program.
    version: String,
    /// Shards that it owns.
    shards: usize,
    /// When this run began.
    started_at: String,
    /// How long its lease still holds, in milliseconds; negative once it is over.
    lease_left_ms: i64,
}

/// A shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardView {
    /// Its number.
    shard: u16,
    /// The node that owns it.
    node: Option<String>,
}

fn members(state: &EdgeState) -> Result<&dyn Members, ApiError> {
    let alone = || ApiError::new(Code::NotFound).detail("this node is not part of a cluster");
    let members = state.engine.stores().members.as_deref();
    members.filter(|_| state.engine.is_clustered()).ok_or_else(alone)
}

fn view_of(row: &NodeRow, view: &ClusterView) -> NodeView {
    NodeView {
        node: row.at.node.to_string(),
        incarnation: row.at.incarnation.to_string(),
        status: row.status.as_str(),
        roles: row.roles.iter().map(|role| role.as_str()).collect(),
        address: row.address.clone(),
        public_url: row.public_url.clone(),
        version: row.version.clone(),
        shards: view.owners.iter().filter(|owner| owner.as_ref() == Some(&row.at)).count(),
        started_at: row.started_at.to_string(),
        lease_left_ms: row.lease_until.millis() - view.now.millis(),
    }
}

/// The nodes, by name.
#[utoipa::path(get, path = "/cluster/nodes", tag = "operations", responses((status = 200, body = Vec<NodeView>), (status = 404, description = "this node stands alone")))]
pub(super) async fn nodes(State(state): State<EdgeState>) -> Result<axum::Json<Vec<NodeView>>, ApiError> {
    let view = members(&state)?.view().await?;
    Ok(axum::Json(view.nodes.iter().map(|row| view_of(row, &view)).collect()))
}

/// The shards and who owns them.
#[utoipa::path(get, path = "/cluster/shards", tag = "operations", responses((status = 200, body = Vec<ShardView>), (status = 404, description = "this node stands alone")))]
pub(super) async fn shards(State(state): State<EdgeState>) -> Result<axum::Json<Vec<ShardView>>, ApiError> {
    let view = members(&state)?.view().await?;
    let shards = (0..)
        .zip(&view.owners)
        .map(|(shard, owner)| ShardView { shard, node: owner.as_ref().map(|owner| owner.node.to_string()) });
    Ok(axum::Json(shards.collect()))
}

/// Lets a node hand over what it has and stop.
#[utoipa::path(post, path = "/cluster/nodes/{id}/drain", tag = "operations", params(("id" = String, Path, description = "name of the node")), responses((status = 202, description = "it has begun"), (status = 404, description = "no such node lives")))]
pub(super) async fn drain(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let members = members(&state)?;
    let view = members.view().await?;
    let living = view.nodes.iter().find(|row| *row.at.node == *id && row.status.may_write());
    let gone = || ApiError::new(Code::NotFound).detail("no such node lives");
    let row = living.ok_or_else(gone)?;
    tracing::warn!(node = %row.at, "a node is sent away");
    if !members.set_draining(&row.at).await? {
        return Err(gone());
    }
    let (what, actor, subject) = ("node.drain_asked", caller.actor(), Some(row.at.node.to_string()));
    state.trail.note(Act { what, actor, subject, origin: Some(&origin), details: Map::new() }).await?;
    Ok(StatusCode::ACCEPTED)
}
