//! Where a request comes from, as the audit trail and the list of sessions name it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::super::error::ApiError;
use super::super::request::ClientIp;
use super::super::router::EdgeState;
use super::Caller;

/// Most characters of a user agent that are kept.
const LONGEST_USER_AGENT: usize = 200;

/// The id of a request, as its answer and the log name it.
#[derive(Debug, Clone)]
pub(in super::super) struct RequestName(pub Arc<str>);

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The address of the client.
    pub ip: IpAddr,
    /// What it says that it is.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: String,
}

impl FromRequestParts<EdgeState> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &EdgeState) -> Result<Self, Infallible> {
        let ip = parts.extensions.get::<ClientIp>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.0);
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.map(|text| text.chars().take(LONGEST_USER_AGENT).collect());
        let request_id =
            parts.extensions.get::<RequestName>().map(|name| name.0.to_string()).unwrap_or_default();
        Ok(Self { ip, user_agent, request_id })
    }
}

/// Who asks for something, and from where.
#[derive(Debug, Clone)]
pub struct By {
    /// Who.
    pub caller: Caller,
    /// From where.
    pub origin: Origin,
}

impl FromRequestParts<EdgeState> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Ok(origin) = Origin::from_request_parts(parts, state).await;
        Ok(Self { caller, origin })
    }
}
