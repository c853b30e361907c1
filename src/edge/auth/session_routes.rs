//! What users do with their sessions, and the keys that others check our tokens with.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, Code};
use super::super::list::{List, Page};
use super::super::request::{Json, Path, Query};
use super::super::router::EdgeState;
use super::super::users::UserView;
use super::sessions::{Listed, Tokens};
use super::trail::Act;
use super::{Caller, Origin, Secret};
use crate::domain::id::{ClientId, SessionId, UserId};
use crate::domain::identity::{Actor, Permission};
use crate::domain::time::Timestamp;

/// How long others may keep the keys, in seconds.
const KEYS_KEPT: &str = "public, max-age=60";

/// What a refresh token is exchanged with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::edge) struct RefreshRequest {
    /// The token of the last sign-in or refresh.
    #[schema(value_type = String)]
    refresh_token: Secret,
}

/// Fresh tokens, and whose they are.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::edge) struct Refreshed {
    #[serde(flatten)]
    tokens: Tokens,
    /// Who is signed in.
    user: UserView,
}

/// A session as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::edge) struct SessionView {
    /// Its id.
    #[schema(value_type = String)]
    id: SessionId,
    /// Whether this request belongs to it.
    current: bool,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last used.
    #[schema(value_type = String, format = DateTime)]
    last_used_at: Timestamp,
    /// When it ends if it is not used.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Where it was last used from.
    #[schema(value_type = String)]
    ip: IpAddr,
    /// What it was last used with.
    user_agent: Option<String>,
    /// The client that it belongs to; absent for our own sign-in.
    #[schema(value_type = Option<String>)]
    client_id: Option<ClientId>,
    /// What its user has shown, as in RFC 8176.
    amr: Vec<String>,
}

/// Whose sessions are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::edge) struct Whose {
    /// A user; the caller when absent. For others, `users:write` is needed.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
}

/// Exchanges a refresh token for fresh tokens. Each works once: one that comes again ends its session.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", security(()), request_body = RefreshRequest, responses(
    (status = 200, body = Refreshed), (status = 401, description = "token not usable, or its session is over"),
))]
pub(in crate::edge) async fn refresh(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(RefreshRequest { refresh_token }): Json<RefreshRequest>,
) -> Result<Response, ApiError> {
    let (tokens, user) = state.sessions.refresh(&state, refresh_token.expose(), None, &origin).await?;
    let agent_id = state.engine.directory().agent_of(user.id).map(|agent| agent.id);
    let body = Refreshed { tokens, user: UserView::of(&user, agent_id) };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

/// Ends the session that this request belongs to, with all its tokens and sockets.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", responses(
    (status = 204, description = "the session is over"), (status = 409, description = "the token belongs to no session"),
))]
pub(in crate::edge) async fn logout(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
) -> Result<StatusCode, ApiError> {
    let id = caller
        .session_id
        .ok_or_else(|| ApiError::new(Code::WrongState).detail("this token belongs to no session"))?;
    state.sessions.end(&state, id, act("user.logged_out", &caller, id, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sessions, oldest first.
#[utoipa::path(get, path = "/auth/sessions", tag = "auth", params(Whose), responses((status = 200, body = List<SessionView>)))]
pub(in crate::edge) async fn list(
    State(state): State<EdgeState>,
    caller: Caller,
    Query(Whose { user_id }): Query<Whose>,
) -> Result<axum::Json<List<SessionView>>, ApiError> {
    let user_id = user_id.unwrap_or(caller.user_id);
    if user_id != caller.user_id && !caller.may(Permission::UsersWrite) {
        return Err(ApiError::new(Code::Forbidden));
    }
    let sessions = state.sessions.list(&state, user_id).await?;
    let data = sessions.into_iter().map(|session| view(session, &caller)).collect();
    Ok(axum::Json(List { data, page: Page::whole() }))
}

/// Ends a session: one's own, or with `users:write` anybody's.
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "auth", params(("id" = String, Path)), responses(
    (status = 204, description = "the session is over"), (status = 404, description = "there is no such session"),
))]
pub(in crate::edge) async fn end(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, ApiError> {
    let owner = state.sessions.owner(&state, id).await?;
    // Whoever may not end a session does not learn that there is one.
    let is_allowed = |owner: UserId| owner == caller.user_id || caller.may(Permission::UsersWrite);
    if !owner.is_some_and(is_allowed) {
        return Err(ApiError::new(Code::NotFound));
    }
    state.sessions.end(&state, id, act("user.session_revoked", &caller, id, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The public keys that verify our access tokens (RFC 7517).
#[utoipa::path(get, path = "/jwks.json", tag = "auth", security(()), responses((status = 200, body = Object, description = "a set of JSON web keys")))]
pub(in crate::edge) async fn jwks(State(state): State<EdgeState>) -> Response {
    let keys: Value = state.authority.jwks();
    ([(header::CACHE_CONTROL, KEYS_KEPT)], axum::Json(keys)).into_response()
}

fn act<'a>(what: &'static str, caller: &Caller, id: SessionId, origin: &'a Origin) -> Act<'a> {
    let actor: Actor = caller.actor();
    Act { what, actor, subject: Some(id.to_string()), origin: Some(origin), details: Map::new() }
}

fn view(listed: Listed, caller: &Caller) -> SessionView {
    let Listed { id, created_at, expires_at, session } = listed;
    SessionView {
        id,
        current: caller.session_id == Some(id),
        created_at,
        last_used_at: session.last_used,
        expires_at,
        ip: session.ip,
        user_agent: session.user_agent,
        client_id: session.client_id,
        amr: session.amr,
    }
}
