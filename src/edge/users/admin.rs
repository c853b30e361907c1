//! What others see and change of a user. Nobody reaches further than its own permissions go.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::{By, EVERY};
use super::super::error::{ApiError, Code};
use super::super::request::{Json, Path};
use super::super::resources::{etag, known_version};
use super::super::router::EdgeState;
use super::view::given;
use super::{
    UserView, act, by_id, check_reach, check_roles, has_other_admin, refuse_older_tokens, within_reach, words,
};
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{DisplayName, Email, Login, RoleName};
use crate::store::grants::GrantKind;

/// What is changed of a user; what is left out stays. Roles and passwords have paths of their own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    /// What it signs in with.
    #[schema(value_type = Option<String>)]
    login: Option<Login>,
    /// Its name.
    #[schema(value_type = Option<String>)]
    name: Option<DisplayName>,
    /// Its e-mail address; `null` takes it away. Whoever sets it vouches for it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    #[expect(clippy::option_option, reason = "absent and `null` are two wishes")]
    email: Option<Option<Email>>,
    /// Whether it may sign in. Without, its sessions end at once.
    enabled: Option<bool>,
}

/// What a user is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolesChange {
    /// All its roles.
    #[schema(value_type = Vec<String>)]
    roles: BTreeSet<RoleName>,
}

/// Names of the fields that differ.
pub(super) fn changed_fields(before: &User, after: &User) -> String {
    let fields = [
        ("login", before.login != after.login),
        ("name", before.name != after.name),
        ("email", before.email != after.email),
        ("enabled", before.enabled != after.enabled),
    ];
    fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// One user, with its `ETag`.
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = String, Path)), responses(
    (status = 200, body = UserView), (status = 404, description = "there is no such user"),
))]
pub(super) async fn show(
    State(state): State<EdgeState>,
    Path(id): Path<UserId>,
) -> Result<Response, ApiError> {
    let account = by_id(&*state.engine.stores().records, id).await?.ok_or(ApiError::new(Code::NotFound))?;
    Ok((etag(account.version), axum::Json(UserView::known(&state, &account.user))).into_response())
}

/// Changes a user. `If-Match` may carry its `ETag`.
#[utoipa::path(patch, path = "/users/{id}", tag = "users", params(("id" = String, Path)), request_body = UserChange, responses(
    (status = 200, body = UserView), (status = 404, description = "there is no such user"),
    (status = 409, description = "login or address is taken, or nobody would be left who sets things up"),
    (status = 412, description = "changed in the meantime"), (status = 422, description = "a value is not acceptable"),
))]
pub(super) async fn change(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(id): Path<UserId>,
    headers: HeaderMap,
    Json(wanted): Json<UserChange>,
) -> Result<Response, ApiError> {
    let known = known_version(&headers)?;
    let records = &*state.engine.stores().records;
    let _alone = state.set_up.lock().await;
    let user = within_reach(&state, &caller, id).await?;
    if wanted.enabled == Some(false) {
        check_somebody_is_left(&state, &user).await?;
    }
    let edit = |user: &mut User| {
        check_reach(&state, &caller, &user.roles)?;
        apply(user, &wanted);
        Ok::<(), ApiError>(())
    };
    let now = state.engine.clock().now();
    let (before, after) = super::accounts::change(records, id, known, now, edit).await?;
    let (before, user) = (&before.user, &after.user);
    if wanted.enabled.is_some() {
        refuse_older_tokens(&state, user).await?;
    }
    if !user.enabled {
        state.sessions.end_all(&state, id, None).await?;
    }
    let what = match (before.enabled, user.enabled) {
        (true, false) => "user.disabled",
        (false, true) => "user.enabled",
        (true, true) | (false, false) => "user.changed",
    };
    let mut act = act(what, caller.actor(), id, &origin);
    act.details.insert("fields".to_owned(), changed_fields(before, user).into());
    state.trail.note(act).await?;
    Ok((etag(after.version), axum::Json(UserView::known(&state, user))).into_response())
}

