//! Roles: names for sets of permissions. Four come with the program; all but `admin` can be changed.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::auth::{Act, By, Caller, Origin};
use super::super::error::{ApiError, Code};
use super::super::list::{List, Page};
use super::super::request::{Json, Path};
use super::super::resources::{etag, known_version};
use super::super::router::EdgeState;
use super::all;
use crate::domain::directory::RoleRecord;
use crate::domain::identity::{Permission, PermissionSet, RoleName};
use crate::store::records::{RecordKind, StoredRecord};

/// A role as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoleView {
    /// Its name.
    #[schema(value_type = String)]
    name: RoleName,
    /// What it may do, by name.
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
    /// Whether it comes with the program.
    built_in: bool,
    /// Whether it is not as it comes with the program.
    changed: bool,
}

/// What a role may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleChange {
    /// Everything it may do, by name; `GET /roles` lists the names under `admin`.
    #[schema(value_type = Vec<String>)]
    permissions: Vec<Permission>,
}

fn is_built_in(name: &RoleName) -> bool {
    RoleName::BUILT_IN.contains(&name.as_str())
}

fn view(state: &EdgeState, name: &RoleName) -> Option<RoleView> {
    let directory = state.engine.directory();
    let stored = directory.roles.get(name);
    if stored.is_none() && !is_built_in(name) {
        return None;
    }
    let permissions = directory.permissions_of([name]);
    let built_in = is_built_in(name);
    let changed = built_in && permissions != name.built_in();
    Some(RoleView { name: name.clone(), permissions, built_in, changed })
}

/// All roles, by name.
#[utoipa::path(get, path = "/roles", tag = "users", responses((status = 200, body = List<RoleView>)))]
pub(super) async fn list(State(state): State<EdgeState>) -> axum::Json<List<RoleView>> {
    let directory = state.engine.directory();
    let built_in = RoleName::BUILT_IN.iter().filter_map(|name| name.parse().ok());
    let names: std::collections::BTreeSet<RoleName> =
        directory.roles.keys().cloned().chain(built_in).collect();
    let data = names.iter().filter_map(|name| view(&state, name)).collect();
    axum::Json(List { data, page: Page::whole() })
}

/// One role.
#[utoipa::path(get, path = "/roles/{name}", tag = "users", params(("name" = String, Path)), responses(
    (status = 200, body = RoleView), (status = 404, description = "there is no such role"),
))]
pub(super) async fn show(
    State(state): State<EdgeState>,
    Path(name): Path<RoleName>,
) -> Result<Response, ApiError> {
    let stored = state.engine.stores().records.by_key(RecordKind::Role, name.as_str()).await?;
    let shown = view(&state, &name).ok_or(ApiError::new(Code::NotFound))?;
    Ok((etag(stored.map_or(0, |record| record.version)), axum::Json(shown)).into_response())
}

/// Says what a role may do, and makes it if there is none. Who has it may do that from the next request
/// on. Nobody gives a permission that it has not itself; `admin` always may do everything.
#[utoipa::path(put, path = "/roles/{name}", tag = "users", params(("name" = String, Path)), request_body = RoleChange, responses(
    (status = 200, body = RoleView), (status = 403, description = "a permission is beyond yours"),
    (status = 409, description = "admin cannot be changed"), (status = 412, description = "changed in the meantime"),
    (status = 422, description = "there is no such permission"),
))]
pub(super) async fn set(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(name): Path<RoleName>,
    headers: HeaderMap,
    Json(RoleChange { permissions }): Json<RoleChange>,
) -> Result<Response, ApiError> {
    let known = known_version(&headers)?;
    let permissions: PermissionSet = permissions.into_iter().collect();
    let _alone = state.set_up.lock().await;
    let before = state.engine.directory().permissions_of([&name]);
    check_changeable(&caller, &name, before.union(permissions))?;
    let version = store(&state, &name, permissions, known).await?;
    state.engine.reload_directory().await?;
    let mut act = act("role.changed", &caller, &name, &origin);
    act.details.insert("before".to_owned(), serde_json::to_value(before).unwrap_or_default());
    act.details.insert("after".to_owned(), serde_json::to_value(permissions).unwrap_or_default());
    state.trail.note(act).await?;
    Ok((etag(version), axum::Json(view(&state, &name))).into_response())
}

async fn store(
    state: &EdgeState,
    name: &RoleName,
    permissions: PermissionSet,
    known: Option<u64>,
) -> Result<u64, ApiError> {
    let records = &state.engine.stores().records;
    let stored = records.by_key(RecordKind::Role, name.as_str()).await?;
    if known.is_some_and(|known| known != stored.as_ref().map_or(0, |record| record.version)) {
        return Err(ApiError::new(Code::PreconditionFailed));
    }
    let role = RoleRecord { name: name.clone(), permissions };
    let body = serde_json::to_value(&role).map_err(|_| ApiError::new(Code::Internal))?;
    let now = state.engine.clock().now();
    if let Some(record) = stored {
        return Ok(records
            .update(RecordKind::Role, StoredRecord { body, updated_at: now, ..record })
            .await?);
    }
    let key = name.as_str().to_owned();
    let record = StoredRecord { id: Uuid::now_v7(), key, body, version: 1, created_at: now, updated_at: now };
    records.insert(RecordKind::Role, record).await?;
    Ok(1)
}

/// Removes a role that nobody has; one that comes with the program becomes again what it was.
#[utoipa::path(delete, path = "/roles/{name}", tag = "users", params(("name" = String, Path)), responses(
    (status = 204, description = "removed"), (status = 404, description = "there is no such role"),
    (status = 409, description = "somebody has it"), (status = 412, description = "changed in the meantime"),
))]
pub(super) async fn remove(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Path(name): Path<RoleName>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let known = known_version(&headers)?;
    let _alone = state.set_up.lock().await;
    let records = &state.engine.stores().records;
    let stored =
        records.by_key(RecordKind::Role, name.as_str()).await?.ok_or(ApiError::new(Code::NotFound))?;
    if known.is_some_and(|known| known != stored.version) {
        return Err(ApiError::new(Code::PreconditionFailed));
    }
    let before = state.engine.directory().permissions_of([&name]);
    check_changeable(&caller, &name, before.union(name.built_in()))?;
    let is_used = all(&**records).await?.iter().any(|account| account.user.roles.contains(&name));
    if is_used && !is_built_in(&name) {
        return Err(ApiError::new(Code::InUse).detail("somebody has this role"));
    }
    records.remove(RecordKind::Role, stored.id).await?;
    state.engine.reload_directory().await?;
    state.trail.note(act("role.removed", &caller, &name, &origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a caller may give and take these permissions.
fn check_changeable(caller: &Caller, name: &RoleName, touched: PermissionSet) -> Result<(), ApiError> {
    if name.as_str() == RoleName::ADMIN {
        return Err(ApiError::new(Code::InUse).detail("admin always may do everything"));
    }
    if caller.permissions.includes(touched) {
        return Ok(());
    }
    Err(ApiError::new(Code::Forbidden).detail("a permission is beyond yours"))
}

fn act<'a>(what: &'static str, caller: &Caller, name: &RoleName, origin: &'a Origin) -> Act<'a> {
    let mut details = serde_json::Map::new();
    details.insert("role".to_owned(), name.as_str().into());
    Act { what, actor: caller.actor(), subject: None, origin: Some(origin), details }
}
