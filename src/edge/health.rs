//! How the node is, and what it is.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, Code};
use super::request::Path;
use super::router::EdgeState;
use crate::domain::catalogue;

/// How the node is, part by part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `degraded` or `draining`.
    status: &'static str,
    /// Name of the node.
    node: String,
    /// Whether facts can be stored.
    journal: &'static str,
    /// Appends that wait for their commit.
    journal_pending: u64,
    /// Calls that are not over.
    active_calls: u64,
    /// Whether the node lives for the others of its cluster: `ok` or `suspended`; absent when it
    /// stands alone.
    cluster: Option<&'static str>,
    /// Configured providers.
    providers: Vec<String>,
}

async fn look(state: &EdgeState) -> Health {
    let health = state.engine.health().await;
    let is_well = health.journal_ok && health.lease_held != Some(false);
    let status = match (is_well, health.draining) {
        (_, true) => "draining",
        (false, false) => "degraded",
        (true, false) => "ok",
    };
    Health {
        status,
        node: state.settings.node.clone(),
        journal: if health.journal_ok { "ok" } else { "unavailable" },
        journal_pending: health.journal_pending,
        active_calls: health.active_calls,
        cluster: health.lease_held.map(|is_held| if is_held { "ok" } else { "suspended" }),
        providers: state.settings.providers.clone(),
    }
}

/// How the node is, part by part.
#[utoipa::path(get, path = "/health", tag = "operations", security(()), responses((status = 200, body = Health)))]
pub(super) async fn health(State(state): State<EdgeState>) -> axum::Json<Health> {
    axum::Json(look(&state).await)
}

/// Whether the program runs; never asks the stores.
#[utoipa::path(get, path = "/health/live", tag = "operations", security(()), responses((status = 200, description = "it runs")))]
pub(super) async fn live() -> &'static str {
    "ok"
}

/// Whether the node can take work.
#[utoipa::path(get, path = "/health/ready", tag = "operations", security(()), responses(
    (status = 200, body = Health), (status = 503, description = "store not reachable, or being stopped"),
))]
pub(super) async fn ready(State(state): State<EdgeState>) -> Response {
    let health = look(&state).await;
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(health)).into_response()
}

/// What this program is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// Its version.
    version: &'static str,
    /// The commit it was built from.
    commit: &'static str,
}

/// What this program is.
#[utoipa::path(get, path = "/version", tag = "operations", security(()), responses((status = 200, body = Version)))]
pub(super) async fn version() -> axum::Json<Version> {
    axum::Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("EML_COMMIT").unwrap_or("unknown"),
    })
}

/// What an error code means and what to do about it.
#[utoipa::path(get, path = "/problems/{slug}", tag = "operations", security(()), params(("slug" = String, Path)), responses((status = 200, description = "a page")))]
pub(super) async fn problem(Path(slug): Path<String>) -> Result<Html<String>, ApiError> {
    let entry = catalogue::find_slug(&slug).ok_or(ApiError::new(Code::NotFound))?;
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code} {title}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style>\
         <h1>{code}: {title}</h1><p>{what}</p><h2>What to do</h2><p>{fix}</p>",
        code = entry.code,
        title = entry.title,
        what = entry.what,
        fix = entry.fix,
    )))
}

/// Where to go from here.
#[utoipa::path(get, path = "/", tag = "operations", security(()), responses((status = 200, description = "a page")))]
pub(super) async fn index() -> Html<&'static str> {
    Html(include_str!("index.html"))
}
