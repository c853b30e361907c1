//! Where devices begin, and the page on which people type the code that a device shows (RFC 8628).

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Origin;
use super::super::router::EdgeState;
use super::devices::{self, Begun, INTERVAL, LIFE};
use super::error::{Fault, OAuthError, unkept};
use super::form::{Parameters, Posted};
use super::journey::{Aim, Asked, Journey};
use super::pages::{self, Sheet};
use super::{known, scope, secret};
use crate::domain::identity::GrantType;
use crate::domain::time::Millis;

/// The span in which devices of one address are counted.
const WINDOW: Millis = Millis::from_secs(60);
/// Devices that may begin at one address in that span: each takes room in the store.
const MOST: u64 = 60;

/// What a device gets that begins.
#[derive(Serialize, ToSchema)]
pub(super) struct Waiting {
    /// What the device shows us.
    device_code: String,
    /// What it shows its user.
    user_code: String,
    /// Where its user types that.
    verification_uri: String,
    /// The same with the code in it.
    verification_uri_complete: String,
    /// Seconds until it waits no more.
    expires_in: u64,
    /// Seconds that it waits between two questions.
    interval: u64,
}

/// Lets a device wait for its user.
#[utoipa::path(post, path = "/oauth/device", tag = "oauth", security(()), request_body(content = Object, content_type = "application/x-www-form-urlencoded", description = "`scope`, and the client"), responses(
    (status = 200, body = Waiting),
    (status = 400, description = "`error` and `error_description` of RFC 6749"),
    (status = 401, description = "the client is not who it says"),
    (status = 429, description = "too many devices, or wrong secrets, from this address"),
    (status = 503, description = "the store is away"),
))]
pub(super) async fn begin(
    State(state): State<EdgeState>,
    origin: Origin,
    posted: Posted,
) -> Result<Response, OAuthError> {
    let Posted { parameters, headers } = posted;
    let client = known::identify(&state, &origin, (&headers, &parameters)).await?;
    if !client.uses(GrantType::DeviceCode) {
        return Err(OAuthError::new(Fault::UnauthorizedClient, "the client may not get tokens in this way"));
    }
    let scopes = scope::read(parameters.get("scope"), client.scopes)?;
    let now = state.engine.clock().now();
    let key = format!("oauth-device:{}", origin.ip);
    if state.engine.stores().grants.count(&key, WINDOW, MOST, now).await?.count > MOST {
        return Err(OAuthError::new(Fault::TooMany, "too many devices"));
    }
    let Begun { device_code, user_code } =
        devices::begin(&state, Asked { client_id: client.id, scopes }).await?;
    let verification_uri = format!("{}/oauth/device", state.settings.public_url);
    let waiting = Waiting {
        device_code,
        verification_uri_complete: format!("{verification_uri}?user_code={user_code}"),
        user_code,
        verification_uri,
        expires_in: LIFE.0 / 1000,
        interval: INTERVAL,
    };
    Ok(unkept(axum::Json(waiting).into_response()))
}

/// Asks for the code that a device shows.
#[utoipa::path(get, path = "/oauth/device", tag = "oauth", security(()), params(
    ("user_code" = Option<String>, Query, description = "stands in the form already"),
), responses((status = 200, description = "a page to type a code")))]
pub(super) async fn page(State(state): State<EdgeState>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::read(query.unwrap_or_default().as_bytes());
    let shown = parameters.get("user_code").and_then(secret::read_user_code);
    let (journey, cookie) = Journey::begin(Aim::Device(None), state.engine.clock().now());
    let Some(sealed) = journey.seal(state.authority.vault()) else {
        return pages::broken("It cannot be begun.")
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
    };
    let sheet = Sheet { journey: &sealed, fault: None };
    pages::user_code(shown.as_deref(), sheet).cookie(cookie).into_response()
}
