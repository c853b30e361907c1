//! What people do with agents, and the figures of queues.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::{Act, Caller, Origin};
use super::super::calls;
use super::super::error::{ApiError, Code};
use super::super::request::{Json, Path};
use super::super::router::EdgeState;
use super::kinds::Agents;
use super::resource::Resource as _;
use crate::actors::QueueStats;
use crate::domain::agent::AgentCommand;
use crate::domain::id::{AgentId, QueueId};
use crate::domain::identity::Permission;

/// What an agent shall be doing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivityRequest {
    /// Name of an activity.
    activity: String,
    /// Why.
    reason: Option<Box<str>>,
}

/// Sets what an agent is doing. Agents do it for themselves, supervisors for anybody.
#[utoipa::path(put, path = "/agents/{id}/activity", tag = "routing", params(("id" = String, Path)), request_body = ActivityRequest, responses((status = 200, description = "the agent as it is now")))]
pub(super) async fn set_activity(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Json(ActivityRequest { activity, reason }): Json<ActivityRequest>,
) -> Result<axum::Json<Value>, ApiError> {
    let is_own = caller.agent_id == Some(id);
    if !is_own && !caller.may(Permission::AgentsRelease) {
        return Err(ApiError::new(Code::Forbidden));
    }
    let activity = calls::activity(&state, &activity, reason)?;
    tell(&state, id, AgentCommand::SetActivity(activity)).await
}

/// Frees an agent that hangs on a call or an offer.
#[utoipa::path(post, path = "/agents/{id}/release", tag = "routing", params(("id" = String, Path)), responses((status = 200, description = "the agent as it is now")))]
pub(super) async fn release(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
    Path(id): Path<AgentId>,
) -> Result<axum::Json<Value>, ApiError> {
    tracing::warn!(agent.id = %id, user = %caller.user_id, "agent is released by force");
    let released = tell(&state, id, AgentCommand::ForceRelease).await?;
    let (actor, subject) = (caller.actor(), Some(id.to_string()));
    let what = "agent.force_released";
    state.trail.note(Act { what, actor, subject, origin: Some(&origin), details: Map::new() }).await?;
    Ok(released)
}

async fn tell(state: &EdgeState, id: AgentId, command: AgentCommand) -> Result<axum::Json<Value>, ApiError> {
    let directory = state.engine.directory();
    let agent = directory.agents.get(&id).ok_or(ApiError::new(Code::AgentNotFound))?;
    state.engine.agent(id, command).await?;
    Ok(axum::Json(Agents::view(agent, state)))
}

/// The figures of a queue at this moment.
#[utoipa::path(get, path = "/queues/{id}/stats", tag = "routing", params(("id" = String, Path)), responses((status = 200, body = QueueStats)))]
pub(super) async fn queue_stats(
    State(state): State<EdgeState>,
    Path(id): Path<QueueId>,
) -> Result<axum::Json<QueueStats>, ApiError> {
    if !state.engine.directory().queues.contains_key(&id) {
        return Err(ApiError::new(Code::NotFound));
    }
    Ok(axum::Json(state.engine.queue_stats(id).unwrap_or_default()))
}
