//! For those who run a node: health, version, documents, and the pages about problems.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, Code, Problem};
use super::request::Json;
use super::state::EdgeState;
use crate::actors::engine::EngineHealth;

/// How a part or the whole node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Works.
    Ok,
    /// Takes no new work.
    Draining,
    /// Does not work.
    Down,
}

/// How a node is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// The worst of its parts.
    pub status: HealthStatus,
    /// The program's version.
    pub version: &'static str,
    /// Its parts.
    pub parts: HealthParts,
}

/// The parts of a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthParts {
    /// Where facts are stored.
    pub journal: JournalHealth,
    /// The actors.
    pub engine: EnginePart,
}

/// How the journal is.
#[derive(Debug, Serialize, ToSchema)]
pub struct JournalHealth {
    /// Whether it can be written.
    pub status: HealthStatus,
    /// Facts that wait to be stored.
    pub pending: u64,
}

/// How the actors are.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnginePart {
    /// Whether they take new work.
    pub status: HealthStatus,
    /// Calls that are not over.
    pub active_calls: u64,
}

/// What this program is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Least version of Rust that builds it.
    pub rust_version: &'static str,
}

/// A bare answer of a probe.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// What the probe found.
    pub status: HealthStatus,
}

impl From<EngineHealth> for Health {
    fn from(engine: EngineHealth) -> Self {
        let journal = if engine.journal_ok { HealthStatus::Ok } else { HealthStatus::Down };
        let actors = if engine.draining { HealthStatus::Draining } else { HealthStatus::Ok };
        let status = match (journal, actors) {
            (HealthStatus::Down, _) | (_, HealthStatus::Down) => HealthStatus::Down,
            (HealthStatus::Draining, _) | (_, HealthStatus::Draining) => HealthStatus::Draining,
            (HealthStatus::Ok, HealthStatus::Ok) => HealthStatus::Ok,
        };
        Self {
            status,
            version: env!("CARGO_PKG_VERSION"),
            parts: HealthParts {
                journal: JournalHealth { status: journal, pending: engine.journal_pending },
                engine: EnginePart { status: actors, active_calls: engine.active_calls },
            },
        }
    }
}

/// The routes of this module.
#[must_use]
pub fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(version))
        .route("/", axum::routing::get(front_page))
        .route("/problems/{slug}", axum::routing::get(problem_page))
}

/// Show how the node and its parts are.
#[utoipa::path(get, path = "/health", tag = "operations", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn health(State(state): State<EdgeState>) -> Response {
    let health = Health::from(state.engine.health());
    let status = match health.status {
        HealthStatus::Ok | HealthStatus::Draining => StatusCode::OK,
        HealthStatus::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health)).into_response()
}

/// Tell whether the program runs; never asks a store.
#[utoipa::path(get, path = "/health/live", tag = "operations", security(()),
    responses((status = 200, body = Probe)))]
async fn live() -> Json<Probe> {
    Json(Probe { status: HealthStatus::Ok })
}

/// Tell whether the node takes new work.
#[utoipa::path(get, path = "/health/ready", tag = "operations", security(()),
    responses((status = 200, body = Probe), (status = 503, body = Problem)))]
async fn ready(State(state): State<EdgeState>) -> Result<Json<Probe>, ApiError> {
    match Health::from(state.engine.health()).status {
        HealthStatus::Ok => Ok(Json(Probe { status: HealthStatus::Ok })),
        HealthStatus::Draining => Err(ApiError::new(Code::Draining, "the node is going down")),
        HealthStatus::Down => Err(ApiError::new(Code::StoreUnavailable, "the journal cannot be written")),
    }
}

/// Show what this program is.
#[utoipa::path(get, path = "/version", tag = "operations", security(()),
    responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        rust_version: env!("CARGO_PKG_RUST_VERSION"),
    })
}

/// A page with links, until the desktop is there.
async fn front_page() -> Html<&'static str> {
    Html(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>EML</title>\
         <h1>EML</h1><p>This node runs.</p><ul>\
         <li><a href=\"/docs\">API, to read and to try</a>\
         <li><a href=\"/openapi.json\">OpenAPI document</a>\
         <li><a href=\"/health\">Health</a>\
         <li><a href=\"/version\">Version</a></ul></html>\n",
    )
}

/// The page about one kind of problem; the `type` of problem documents leads here.
async fn problem_page(Path(slug): Path<String>) -> Result<Html<String>, ApiError> {
    let code = Code::by_slug(&slug)
        .ok_or_else(|| ApiError::new(Code::NotFound, "there is no problem of this name"))?;
    // Titles and hints are ours and hold no markup.
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\
         <h1>{code}: {}</h1><p>HTTP status {}.</p><p>{}</p></html>\n",
        code.title(),
        code.status(),
        code.hint(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_as_well_as_its_worst_part() {
        for (journal_ok, draining, want) in [
            (true, false, HealthStatus::Ok),
            (true, true, HealthStatus::Draining),
            (false, false, HealthStatus::Down),
            (false, true, HealthStatus::Down),
        ] {
            let health = EngineHealth { journal_ok, draining, active_calls: 1, journal_pending: 2 };
            assert_eq!(Health::from(health).status, want, "{journal_ok} {draining}");
        }
    }

    #[test]
    fn no_title_or_hint_holds_markup() {
        for code in Code::ALL {
            assert!(!format!("{}{}", code.title(), code.hint()).contains(['<', '>', '&']), "{code}");
        }
    }
}
