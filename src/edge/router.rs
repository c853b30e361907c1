//! The router: every route, and the layers around them.
//!
//! From the outside in: request context (id, span, problem documents, metrics), panics, time
//! limit, size limit; around the API's own routes also permissions and idempotency keys.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::error::{ApiError, Code};
use super::state::EdgeState;
use super::{auth, calls, idempotency, operations, request, resources};

/// The router of a node without webhooks and sockets.
pub fn router(state: EdgeState) -> Router {
    router_with(state, Router::new())
}

/// The router of a node; `extra` holds routes that check their callers themselves, such as
/// webhooks and the WebSocket. Every answer of `extra` gets a request id, and its failures become
/// problem documents unless they are documents already.
pub fn router_with(state: EdgeState, extra: Router<EdgeState>) -> Router {
    let (api, document) = documented().split_for_parts();
    let api = api
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route_layer(from_fn_with_state(state.clone(), idempotency::remember))
        .route_layer(from_fn_with_state(state.authority.clone(), auth::authorize));
    let limit = state.settings.request_timeout_ms.duration();
    api.merge(extra)
        .fallback(|| async { ApiError::new(Code::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "the path does not know this method")
        })
        .layer(DefaultBodyLimit::max(state.settings.body_limit))
        .layer(from_fn(move |request: Request, next: Next| timed(limit, request, next)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), request::context))
        .with_state(state)
}

/// The OpenAPI document of the router.
#[must_use]
pub fn api_document() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<EdgeState> {
    let info = InfoBuilder::new()
        .title("EML")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("An actor-system telephony engine. Errors are RFC 9457 problem documents."))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = ComponentsBuilder::new().security_scheme("bearer", SecurityScheme::Http(bearer)).build();
    let document = OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])]))
        .build();
    OpenApiRouter::with_openapi(document)
        .merge(auth::sign_in_routes())
        .merge(auth::people_routes())
        .merge(calls::routes())
        .merge(resources::routes())
        .merge(operations::routes())
}

/// Ends requests that take too long.
async fn timed(limit: Duration, request: Request, next: Next) -> Response {
    let late = || ApiError::new(Code::Timeout, "the request took too long").into_response();
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| late())
}

/// The answer when a handler panicked. The panic itself was logged where it happened.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    ApiError::internal(&format!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests;
