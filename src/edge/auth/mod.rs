//! Who is asking: tokens, sessions, passwords, tickets, permissions.

mod claims;
pub mod factors;
mod gate;
mod keys;
pub mod links;
mod login;
mod origin;
mod outside;
pub mod passwords;
mod permission;
mod refresh;
mod ring;
mod secret;
mod session_routes;
mod sessions;
mod throttle;
mod tickets;
mod trail;
mod vault;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

pub use claims::{AUDIENCE, Claims, Holder, Subject, scope};
pub use gate::{EVERY, Gate, Watch, follow};
pub use keys::{Authority, LONGEST_LIFE};
pub use login::{Credentials, Proven, login, prove};
pub use origin::{By, Origin};
pub use outside::{OutsideProvider, OutsideProviders, OutsideSettings};
pub use permission::{Access, COMMANDS, ROUTES, access, command};
pub use ring::SigningKey;
pub use secret::Secret;
pub use sessions::{Behind, Listed, Session, Sessions, SignIn, Tokens, host_session};
pub use throttle::{Place, Throttle, Try};
pub use tickets::{Tickets, issue};
pub use trail::{Act, Trail};
pub use vault::{KeyError, Vault};

pub(crate) use factors::{
    __path_answer, __path_confirm, __path_enroll, __path_remove, __path_renew, __path_show, answer, confirm,
    enroll, remove, renew, show,
};
pub(crate) use login::{__path_login, __path_login_user, login_user};
pub(in crate::edge) use outside::routes as outside_routes;
pub(in crate::edge) use session_routes::{
    __path_end, __path_jwks, __path_list, __path_logout, __path_refresh, end, jwks, list, logout, refresh,
};
pub(crate) use tickets::__path_issue;

pub(super) use factors::check as check_strength;
pub(super) use origin::RequestName;

use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::directory::Directory;
use crate::domain::id::{AgentId, ClientId, SessionId, UserId};
use crate::domain::identity::{Actor, Permission, PermissionSet};
use crate::domain::time::Timestamp;

/// Whoever sent a request, and what it may do at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user; of a client that acts for itself, the client's bare id.
    pub user_id: UserId,
    /// What it may do.
    pub permissions: PermissionSet,
    /// The agent it signs in as, if it is one.
    pub agent_id: Option<AgentId>,
    /// The session that its token belongs to.
    pub session_id: Option<SessionId>,
    /// The client that its token was given to.
    pub client_id: Option<ClientId>,
    /// When it last showed who it is.
    pub signed_in_at: Timestamp,
    /// When it last showed a second factor.
    pub strong_at: Option<Timestamp>,
}

impl Caller {
    /// Whom a token is about, with what its roles may do now and its scope leaves of that.
    #[must_use]
    pub fn of(claims: &Claims, directory: &Directory) -> Self {
        let (user_id, permissions) = match claims.sub {
            Subject::User(id) => {
                let roles = directory.permissions_of(&claims.roles);
                (id, claims.scope.map_or(roles, |scope| roles.intersection(scope)))
            }
            Subject::Client(id) => (UserId::from_uuid(id.uuid()), claims.scope.unwrap_or_default()),
        };
        Self {
            user_id,
            permissions,
            agent_id: claims.agent,
            session_id: claims.sid,
            client_id: claims.client_id,
            signed_in_at: claims.signed_in_at(),
            strong_at: claims.strong_at(),
        }
    }

    /// Whether it has a permission.
    #[must_use]
    pub const fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// Whether it is a client that acts for itself.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.client_id.is_some_and(|id| id.uuid() == self.user_id.uuid())
    }

    /// The same as the audit trail names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self.client_id {
            Some(id) if self.is_client() => Actor::Client { id },
            Some(_) | None => Actor::User { id: self.user_id },
        }
    }
}

/// What a request's token says.
#[derive(Debug, Clone)]
pub struct Shown(pub Arc<Claims>);

/// What the token in a request says, if it is good and was not revoked.
///
/// # Errors
/// `NoToken`, `TokenExpired`, or `SessionOver` when it was revoked.
pub(super) fn shown(headers: &HeaderMap, state: &EdgeState) -> Result<Arc<Claims>, ApiError> {
    let mut headers = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (headers.next(), headers.next()) else {
        return Err(ApiError::new(Code::NoToken));
    };
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    let claims = state.authority.verify(token.ok_or(ApiError::new(Code::NoToken))?)?;
    if state.gate.admits(&claims) { Ok(claims) } else { Err(ApiError::new(Code::SessionOver)) }
}

impl FromRequestParts<EdgeState> for Shown {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(known) => Ok(known.clone()),
            None => shown(&parts.headers, state).map(Self),
        }
    }
}

impl FromRequestParts<EdgeState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(*caller);
        }
        let claims = shown(&parts.headers, state)?;
        Ok(Self::of(&claims, &state.engine.directory()))
    }
}
