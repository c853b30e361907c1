//! Who is asking: tokens, passwords, tickets, permissions.

mod keys;
mod login;
mod outside;
mod permission;
mod tickets;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use serde::{Deserialize, Serialize};

pub use keys::{Authority, KeyError, Use};
pub use login::{Throttle, hash_password, login, refresh};
pub use permission::{Access, Permission, ROUTES, access, may};
pub use tickets::{Tickets, issue};

pub(crate) use login::{__path_login, __path_login_user, __path_refresh, login_user};
pub(crate) use tickets::__path_issue;

use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::directory::Role;
use crate::domain::id::{AgentId, UserId};

/// Whoever sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// What it may do.
    pub role: Role,
    /// The agent it signs in as, if it is one.
    pub agent_id: Option<AgentId>,
}

impl FromRequestParts<EdgeState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(*caller);
        }
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|value| value.strip_prefix("Bearer ")).ok_or(ApiError::new(Code::NoToken))?;
        state.authority.caller_from_bearer(token)
    }
}
