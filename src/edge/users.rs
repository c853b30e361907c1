//! Users as the API shows them. The rest of identity has its own place in the plan.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, hash_password};
use super::error::{ApiError, Code};
use super::list::{List, Page};
use super::request::Json;
use super::router::EdgeState;
use crate::domain::directory::User;
use crate::domain::id::{AgentId, UserId};
use crate::domain::identity::RoleName;
use crate::store::records::{RecordKind, StoredRecord};

/// Shortest password.
const SHORTEST_PASSWORD: usize = 8;

/// A user as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserView {
    /// Its id.
    #[schema(value_type = String)]
    id: UserId,
    /// What it signs in with.
    login: String,
    /// Its name.
    name: String,
    /// What it is.
    #[schema(value_type = Vec<String>)]
    roles: BTreeSet<RoleName>,
    /// Whether it may sign in.
    enabled: bool,
    /// The agent it signs in as.
    #[schema(value_type = Option<String>)]
    agent_id: Option<AgentId>,
}

impl UserView {
    pub(super) fn of(user: &User, agent_id: Option<AgentId>) -> Self {
        let User { id, login, name, roles, enabled, .. } = user.clone();
        Self { id, login, name, roles, enabled, agent_id }
    }
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// What it signs in with; unique, in any case.
    login: String,
    /// Its password, 8 characters to 72 bytes.
    password: String,
    /// Its name; the login when absent.
    name: Option<String>,
    /// What it is.
    role: RoleName,
}

/// Stores a new user.
///
/// # Errors
/// When the login is taken or the password not usable.
pub(super) async fn create(
    state: &EdgeState,
    (login, password): (&str, String),
    name: Option<String>,
    roles: BTreeSet<RoleName>,
) -> Result<User, ApiError> {
    let login = login.trim().to_lowercase();
    if login.is_empty() || login.len() > 128 || login.chars().any(char::is_whitespace) {
        return Err(
            ApiError::new(Code::Validation).at("/login", "must be 1 to 128 characters without blanks")
        );
    }
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(ApiError::new(Code::Validation).at("/password", "must have at least 8 characters"));
    }
    let password_hash = hash_password(password, state.settings.bcrypt_cost).await?;
    let name = name.unwrap_or_else(|| login.clone());
    let user = User {
        id: UserId::fresh(),
        login: login.clone(),
        name,
        roles,
        epoch: 0,
        password_hash,
        enabled: true,
    };
    let now = state.engine.clock().now();
    let body = serde_json::to_value(&user).map_err(|_| ApiError::new(Code::Internal))?;
    let record =
        StoredRecord { id: user.id.uuid(), key: login, body, version: 1, created_at: now, updated_at: now };
    state.engine.stores().records.insert(RecordKind::User, record).await?;
    Ok(user)
}

/// Makes a user.
#[utoipa::path(post, path = "/users/register", tag = "users", request_body = NewUser, responses(
    (status = 201, body = UserView), (status = 409, description = "login is taken"),
))]
pub(super) async fn register(
    State(state): State<EdgeState>,
    Json(NewUser { login, password, name, role }): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<UserView>), ApiError> {
    let user = create(&state, (&login, password), name, [role].into()).await?;
    Ok((StatusCode::CREATED, axum::Json(UserView::of(&user, None))))
}

/// The caller's own user.
#[utoipa::path(get, path = "/users/profile", tag = "users", responses((status = 200, body = UserView)))]
pub(super) async fn profile(
    State(state): State<EdgeState>,
    caller: Caller,
) -> Result<axum::Json<UserView>, ApiError> {
    let stored = state.engine.stores().records.by_id(RecordKind::User, caller.user_id.uuid()).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    let user = user.ok_or(ApiError::new(Code::NotFound))?;
    Ok(axum::Json(UserView::of(&user, caller.agent_id)))
}

/// Every user, by login.
#[utoipa::path(get, path = "/users/list", tag = "users", responses((status = 200, body = List<UserView>)))]
pub(super) async fn list(State(state): State<EdgeState>) -> Result<axum::Json<List<UserView>>, ApiError> {
    let stored = state.engine.stores().records.all(RecordKind::User).await?;
    let directory = state.engine.directory();
    let users = stored.into_iter().filter_map(|record| serde_json::from_value::<User>(record.body).ok());
    let data =
        users.map(|user| UserView::of(&user, directory.agent_of(user.id).map(|agent| agent.id))).collect();
    Ok(axum::Json(List { data, page: Page::whole() }))
}
