//! Tokens that were given out: taken back (RFC 7009) and asked about (RFC 7662).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, json};
use utoipa::ToSchema;

use super::super::auth::{AUDIENCE, Act, Behind, Caller, Claims, Origin, Subject, scope};
use super::super::router::EdgeState;
use super::error::{Fault, OAuthError, unkept};
use super::form::Posted;
use super::known;
use crate::domain::directory::User;
use crate::domain::id::{ClientId, SessionId, UserId};
use crate::domain::identity::{Actor, Client};
use crate::store::records::RecordKind;

/// What is known of a token that somebody shows.
enum Found {
    /// An access token that is good.
    Access(Box<Claims>),
    /// A refresh token of ours; whether it still works.
    Refresh(Box<Refresh>),
    /// Nothing that counts.
    Nothing,
}

struct Refresh {
    session: SessionId,
    user: UserId,
    client: Option<ClientId>,
    scope: String,
    issued_at: i64,
    expires_at: i64,
    works: bool,
}

impl Found {
    /// The client that it was given to.
    fn client(&self) -> Option<ClientId> {
        match self {
            Self::Access(claims) => claims.client_id,
            Self::Refresh(refresh) => refresh.client,
            Self::Nothing => None,
        }
    }

    /// The session that it belongs to.
    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Access(claims) => claims.sid,
            Self::Refresh(refresh) => Some(refresh.session),
            Self::Nothing => None,
        }
    }
}

/// Finds out what a token is; the hint of its kind is not needed, since their forms differ.
async fn find(state: &EdgeState, token: &str) -> Result<Found, OAuthError> {
    if let Ok(claims) = state.authority.verify(token) {
        let is_good = state.gate.admits(&claims);
        return Ok(if is_good { Found::Access(Box::new(Claims::clone(&claims))) } else { Found::Nothing });
    }
    let Some(behind) = state.sessions.of_token(state, token).await? else { return Ok(Found::Nothing) };
    let Behind { user_id, is_current, listed } = behind;
    Ok(Found::Refresh(Box::new(Refresh {
        session: listed.id,
        user: user_id,
        client: listed.session.client_id,
        scope: listed.session.scope.map(scope::text).unwrap_or_default(),
        issued_at: listed.session.last_used.millis() / 1000,
        expires_at: listed.expires_at.millis() / 1000,
        works: is_current,
    })))
}

/// Takes a token back: its session ends, with all tokens of it.
#[utoipa::path(post, path = "/oauth/revoke", tag = "oauth", security(()), request_body(content = Object, content_type = "application/x-www-form-urlencoded", description = "`token`, and the client"), responses(
    (status = 200, description = "it does not work, now or any more"),
    (status = 400, description = "`error` and `error_description` of RFC 6749"),
    (status = 401, description = "the client is not who it says"),
    (status = 429, description = "too many wrong secrets from this address"),
    (status = 503, description = "the store is away"),
))]
pub(super) async fn revoke(
    State(state): State<EdgeState>,
    origin: Origin,
    posted: Posted,
) -> Result<Response, OAuthError> {
    let Posted { parameters, headers } = posted;
    let client = known::identify(&state, &origin, (&headers, &parameters)).await?;
    let found = find(&state, parameters.need("token")?).await?;
    if matches!(found, Found::Nothing) {
        return Ok(unkept(StatusCode::OK.into_response()));
    }
    if found.client() != Some(client.id) {
        return Err(OAuthError::new(Fault::InvalidGrant, "the token was given to somebody else"));
    }
    if let Some(session) = found.session() {
        let act = |what| Act {
            what,
            actor: Actor::Client { id: client.id },
            subject: Some(session.to_string()),
            origin: Some(&origin),
            details: Map::new(),
        };
        let ended = state.sessions.end(&state, session, act("user.session_revoked")).await?;
        if !ended {
            // A client's own token has no session in the store.
            state.trail.note(act("client.token_revoked")).await?;
        }
    }
    Ok(unkept(StatusCode::OK.into_response()))
}

/// What a token is good for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Introspection {
    /// Whether it works at this moment; nothing else is told when it does not.
    active: bool,
    /// What it may be used for at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The client that it was given to.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    /// What its user signs in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// `Bearer`; absent for refresh tokens, which are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// When it stops to work, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// When it began to work.
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// Whom it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'static str>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

const INACTIVE: Introspection = Introspection {
    active: false,
    scope: None,
    client_id: None,
    username: None,
    token_type: None,
    exp: None,
    iat: None,
    nbf: None,
    sub: None,
    aud: None,
    iss: None,
    jti: None,
};

/// Tells a client about a token: its own, or any if it may ask for others.
#[utoipa::path(post, path = "/oauth/introspect", tag = "oauth", security(()), request_body(content = Object, content_type = "application/x-www-form-urlencoded", description = "`token`, and the client"), responses(
    (status = 200, body = Introspection),
    (status = 400, description = "`error` and `error_description` of RFC 6749"),
    (status = 401, description = "the client is not who it says"),
    (status = 429, description = "too many wrong secrets from this address"),
    (status = 503, description = "the store is away"),
))]
pub(super) async fn introspect(
    State(state): State<EdgeState>,
    origin: Origin,
    posted: Posted,
) -> Result<Response, OAuthError> {
    let Posted { parameters, headers } = posted;
    let client = known::identify(&state, &origin, (&headers, &parameters)).await?;
    if !client.confidential {
        return Err(OAuthError::new(Fault::UnauthorizedClient, "the client has no secret to ask with"));
    }
    let found = find(&state, parameters.need("token")?).await?;
    let told = if may_ask(&client, &found) { tell(&state, found).await? } else { INACTIVE };
    Ok(unkept(axum::Json(json!(told)).into_response()))
}

/// Whoever holds a token of another one learns nothing about it here.
fn may_ask(client: &Client, found: &Found) -> bool {
    client.may_introspect || found.client() == Some(client.id)
}

async fn tell(state: &EdgeState, found: Found) -> Result<Introspection, OAuthError> {
    let issuer = || Some(state.authority.issuer().to_owned());
    match found {
        Found::Access(claims) => {
            let username = match claims.sub {
                Subject::User(id) => login(state, id).await?,
                Subject::Client(_) => None,
            };
            Ok(Introspection {
                active: true,
                scope: Some(scope::text(Caller::of(&claims, &state.engine.directory()).permissions)),
                client_id: claims.client_id,
                username,
                token_type: Some("Bearer"),
                exp: Some(claims.exp),
                iat: Some(claims.iat),
                nbf: Some(claims.nbf),
                sub: Some(claims.sub.to_string()),
                aud: Some(AUDIENCE),
                iss: issuer(),
                jti: Some(claims.jti),
            })
        }
        Found::Refresh(refresh) => {
            let username = login(state, refresh.user).await?;
            if !refresh.works || username.is_none() {
                return Ok(INACTIVE);
            }
            Ok(Introspection {
                active: true,
                scope: Some(refresh.scope),
                client_id: refresh.client,
                username,
                exp: Some(refresh.expires_at),
                iat: Some(refresh.issued_at),
                sub: Some(refresh.user.to_string()),
                iss: issuer(),
                ..INACTIVE
            })
        }
        Found::Nothing => Ok(INACTIVE),
    }
}

/// What a user signs in with, if it may.
async fn login(state: &EdgeState, id: UserId) -> Result<Option<String>, OAuthError> {
    let stored = state.engine.stores().records.by_id(RecordKind::User, id.uuid()).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    Ok(user.filter(|user| user.enabled).map(|user| user.login))
}
