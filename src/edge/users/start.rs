//! The first admin, and the page on which links are used in a browser.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::links::{self, Purpose};
use super::super::auth::passwords::Password;
use super::super::auth::{Origin, Secret};
use super::super::error::ApiError;
use super::super::request::Json;
use super::super::router::EdgeState;
use super::register::keep_or_put_back;
use super::{Newcomer, UserView, act, all};
use crate::domain::identity::{Actor, DisplayName, Email, Login, RoleName};

/// The page; it works with what stands after `#`, which no server sees.
const PAGE: &str = include_str!("link.html");
/// What the page does; the only script that it may run.
const SCRIPT: &str = include_str!("link.js");

/// The first admin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUp {
    /// The link that `eml serve` or `eml user recover` printed.
    #[schema(value_type = String)]
    link: Secret,
    /// What the admin will sign in with.
    #[schema(value_type = String)]
    login: Login,
    /// Its password: long, and not one of the common ones.
    password: Password,
    /// Its name; the login when absent.
    #[schema(value_type = Option<String>)]
    name: Option<DisplayName>,
    /// Its e-mail address.
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
}

/// Makes an admin with a link that was printed on the host. It works once.
#[utoipa::path(post, path = "/auth/setup", tag = "auth", security(()), request_body = SetUp, responses(
    (status = 201, body = UserView), (status = 409, description = "login or address is taken"),
    (status = 410, description = "the link was used, is too old, or there are users already"),
    (status = 422, description = "the password is too weak"), (status = 429, description = "too many at a time"),
))]
pub(super) async fn set_up(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(SetUp { link, login, password, name, email }): Json<SetUp>,
) -> Result<Response, ApiError> {
    let stores = state.engine.stores();
    let now = state.engine.clock().now();
    let purpose = links::look(&*stores.grants, &link, now).await?;
    let _alone = state.set_up.lock().await;
    match purpose {
        Purpose::FirstAdmin if all(&*stores.records).await?.is_empty() => {}
        Purpose::Recovery => {}
        Purpose::FirstAdmin | Purpose::Invitation { .. } | Purpose::Password { .. } => {
            return Err(links::not_usable());
        }
    }
    let taken = links::take(&*stores.grants, &link, now).await?;
    let email = email.map(|email| (email, true));
    let newcomer = Newcomer { login, password, name, email, roles: [RoleName::admin()].into() };
    let user = keep_or_put_back(&state, taken, newcomer).await?;
    let mut act = act("user.created", Actor::Host, user.id, &origin);
    act.details.insert("roles".to_owned(), RoleName::ADMIN.into());
    state.trail.note(act).await?;
    Ok((StatusCode::CREATED, axum::Json(UserView::known(&state, &user))).into_response())
}

/// The page on which links are used in a browser.
#[utoipa::path(get, path = "/auth/link", tag = "auth", security(()), responses(
    (status = 200, content_type = "text/html", description = "the page"),
))]
pub(super) async fn page() -> Response {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SCRIPT.as_bytes());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        STANDARD.encode(sum)
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_FRAME_OPTIONS, "DENY".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin".to_owned()),
    ];
    (headers, PAGE.replace("/*script*/", SCRIPT)).into_response()
}
