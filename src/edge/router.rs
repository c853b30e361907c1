//! All routes, the layers around them, and what handlers share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::auth::passwords::Passwords;
use super::auth::{self, Authority, Gate, OutsideProviders, Sessions, Throttle, Tickets, Trail, Vault};
use super::error::{ApiError, Code};
use super::webhooks::{self, Webhooks};
use super::{
    audit, calls, cluster, document, health, history, idempotency, oauth, request, resources, socket, users,
};
use crate::actors::Engine;
use crate::domain::identity::RoleName;
use crate::domain::time::Millis;

/// What the edge needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Name of the node.
    pub node: String,
    /// Longest body of a request.
    pub max_body_bytes: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Proxies whose word about the client's address is taken.
    pub trusted_proxies: Vec<IpAddr>,
    /// Names of the provider sections.
    pub providers: Vec<String>,
    /// How the outside reaches us.
    pub public_url: String,
    /// How long an offer rings when its queue does not say.
    pub default_ring: Millis,
    /// How long an outbound call rings.
    pub outbound_ring: Millis,
    /// After-call work when the queue does not say.
    pub default_wrap_up: Millis,
    /// Longest wait when the queue does not say.
    pub default_max_wait: Millis,
    /// Life of an access token.
    pub access_ttl: Millis,
    /// Life of a session that is not used.
    pub refresh_ttl: Millis,
    /// Life of a session, however much it is used.
    pub session_ttl: Millis,
    /// How long a second factor that was shown counts for critical acts.
    pub step_up: Millis,
    /// What authenticator apps show a code for.
    pub totp_issuer: String,
    /// Who may become a user.
    pub registration: Registration,
    /// What somebody is who registers without being asked.
    pub registration_role: RoleName,
    /// Roles whose users must have a second factor.
    pub second_factor_roles: BTreeSet<RoleName>,
    /// Life of a link with which a password is set.
    pub link_ttl: Millis,
    /// Life of an invitation.
    pub invitation_ttl: Millis,
    /// Limits of sockets.
    pub socket: SocketSettings,
}

/// Who may become a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Whom an admin makes one.
    Admin,
    /// Also who was invited.
    Invitation,
    /// Everybody.
    Open,
}

/// Limits of sockets.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// Events that may wait for a socket before it is given up.
    pub send_queue: usize,
    /// How often a socket is pinged.
    pub ping_interval: Duration,
    /// How long a socket may be silent.
    pub silent_after: Duration,
    /// Commands per second of one socket.
    pub commands_per_second: u32,
    /// Origins of pages that may connect, besides our own.
    pub allowed_origins: Vec<String>,
}

/// Where a node stands that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is not being stopped.
    No,
    /// It takes nothing new, and hands over what it has.
    Leaving,
    /// It closes what is still open.
    Closing,
}

/// What handlers share.
#[derive(Clone)]
pub struct EdgeState {
    /// The engine.
    pub engine: Engine,
    /// Makes and checks tokens.
    pub authority: Arc<Authority>,
    /// What secrets are derived from.
    pub vault: Arc<Vault>,
    /// Refuses revoked tokens.
    pub gate: Arc<Gate>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// Where acts are noted.
    pub trail: Arc<Trail>,
    /// Tickets for sockets.
    pub tickets: Arc<Tickets>,
    /// Works on passwords.
    pub passwords: Passwords,
    /// Counts sign-in tries.
    pub throttle: Arc<Throttle>,
    /// Outside providers that people sign in with.
    pub outside: Arc<OutsideProviders>,
    /// Providers and their webhooks.
    pub webhooks: Arc<Webhooks>,
    /// The settings.
    pub settings: Arc<EdgeSettings>,
    /// Held from the check of a change to the set-up until it is stored and read again, so that two
    /// changes that fit each alone cannot break each other.
    pub set_up: Arc<tokio::sync::Mutex<()>>,
    /// Becomes true when the node is being stopped.
    pub drain: watch::Receiver<Departure>,
}

fn documented() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::with_openapi(document::Api::openapi())
        .routes(routes!(health::index))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::version))
        .routes(routes!(health::problem))
        .routes(routes!(auth::login))
        .routes(routes!(auth::login_user))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::answer, auth::show, auth::remove))
        .routes(routes!(auth::enroll))
        .routes(routes!(auth::confirm))
        .routes(routes!(auth::renew))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::list))
        .routes(routes!(auth::end))
        .routes(routes!(auth::jwks))
        .routes(routes!(auth::issue))
        .merge(auth::outside_routes())
        .merge(users::routes())
        .routes(routes!(audit::list))
        .routes(routes!(calls::start_call))
        .routes(routes!(calls::check_call))
        .routes(routes!(history::active))
        .routes(routes!(history::history))
        .routes(routes!(history::show))
        .routes(routes!(history::timeline))
        .routes(routes!(calls::hold))
        .routes(routes!(calls::resume))
        .routes(routes!(calls::hangup))
        .routes(routes!(calls::dispose))
        .routes(routes!(cluster::nodes))
        .routes(routes!(cluster::shards))
        .routes(routes!(cluster::drain))
        .merge(oauth::routes())
        .merge(resources::routes())
}

/// The `OpenAPI` document of this program.
#[must_use]
pub fn openapi() -> Document {
    document::complete(documented().split_for_parts().1)
}

/// What a node serves that is not an edge: how it is.
pub fn inner_router(state: EdgeState) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/version", get(health::version))
        .with_state(state)
}

/// Everything that the public listener serves.
pub fn router(state: EdgeState) -> Router {
    let (documented, document) = documented().split_for_parts();
    let api = documented
        .route_layer(from_fn_with_state(state.clone(), idempotency::remember))
        .route_layer(from_fn_with_state(state.clone(), request::authorize));
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, state.settings.request_timeout);
    let requests = api.route("/webhooks/{provider}/{*path}", any(webhooks::receive)).layer(timeout);
    Router::new()
        .merge(requests)
        .route("/ws", get(socket::open))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document::complete(document)))
        .fallback(|| async { ApiError::new(Code::NotFound) })
        .method_not_allowed_fallback(|| async { ApiError::new(Code::MethodNotAllowed) })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(state.settings.max_body_bytes))
        .layer(from_fn_with_state(state.clone(), request::observe))
        .with_state(state)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer asks for this signature")]
fn panicked(why: Box<dyn std::any::Any + Send>) -> Response {
    let why = why.downcast_ref::<&str>().copied().map(ToOwned::to_owned);
    tracing::error!(why, "a request handler panicked");
    ApiError::new(Code::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::auth::ROUTES;
    use super::*;

    #[test]
    fn every_documented_route_says_who_may_use_it() {
        let document = serde_json::to_value(openapi()).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let row = ROUTES
                    .iter()
                    .find(|(known, route, _)| known.eq_ignore_ascii_case(method) && route == path);
                assert!(row.is_some(), "{method} {path} has no row");
            }
        }
        // Not described there: the description itself, and what is no request with an answer.
        let undescribed = ["/openapi.json", "/ws"];
        for (method, route, _) in ROUTES.iter().filter(|(_, route, _)| !undescribed.contains(route)) {
            let documented = &document["paths"][route][method.to_lowercase()];
            assert!(documented.is_object(), "{method} {route} has a row but no handler");
        }
    }
}
