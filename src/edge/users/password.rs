//! How passwords change: by their user, or with a link that somebody who may make users hands out.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::links::{self, MadeLink, Purpose};
use super::super::auth::passwords::{Password, Turn};
use super::super::auth::{By, Origin, Place, Secret};
use super::super::error::{ApiError, Code};
use super::super::request::{Json, Path};
use super::super::router::EdgeState;
use super::{act, by_id, context_of, refuse_older_tokens, within_reach};
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::Actor;

/// A new password of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    /// The one that is to be replaced.
    current_password: Password,
    /// The new one: long, and not one of the common ones.
    password: Password,
}

/// A password that is set with a link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordByLink {
    /// The link.
    #[schema(value_type = String)]
    link: Secret,
    /// The new password: long, and not one of the common ones.
    password: Password,
}

/// Changes the caller's own password. All its other sessions end; tokens of before are refused, so that
/// the session goes on with `POST /auth/refresh`.
#[utoipa::path(put, path = "/users/profile/password", tag = "users", request_body = PasswordChange, responses(
    (status = 204, description = "changed"), (status = 404, description = "the user was removed"),
    (status = 403, description = "a client may not do this for its user"),
    (status = 422, description = "the current password is another one, or the new one too weak"),
    (status = 429, description = "too many tries"),
))]
pub(super) async fn change(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Json(PasswordChange { current_password, password }): Json<PasswordChange>,
) -> Result<StatusCode, ApiError> {
    if caller.client_id.is_some() {
        return Err(ApiError::new(Code::Forbidden).detail("only its user changes a password"));
    }
    let turn = state.passwords.turn()?;
    let account = by_id(&*state.engine.stores().records, caller.user_id).await?;
    let user = account.ok_or(ApiError::new(Code::NotFound))?.user;
    prove(&state, &turn, &user, &origin, current_password.clone()).await?;
    if current_password == password {
        return Err(ApiError::new(Code::WeakPassword).at("/password", "is the one that it is to replace"));
    }
    let changed = set(&state, &turn, &user, password).await?;
    state.sessions.end_all(&state, changed.id, caller.session_id).await?;
    state.trail.note(act("user.password_changed", caller.actor(), changed.id, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets through who knows the current password; tries count as those to sign in do.
async fn prove(
    state: &EdgeState,
    turn: &Turn,
    user: &User,
    origin: &Origin,
    current: Password,
) -> Result<(), ApiError> {
    let now = state.engine.clock().now();
    let account = state.throttle.account(&user.login);
    let attempt = state.throttle.admit(&account, Place { ip: origin.ip, device: None }, now).await?;
    let verdict = state.passwords.verify_in(turn, current, Some(&user.password_hash)).await?;
    if verdict.holds() {
        state.throttle.succeeded(attempt, user.id, false, now).await?;
        return Ok(());
    }
    let actor = Actor::User { id: user.id };
    state.trail.note(act("user.password_refused", actor, user.id, origin)).await?;
    Err(ApiError::new(Code::Validation).at("/current_password", "is not the current password"))
}

/// Gives a user another password, if it did not change otherwise in the meantime.
async fn set(state: &EdgeState, turn: &Turn, user: &User, password: Password) -> Result<User, ApiError> {
    state.passwords.check_in(turn, &password, &context_of(state, user)).await?;
    let hash = state.passwords.hash_in(turn, password).await?;
    let edit = |stored: &mut User| {
        if stored.epoch != user.epoch {
            return Err(ApiError::new(Code::PreconditionFailed));
        }
        stored.password_hash.clone_from(&hash);
        stored.epoch += 1;
        Ok(())
    };
    let now = state.engine.clock().now();
    let records = &*state.engine.stores().records;
    let (_, after) = super::accounts::change(records, user.id, None, now, edit).await?;
    refuse_older_tokens(state, &after.user).await?;
    Ok(after.user)
}

/// Makes a link with which a user sets another password. It works once, and not after the user changed
/// otherwise.
#[utoipa::path(post, path = "/users/{id}/password-link", tag = "users", params(("id" = String, Path)), responses(
    (status = 201, body = MadeLink), (status = 404, description = "there is no such user"),
    (status = 409, description = "the user is disabled"),
))]
pub(super) async fn make_link(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(id): Path<UserId>,
) -> Result<Response, ApiError> {
    let stores = state.engine.stores();
    let user = within_reach(&state, &caller, id).await?;
    if !user.enabled {
        return Err(ApiError::new(Code::WrongState).detail("the user is disabled"));
    }
    let purpose = Purpose::Password { user_id: id, epoch: user.epoch };
    let now = state.engine.clock().now();
    let settings = &state.settings;
    let made = links::make(&*stores.grants, &purpose, &settings.public_url, settings.link_ttl, now).await?;
    state.trail.note(act("user.password_link_made", caller.actor(), id, &origin)).await?;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(made)).into_response())
}

/// Sets a password with a link. All sessions of the user end.
#[utoipa::path(post, path = "/auth/password", tag = "auth", security(()), request_body = PasswordByLink, responses(
    (status = 204, description = "set"), (status = 410, description = "the link was used or is too old"),
    (status = 422, description = "the password is too weak"), (status = 429, description = "too many at a time"),
))]
pub(super) async fn by_link(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(PasswordByLink { link, password }): Json<PasswordByLink>,
) -> Result<StatusCode, ApiError> {
    let stores = state.engine.stores();
    let now = state.engine.clock().now();
    let Purpose::Password { user_id, epoch } = links::look(&*stores.grants, &link, now).await? else {
        return Err(links::not_usable());
    };
    let turn = state.passwords.turn()?;
    let account = by_id(&*stores.records, user_id).await?.ok_or_else(links::not_usable)?;
    let user = Some(account.user).filter(|user| user.enabled && user.epoch == epoch);
    let user = user.ok_or_else(links::not_usable)?;
    // Judged before the link is used up: who chose badly tries again.
    state.passwords.check_in(&turn, &password, &context_of(&state, &user)).await?;
    links::take(&*stores.grants, &link, now).await?;
    let changed = set(&state, &turn, &user, password).await?;
    state.sessions.end_all(&state, user_id, None).await?;
    state.throttle.forget_places(user_id).await?;
    let actor = Actor::User { id: changed.id };
    state.trail.note(act("user.password_reset", actor, changed.id, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}