fn apply(user: &mut User, wanted: &UserChange) {
    if let Some(login) = &wanted.login {
        login.as_str().clone_into(&mut user.login);
    }
    if let Some(name) = &wanted.name {
        name.as_str().clone_into(&mut user.name);
    }
    if let Some(email) = &wanted.email {
        user.email.clone_from(email);
        user.email_verified = email.is_some();
    }
    if let Some(enabled) = wanted.enabled.filter(|enabled| *enabled != user.enabled) {
        user.enabled = enabled;
        user.epoch += 1;
    }
}

/// Says what a user is. Tokens that say otherwise are refused from now on.
#[utoipa::path(put, path = "/users/{id}/roles", tag = "users", params(("id" = String, Path)), request_body = RolesChange, responses(
    (status = 200, body = UserView), (status = 403, description = "a role is beyond yours"),
    (status = 404, description = "there is no such user"), (status = 409, description = "nobody would be left who sets things up"),
    (status = 412, description = "changed in the meantime"), (status = 422, description = "there is no such role"),
))]
pub(super) async fn set_roles(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(id): Path<UserId>,
    headers: HeaderMap,
    Json(RolesChange { roles }): Json<RolesChange>,
) -> Result<Response, ApiError> {
    let known = known_version(&headers)?;
    check_roles(&state, &roles)?;
    check_reach(&state, &caller, &roles)?;
    let _alone = state.set_up.lock().await;
    let user = within_reach(&state, &caller, id).await?;
    if !roles.contains(&RoleName::admin()) {
        check_somebody_is_left(&state, &user).await?;
    }
    let edit = |user: &mut User| {
        check_reach(&state, &caller, &user.roles)?;
        if user.roles != roles {
            user.roles.clone_from(&roles);
            user.epoch += 1;
        }
        Ok::<(), ApiError>(())
    };
    let now = state.engine.clock().now();
    let records = &*state.engine.stores().records;
    let (before, after) = super::accounts::change(records, id, known, now, edit).await?;
    refuse_older_tokens(&state, &after.user).await?;
    let mut act = act("user.roles_changed", caller.actor(), id, &origin);
    act.details.insert("before".to_owned(), words(&before.user.roles).into());
    act.details.insert("after".to_owned(), words(&after.user.roles).into());
    state.trail.note(act).await?;
    Ok((etag(after.version), axum::Json(UserView::known(&state, &after.user))).into_response())
}

/// Removes a user, with its sessions, its second factor and its links.
#[utoipa::path(delete, path = "/users/{id}", tag = "users", params(("id" = String, Path)), responses(
    (status = 204, description = "removed"), (status = 404, description = "there is no such user"),
    (status = 409, description = "an agent signs in as it, or nobody would be left who sets things up"),
    (status = 412, description = "changed in the meantime"),
))]
pub(super) async fn remove(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(id): Path<UserId>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let known = known_version(&headers)?;
    let stores = state.engine.stores();
    let _alone = state.set_up.lock().await;
    let user = within_reach(&state, &caller, id).await?;
    if let Some(agent) = state.engine.directory().agent_of(id) {
        return Err(ApiError::new(Code::InUse).detail(format!("agent {} signs in as it", agent.id)));
    }
    check_somebody_is_left(&state, &user).await?;
    super::accounts::remove(&*stores.records, id, known).await?;
    state.gate.revoke(&*stores.grants, id.uuid(), EVERY).await?;
    state.sessions.end_all(&state, id, None).await?;
    for kind in [GrantKind::Factor, GrantKind::Link, GrantKind::KnownPlace, GrantKind::Consent] {
        stores.grants.take_all(kind, id.uuid()).await?;
    }
    state.trail.note(act("user.removed", caller.actor(), id, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody must be left who can set things up, or only the host could help.
async fn check_somebody_is_left(state: &EdgeState, user: &User) -> Result<(), ApiError> {
    if user.is_admin() && !has_other_admin(&*state.engine.stores().records, user.id).await? {
        return Err(ApiError::new(Code::InUse).detail("this is the last admin who may sign in"));
    }
    Ok(())
}
