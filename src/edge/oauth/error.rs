//! Errors as OAuth knows them (RFC 6749, section 5.2): a word that programs understand, and a sentence.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::{ApiError, Code};
use crate::store::StoreError;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A parameter is missing, came twice, or makes no sense.
    InvalidRequest,
    /// Whoever asks is not the client it says it is.
    InvalidClient,
    /// The code, device code or refresh token is of no use.
    InvalidGrant,
    /// The client may not get tokens in this way.
    UnauthorizedClient,
    /// There is no such way.
    UnsupportedGrantType,
    /// There is no such way to answer a browser.
    UnsupportedResponseType,
    /// Requests within signed objects are not read.
    RequestNotSupported,
    /// Requests by reference are not read.
    RequestUriNotSupported,
    /// A scope is not known, or goes beyond what may be asked for.
    InvalidScope,
    /// The user, or the server, said no.
    AccessDenied,
    /// A user would have to sign in, and shall not be asked.
    LoginRequired,
    /// The user has not decided yet.
    AuthorizationPending,
    /// The device asks too often.
    SlowDown,
    /// The device waited too long.
    ExpiredToken,
    /// Too many tries.
    TooMany,
    /// The store is away, or too much is under way.
    Unavailable,
    /// A fault of ours.
    ServerError,
}

impl Fault {
    /// The word for programs.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::LoginRequired => "login_required",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::TooMany | Self::Unavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::UnsupportedResponseType
            | Self::RequestNotSupported
            | Self::RequestUriNotSupported
            | Self::InvalidScope
            | Self::AccessDenied
            | Self::LoginRequired
            | Self::AuthorizationPending
            | Self::SlowDown
            | Self::ExpiredToken => StatusCode::BAD_REQUEST,
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub(super) struct OAuthError {
    /// What went wrong.
    pub fault: Fault,
    /// In a sentence, of printable ASCII without quotes and backslashes.
    pub description: Cow<'static, str>,
}

impl OAuthError {
    /// An error with a sentence of ours; never what somebody sent.
    pub(super) fn new(fault: Fault, description: impl Into<String>) -> Self {
        Self { fault, description: Cow::Owned(description.into()) }
    }
}

/// Answers of these endpoints hold tokens or tell of them: nobody keeps them.
pub(super) fn unkept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.fault.word(), "error_description": self.description });
        let mut response = unkept((self.fault.status(), axum::Json(body)).into_response());
        let headers = response.headers_mut();
        match self.fault {
            Fault::InvalidClient => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"eml\""));
            }
            Fault::TooMany => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Fault::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Fault::InvalidRequest
            | Fault::InvalidGrant
            | Fault::UnauthorizedClient
            | Fault::UnsupportedGrantType
            | Fault::UnsupportedResponseType
            | Fault::RequestNotSupported
            | Fault::RequestUriNotSupported
            | Fault::InvalidScope
            | Fault::AccessDenied
            | Fault::LoginRequired
            | Fault::AuthorizationPending
            | Fault::SlowDown
            | Fault::ExpiredToken
            | Fault::ServerError => {}
        }
        response
    }
}

impl From<ApiError> for OAuthError {
    fn from(error: ApiError) -> Self {
        let status = error.code().status();
        let (fault, why) = if matches!(error.code(), Code::BodyTooLarge | Code::MalformedBody) {
            (Fault::InvalidRequest, "the body cannot be read")
        } else if error.code() == Code::TooManyTries {
            (Fault::TooMany, "too many tries")
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            (Fault::Unavailable, "try again")
        } else if status.is_client_error() {
            (Fault::InvalidGrant, "not usable any more")
        } else {
            (Fault::ServerError, "a fault of ours")
        };
        Self { fault, description: Cow::Borrowed(why) }
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_one_that_nobody_keeps() {
        for fault in [Fault::InvalidClient, Fault::InvalidGrant, Fault::TooMany, Fault::Unavailable] {
            let response = OAuthError::new(fault, "why").into_response();
            assert_eq!(response.headers()["cache-control"], "no-store", "{fault:?}");
        }
        let response = OAuthError::new(Fault::InvalidClient, "why").into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key("www-authenticate"));
    }
}
