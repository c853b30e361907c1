//! Everything that is set up: queues, agents, skills, numbers, activities, dispositions.

mod agents;
mod kinds;
mod new;
mod resource;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::By;
use super::error::ApiError;
use super::request::{Json, Path};
use super::router::EdgeState;
use crate::domain::id::{ActivityId, AgentId, DispositionId, NumberId, QueueId, SkillId};
pub(super) use resource::{etag, if_match, known_version};

/// The five handlers of one kind, each documented under its own path.
macro_rules! resource {
    ($module:ident, $kind:ident, $id:ident, $new:ident, $collection:literal, $item:literal, $tag:literal) => {
        mod $module {
            use super::*;

            /// All of them.
            #[utoipa::path(get, path = $collection, tag = $tag, responses((status = 200, description = "a page")))]
            pub(super) async fn list(State(state): State<EdgeState>) -> Result<Response, ApiError> {
                resource::list::<kinds::$kind>(&state).await
            }

            /// Makes one.
            #[utoipa::path(post, path = $collection, tag = $tag, request_body = new::$new, responses((status = 201, description = "made"), (status = 409, description = "the name is taken")))]
            pub(super) async fn create(
                State(state): State<EdgeState>,
                by: By,
                Json(request): Json<new::$new>,
            ) -> Result<Response, ApiError> {
                let document = request.build(&state, &by).await?;
                resource::create::<kinds::$kind>(&state, &by, &document).await
            }

            /// One of them, with its `ETag`.
            #[utoipa::path(get, path = $item, tag = $tag, params(("id" = String, Path)), responses((status = 200, description = "it")))]
            pub(super) async fn show(
                State(state): State<EdgeState>,
                Path(id): Path<$id>,
            ) -> Result<Response, ApiError> {
                resource::show::<kinds::$kind>(&state, id.uuid()).await
            }

            /// Changes fields of one; `If-Match` must carry its `ETag`.
            #[utoipa::path(patch, path = $item, tag = $tag, params(("id" = String, Path)), request_body = Value, responses((status = 200, description = "as it is now"), (status = 412, description = "changed in the meantime")))]
            pub(super) async fn change(
                State(state): State<EdgeState>,
                by: By,
                Path(id): Path<$id>,
                headers: HeaderMap,
                Json(patch): Json<Value>,
            ) -> Result<Response, ApiError> {
                resource::change::<kinds::$kind>(&state, &by, id.uuid(), &headers, patch).await
            }

            /// Removes one; `If-Match` must carry its `ETag`.
            #[utoipa::path(delete, path = $item, tag = $tag, params(("id" = String, Path)), responses((status = 204, description = "removed"), (status = 409, description = "still in use")))]
            pub(super) async fn remove(
                State(state): State<EdgeState>,
                by: By,
                Path(id): Path<$id>,
                headers: HeaderMap,
            ) -> Result<StatusCode, ApiError> {
                resource::remove::<kinds::$kind>(&state, &by, id.uuid(), &headers).await
            }

            pub(super) fn routes() -> OpenApiRouter<EdgeState> {
                OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
            }
        }
    };
}

resource!(queues, Queues, QueueId, NewQueue, "/queues", "/queues/{id}", "routing");
resource!(agent_records, Agents, AgentId, NewAgent, "/agents", "/agents/{id}", "routing");
resource!(skills, Skills, SkillId, NewSkill, "/skills", "/skills/{id}", "routing");
resource!(numbers, Numbers, NumberId, NewNumber, "/numbers", "/numbers/{id}", "routing");
resource!(activities, Activities, ActivityId, NewActivity, "/activities", "/activities/{id}", "routing");
resource!(
    dispositions,
    Dispositions,
    DispositionId,
    NewDisposition,
    "/dispositions",
    "/dispositions/{id}",
    "routing"
);

/// All their routes.
pub(super) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .merge(queues::routes())
        .merge(agent_records::routes())
        .merge(skills::routes())
        .merge(numbers::routes())
        .merge(activities::routes())
        .merge(dispositions::routes())
        .routes(routes!(agents::set_activity))
        .routes(routes!(agents::release))
        .routes(routes!(agents::queue_stats))
}
