//! What users do with their identities at outside providers.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::super::error::{ApiError, Code};
use super::super::super::list::{List, Page};
use super::super::super::request::{Json, Path};
use super::super::super::router::EdgeState;
use super::super::super::users;
use super::super::{Caller, Origin};
use super::account::{self, Identity};
use super::journey::HandedOver;
use super::routes::Exchange;
use crate::domain::time::Timestamp;
use crate::store::records::RecordKind;

/// An identity as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IdentityView {
    /// Its id here.
    #[schema(value_type = String)]
    id: Uuid,
    /// The provider's name.
    provider: String,
    /// The provider's issuer.
    issuer: String,
    /// What the provider calls the person.
    subject: String,
    /// Since when it leads to this user.
    #[schema(value_type = String, format = DateTime)]
    linked_at: Timestamp,
}

impl IdentityView {
    fn of((id, identity): (Uuid, Identity)) -> Self {
        let Identity { provider, issuer, subject, linked_at, .. } = identity;
        Self { id, provider, issuer, subject, linked_at }
    }
}

/// The caller's identities at outside providers.
#[utoipa::path(get, path = "/auth/identities", tag = "auth", responses((status = 200, body = List<IdentityView>)))]
pub(super) async fn identities(
    State(state): State<EdgeState>,
    caller: Caller,
) -> Result<axum::Json<List<IdentityView>>, ApiError> {
    let own = account::identities(&state, caller.user_id).await?;
    let data = own.into_iter().map(IdentityView::of).collect();
    Ok(axum::Json(List { data, page: Page::whole() }))
}

/// Links the caller with the person who just came back from an outside provider.
#[utoipa::path(post, path = "/auth/oidc/{provider}/link", tag = "auth", params(("provider" = String, Path)), request_body = Exchange, responses(
    (status = 201, body = IdentityView), (status = 409, description = "the identity is linked with another user"),
    (status = 410, description = "used, or too old"),
))]
pub(super) async fn link(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(name): Path<String>,
    origin: Origin,
    Json(Exchange { handoff, code_verifier }): Json<Exchange>,
) -> Result<(StatusCode, axum::Json<IdentityView>), ApiError> {
    if caller.client_id.is_some() {
        return Err(ApiError::new(Code::Forbidden).detail("only for users who sign in here"));
    }
    let provider = state.outside.named(&name)?;
    let shown = (handoff.expose(), code_verifier.expose());
    let person = HandedOver::take(&state, &provider.settings.name, shown).await?;
    let linked = account::link_by_user(&state, (provider, &person), caller.user_id, &origin).await?;
    Ok((StatusCode::CREATED, axum::Json(IdentityView::of(linked))))
}

/// Takes an identity of the caller away.
#[utoipa::path(delete, path = "/auth/identities/{id}", tag = "auth", params(("id" = String, Path)), responses(
    (status = 204), (status = 404), (status = 409, description = "there is no other way to sign in"),
))]
pub(super) async fn unlink(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    origin: Origin,
) -> Result<StatusCode, ApiError> {
    let records = &*state.engine.stores().records;
    let own = account::identities(&state, caller.user_id).await?;
    let (_, identity) = own.iter().find(|(known, _)| *known == id).ok_or(ApiError::new(Code::NotFound))?;
    let user = users::by_id(records, caller.user_id).await?.ok_or(ApiError::new(Code::NotFound))?.user;
    if user.password_hash.is_empty() && own.len() == 1 {
        return Err(ApiError::new(Code::InUse).detail("there is no other way to sign in as this user"));
    }
    records.remove(RecordKind::OutsideIdentity, id).await?;
    let details = [("provider", identity.provider.as_str())];
    account::note(&state, "user.identity_unlinked", user.id, &details, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}
