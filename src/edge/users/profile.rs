//! What a user sees and changes of itself.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::auth::{By, Caller};
use super::super::error::{ApiError, Code};
use super::super::request::Json;
use super::super::resources::{etag, known_version};
use super::super::router::EdgeState;
use super::view::given;
use super::{UserView, act, by_id};
use crate::domain::directory::User;
use crate::domain::identity::{DisplayName, Email, Permission};

/// The caller's own user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Profile {
    #[serde(flatten)]
    user: UserView,
    /// What this request's token may be used for.
    permissions: Vec<&'static str>,
}

impl Profile {
    fn of(state: &EdgeState, user: &User, caller: &Caller) -> Self {
        let permissions = caller.permissions.iter().map(Permission::as_str).collect();
        Self { user: UserView::known(state, user), permissions }
    }
}

/// What a user may change of itself; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileChange {
    /// Its name.
    #[schema(value_type = Option<String>)]
    name: Option<DisplayName>,
    /// Its e-mail address; `null` takes it away. Nobody has vouched for a new one.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    #[expect(clippy::option_option, reason = "absent and `null` are two wishes")]
    email: Option<Option<Email>>,
}

/// The caller's own user.
#[utoipa::path(get, path = "/users/profile", tag = "users", responses(
    (status = 200, body = Profile), (status = 404, description = "the user was removed"),
))]
pub(super) async fn show(State(state): State<EdgeState>, caller: Caller) -> Result<Response, ApiError> {
    let account = by_id(&*state.engine.stores().records, caller.user_id).await?;
    let account = account.ok_or(ApiError::new(Code::NotFound))?;
    let profile = Profile::of(&state, &account.user, &caller);
    Ok((etag(account.version), axum::Json(profile)).into_response())
}

/// Changes the caller's own name or address. Nothing else of a user can be changed here.
#[utoipa::path(patch, path = "/users/profile", tag = "users", request_body = ProfileChange, responses(
    (status = 200, body = Profile), (status = 404, description = "the user was removed"), (status = 409, description = "the address is taken"),
    (status = 412, description = "changed in the meantime"), (status = 422, description = "a value is not acceptable"),
))]
pub(super) async fn change(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    headers: HeaderMap,
    Json(ProfileChange { name, email }): Json<ProfileChange>,
) -> Result<Response, ApiError> {
    let known = known_version(&headers)?;
    let records = &*state.engine.stores().records;
    let now = state.engine.clock().now();
    let edit = |user: &mut User| {
        if let Some(name) = &name {
            name.as_str().clone_into(&mut user.name);
        }
        if let Some(email) = &email {
            user.email_verified &= user.email == *email;
            user.email.clone_from(email);
        }
        Ok::<(), ApiError>(())
    };
    let (before, after) = super::accounts::change(records, caller.user_id, known, now, edit).await?;
    let mut act = act("user.changed", caller.actor(), caller.user_id, &origin);
    let fields = super::admin::changed_fields(&before.user, &after.user);
    act.details.insert("fields".to_owned(), fields.into());
    state.trail.note(act).await?;
    Ok((etag(after.version), axum::Json(Profile::of(&state, &after.user, &caller))).into_response())
}
