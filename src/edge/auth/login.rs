//! Signing in with login and password.
//!
//! Whether a login is known, enabled, and what its password is, makes no difference but in the answer:
//! the same counters are counted, the same look-ups made, one bcrypt of the same cost is run, and one act
//! is noted.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::ToSchema;

use super::super::error::{ApiError, Code};
use super::super::request::Json;
use super::super::router::EdgeState;
use super::super::users::{self, AccountError, UserView};
use super::factors::{self, FirstFactor, Purpose};
use super::passwords::{Password, Turn, Verdict};
use super::sessions::{SignIn, Tokens};
use super::throttle::Place;
use super::trail::Act;
use super::{Origin, Secret};
use crate::domain::directory::User;
use crate::domain::identity::{Actor, Login};

/// What somebody signs in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The login, in any case.
    pub login: String,
    /// The password.
    pub password: Password,
    /// A code of the second factor, where one is known to be due.
    #[schema(value_type = Option<String>)]
    pub code: Option<Secret>,
    /// What an earlier sign-in from this device answered with: it keeps others' tries away from this
    /// device's.
    #[schema(value_type = Option<String>)]
    pub device_token: Option<Secret>,
    /// Whether to answer with a `device_token`.
    #[serde(default)]
    pub remember_device: bool,
}

/// What a sign-in leads to.
#[derive(Serialize, ToSchema)]
pub(in crate::edge) struct SignedIn {
    #[serde(flatten)]
    tokens: Tokens,
    /// For the next sign-in from this device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
    /// Who signed in.
    user: UserView,
}

/// Somebody whose password was right.
#[derive(Debug)]
pub struct Proven {
    /// Who.
    pub user: User,
    /// For the next sign-in from this device, if that was asked for.
    pub device_token: Option<Secret>,
}

/// Signs in.
///
/// # Errors
/// When login or password is wrong, or there were too many tries.
#[utoipa::path(post, path = "/auth/login", tag = "auth", security(()), request_body = Credentials, responses(
    (status = 200, body = SignedIn), (status = 401, description = "login or password is wrong"),
    (status = 429, description = "too many tries, or too many at a time"),
))]
pub async fn login(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(credentials): Json<Credentials>,
) -> Result<Response, ApiError> {
    sign_in(&state, &origin, credentials).await
}

/// Signs in; the same as `/auth/login`.
#[utoipa::path(post, path = "/users/login", tag = "users", security(()), request_body = Credentials, responses(
    (status = 200, body = SignedIn), (status = 401, description = "login or password is wrong"),
    (status = 429, description = "too many tries, or too many at a time"),
))]
pub(crate) async fn login_user(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(credentials): Json<Credentials>,
) -> Result<Response, ApiError> {
    sign_in(&state, &origin, credentials).await
}

async fn sign_in(state: &EdgeState, origin: &Origin, credentials: Credentials) -> Result<Response, ApiError> {
    let code = credentials.code.clone();
    let Proven { user, device_token } = prove(state, origin, credentials).await?;
    let device_token = device_token.map(|token| token.expose().to_owned());
    let purpose = Purpose::sign_in(FirstFactor::Password);
    let shown = factors::complete(state, &user, purpose, code.as_ref().map(Secret::expose), origin).await;
    let amr = shown.map_err(|error| match &device_token {
        // The device has shown the password, whatever comes of the second factor.
        Some(token) => error.with("device_token", token.as_str()),
        None => error,
    })?;
    let sign_in = SignIn { user: &user, amr, client: None, origin };
    let tokens = state.sessions.begin(state, sign_in).await?;
    let agent_id = state.engine.directory().agent_of(user.id).map(|agent| agent.id);
    let body = SignedIn { tokens, device_token, user: UserView::of(&user, agent_id) };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

/// Compares a password with the one of its user. A failure is noted; a success is not, since more may be
/// asked before somebody is let in.
///
/// # Errors
/// `BadCredentials` whatever is wrong, `TooManyTries` when account, address or line is full.
pub async fn prove(state: &EdgeState, origin: &Origin, credentials: Credentials) -> Result<Proven, ApiError> {
    let Credentials { login, password, code: _, device_token, remember_device } = credentials;
    let turn = state.passwords.turn()?;
    let now = state.engine.clock().now();
    let place = Place { ip: origin.ip, device: device_token.as_ref() };
    let attempt = state.throttle.admit(&state.throttle.account(&login), place, now).await?;
    let user = find(state, &login).await?;
    let subject = user.as_ref().map(|user| user.id.to_string());
    let kept = user.as_ref().map(|user| user.password_hash.as_str());
    let verdict = state.passwords.verify_in(&turn, password.clone(), kept).await?;
    let Some(mut user) = user.filter(|user| verdict.holds() && user.enabled) else {
        return Err(refused(state, origin, subject).await?);
    };
    if verdict == Verdict::HoldsOutdated {
        user.password_hash = keep_anew(state, &turn, &user, password).await?;
    }
    let device_token = state.throttle.succeeded(attempt, user.id, remember_device, now).await?;
    Ok(Proven { user, device_token })
}

async fn find(state: &EdgeState, login: &str) -> Result<Option<User>, ApiError> {
    // What can be nobody's login is looked up all the same, for the time it takes.
    let key = login.parse::<Login>().map_or_else(|_| "no login".to_owned(), Login::into_string);
    let account = users::by_login(&*state.engine.stores().records, &key).await?;
    Ok(account.map(|account| account.user))
}

/// Notes a failure. What was typed is not noted: it may have been a password.
async fn refused(state: &EdgeState, origin: &Origin, subject: Option<String>) -> Result<ApiError, ApiError> {
    tracing::warn!(ip = %origin.ip, "sign-in refused");
    let details = Map::new();
    let act =
        Act { what: "user.login_failed", actor: Actor::Unknown, subject, origin: Some(origin), details };
    state.trail.note(act).await?;
    Ok(ApiError::new(Code::BadCredentials))
}

/// Keeps a password as passwords are kept now. Answers with its hash.
async fn keep_anew(
    state: &EdgeState,
    turn: &Turn,
    user: &User,
    password: Password,
) -> Result<String, ApiError> {
    let hash = state.passwords.hash_in(turn, password).await?;
    let now = state.engine.clock().now();
    let edit = |stored: &mut User| {
        // Another password was set in the meantime: that one stays.
        if stored.password_hash == user.password_hash {
            stored.password_hash.clone_from(&hash);
        }
        Ok::<(), AccountError>(())
    };
    let records = &*state.engine.stores().records;
    match users::change(records, user.id, None, now, edit).await {
        Ok((_, after)) => Ok(after.user.password_hash),
        Err(AccountError::Changed | AccountError::Unknown) => Ok(user.password_hash.clone()),
        Err(error) => Err(error.into()),
    }
}
