//! Clients of the authorization server, as admins manage them. A secret is shown once, when it is made.
//!
//! Nobody gives a client more than it may do itself: whoever could, would get it by way of the client.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::{Act, Caller, Origin};
use super::super::error::{ApiError, Code};
use super::super::list::{List, Page};
use super::super::request::{Json, Path};
use super::super::resources::{etag, if_match};
use super::super::router::EdgeState;
use super::error::unkept;
use super::{known, redirect, secret};
use crate::domain::id::ClientId;
use crate::domain::identity::{Client, EarlierSecret, GrantType, PermissionSet, command_line};
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::records::{RecordKind, Records, StoredRecord};

/// Longest time that a secret works after another one was made.
const LONGEST_OVERLAP: Millis = Millis::from_secs(7 * 86_400);

/// A client as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientView {
    /// Its id, which it names in requests.
    #[schema(value_type = String)]
    id: ClientId,
    /// Shown to users who are asked to let it.
    name: String,
    /// Whether it has a secret.
    confidential: bool,
    /// Where a browser may be sent with a code.
    redirect_uris: Vec<String>,
    /// How it may get tokens.
    grants: BTreeSet<GrantType>,
    /// The most it may ever do, as names of permissions.
    #[schema(value_type = Vec<String>)]
    scopes: PermissionSet,
    /// Whether it may ask about tokens of others.
    may_introspect: bool,
    /// Whether it gets anything at all.
    enabled: bool,
    /// When the secret before stops to work, while it does.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_secret_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A client with the secret that nobody sees again.
#[derive(Serialize, ToSchema)]
pub(super) struct WithSecret {
    #[serde(flatten)]
    client: ClientView,
    /// Its secret; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

/// A new client.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClient {
    /// Shown to users who are asked to let it, 1 to 64 characters.
    name: String,
    /// Whether it can keep a secret; it gets one then.
    confidential: bool,
    /// How it may get tokens.
    grants: BTreeSet<GrantType>,
    /// The most it may ever do, as names of permissions; within what the caller may do.
    #[schema(value_type = Vec<String>)]
    scopes: PermissionSet,
    /// Where a browser may be sent with a code: https, a scheme named after a domain, or this machine.
    #[serde(default)]
    redirect_uris: Vec<String>,
    /// Whether it may ask about tokens of others.
    #[serde(default)]
    may_introspect: bool,
}

/// Fields of a client that change; the others stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientChange {
    /// Shown to users who are asked to let it.
    name: Option<String>,
    /// Where a browser may be sent with a code.
    redirect_uris: Option<Vec<String>>,
    /// How it may get tokens.
    grants: Option<BTreeSet<GrantType>>,
    /// The most it may ever do.
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Option<PermissionSet>,
    /// Whether it may ask about tokens of others.
    may_introspect: Option<bool>,
    /// Whether it gets anything at all.
    enabled: Option<bool>,
}

/// How another secret is made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSecret {
    /// How long the secret before still works, a week at most; not at all when absent.
    #[schema(value_type = Option<u64>)]
    #[serde(default)]
    overlap_ms: Option<Millis>,
}

fn view(client: Client, record: &StoredRecord, now: Timestamp) -> ClientView {
    let until = client.earlier_secret.map(|earlier| earlier.until).filter(|until| *until > now);
    ClientView {
        id: client.id,
        name: client.name,
        confidential: client.confidential,
        redirect_uris: client.redirect_uris,
        grants: client.grants,
        scopes: client.scopes,
        may_introspect: client.may_introspect,
        enabled: client.enabled,
        earlier_secret_until: until,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

fn write(client: &Client) -> Result<Value, ApiError> {
    serde_json::to_value(client).map_err(|_| ApiError::new(Code::Internal))
}

/// Whether a client may be kept like this, by this caller.
fn check(client: &Client, caller: &Caller) -> Result<(), ApiError> {
    if let Some((field, why)) = client.fault() {
        return Err(ApiError::new(Code::Validation).at(format!("/{field}"), why));
    }
    for (i, uri) in client.redirect_uris.iter().enumerate() {
        if let Some(why) = redirect::fault(uri) {
            return Err(ApiError::new(Code::Validation).at(format!("/redirect_uris/{i}"), why));
        }
    }
    let is_one = client.redirect_uris.iter().collect::<BTreeSet<_>>().len() == client.redirect_uris.len();
    if !is_one {
        return Err(ApiError::new(Code::Validation).at("/redirect_uris", "must not name one twice"));
    }
    check_reach(client, caller)
}

/// Nobody gets at more by way of a client.
fn check_reach(client: &Client, caller: &Caller) -> Result<(), ApiError> {
    if caller.permissions.includes(client.scopes) {
        return Ok(());
    }
    Err(ApiError::new(Code::Forbidden).detail("a client may do nothing that you may not do yourself"))
}

async fn stored(state: &EdgeState, id: ClientId) -> Result<(StoredRecord, Client), ApiError> {
    let record = state.engine.stores().records.by_id(RecordKind::Client, id.uuid()).await?;
    let record = record.ok_or(ApiError::new(Code::NotFound))?;
    let client = known::read(&record)?;
    Ok((record, client))
}

/// The same, if it is the version that a request says it knows.
async fn wanted(
    state: &EdgeState,
    id: ClientId,
    headers: &HeaderMap,
) -> Result<(StoredRecord, Client), ApiError> {
    let known = if_match(headers)?;
    let (record, client) = stored(state, id).await?;
    if known.is_some_and(|version| version != record.version) {
        return Err(ApiError::new(Code::PreconditionFailed));
    }
    Ok((record, client))
}

async fn note(
    state: &EdgeState,
    what: &'static str,
    (caller, origin): (&Caller, &Origin),
    (id, details): (ClientId, Map<String, Value>),
) -> Result<(), ApiError> {
    let subject = Some(id.to_string());
    let act = Act { what, actor: caller.actor(), subject, origin: Some(origin), details };
    state.trail.note(act).await
}

/// What the audit trail tells of a client.
fn told(client: &Client) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("name".to_owned(), client.name.clone().into());
    details.insert("enabled".to_owned(), client.enabled.into());
    details.insert("scope".to_owned(), super::scope::write(client.scopes).into());
    let grants: Vec<_> = client.grants.iter().map(|way| way.as_str()).collect();
    details.insert("grants".to_owned(), grants.join(" ").into());
    details.insert("redirect_uris".to_owned(), client.redirect_uris.join(" ").into());
    details
}

/// All clients, the oldest first.
#[utoipa::path(get, path = "/clients", tag = "oauth", responses((status = 200, body = List<ClientView>)))]
pub(super) async fn list(State(state): State<EdgeState>) -> Result<axum::Json<List<ClientView>>, ApiError> {
    let now = state.engine.clock().now();
    let mut records = state.engine.stores().records.all(RecordKind::Client).await?;
    records.sort_by_key(|record| (record.created_at, record.id));
    let mut data = Vec::with_capacity(records.len());
    for record in &records {
        data.push(view(known::read(record)?, record, now));
    }
    Ok(axum::Json(List { data, page: Page::whole() }))
}

/// One client, with its `ETag`.
#[utoipa::path(get, path = "/clients/{id}", tag = "oauth", params(("id" = String, Path)), responses(
    (status = 200, body = ClientView), (status = 404, description = "there is no such client"),
))]
pub(super) async fn show(
    State(state): State<EdgeState>,
    Path(id): Path<ClientId>,
) -> Result<Response, ApiError> {
    let (record, client) = stored(&state, id).await?;
    let body = view(client, &record, state.engine.clock().now());
    Ok((etag(record.version), axum::Json(body)).into_response())
}

/// Makes a client; a secret is shown this once.
#[utoipa::path(post, path = "/clients", tag = "oauth", request_body = NewClient, responses(
    (status = 201, body = WithSecret), (status = 403, description = "it could do more than the caller"),
))]
pub(super) async fn create(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
    Json(new): Json<NewClient>,
) -> Result<Response, ApiError> {
    let secret = new.confidential.then(secret::fresh);
    let client = Client {
        id: ClientId::fresh(),
        name: new.name,
        confidential: new.confidential,
        secret_hash: secret.as_ref().map(|secret| known::secret_hash(state.authority.vault(), secret)),
        earlier_secret: None,
        redirect_uris: new.redirect_uris,
        grants: new.grants,
        scopes: new.scopes,
        may_introspect: new.may_introspect,
        enabled: true,
    };
    check(&client, &caller)?;
    let now = state.engine.clock().now();
    let record = record(&client, now)?;
    state.engine.stores().records.insert(RecordKind::Client, record.clone()).await?;
    note(&state, "client.created", (&caller, &origin), (client.id, told(&client))).await?;
    let location = HeaderValue::from_str(&format!("/clients/{}", client.id));
    let body = WithSecret { client: view(client, &record, now), client_secret: secret };
    let mut response = (StatusCode::CREATED, etag(1), axum::Json(body)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(unkept(response))
}

fn record(client: &Client, now: Timestamp) -> Result<StoredRecord, ApiError> {
    Ok(StoredRecord {
        id: client.id.uuid(),
        key: client.id.to_string(),
        body: write(client)?,
        version: 1,
        created_at: now,
        updated_at: now,
    })
}

/// Changes fields of a client; `If-Match` must carry its `ETag`. What it may do no more, its tokens may not
/// do a second later.
#[utoipa::path(patch, path = "/clients/{id}", tag = "oauth", params(("id" = String, Path)), request_body = ClientChange, responses(
    (status = 200, body = ClientView), (status = 403, description = "it could do more than the caller"),
    (status = 412, description = "changed in the meantime"),
))]
pub(super) async fn change(
    State(state): State<EdgeState>,
    Path(id): Path<ClientId>,
    caller: Caller,
    (origin, headers): (Origin, HeaderMap),
    Json(change): Json<ClientChange>,
) -> Result<Response, ApiError> {
    let (record, before) = wanted(&state, id, &headers).await?;
    let client = changed(before.clone(), change);
    check(&client, &caller)?;
    let now = state.engine.clock().now();
    let record = StoredRecord { body: write(&client)?, updated_at: now, ..record };
    let version = state.engine.stores().records.update(RecordKind::Client, record.clone()).await?;
    if (before.enabled && !client.enabled) || !client.scopes.includes(before.scopes) {
        refuse_tokens(&state, id).await?;
    }
    note(&state, "client.changed", (&caller, &origin), (id, told(&client))).await?;
    let body = view(client, &record, now);
    Ok((etag(version), axum::Json(body)).into_response())
}

fn changed(client: Client, change: ClientChange) -> Client {
    Client {
        name: change.name.unwrap_or(client.name),
        redirect_uris: change.redirect_uris.unwrap_or(client.redirect_uris),
        grants: change.grants.unwrap_or(client.grants),
        scopes: change.scopes.unwrap_or(client.scopes),
        may_introspect: change.may_introspect.unwrap_or(client.may_introspect),
        enabled: change.enabled.unwrap_or(client.enabled),
        ..client
    }
}

/// Refuses every token that a client has until now; those that it gets later are good.
async fn refuse_tokens(state: &EdgeState, id: ClientId) -> Result<(), ApiError> {
    let next = state.engine.clock().now().millis() / 1000 + 1;
    let least = u64::try_from(next).unwrap_or_default();
    Ok(state.gate.revoke(&*state.engine.stores().grants, id.uuid(), least).await?)
}

/// Removes a client, with all its tokens; `If-Match` must carry its `ETag`.
#[utoipa::path(delete, path = "/clients/{id}", tag = "oauth", params(("id" = String, Path)), responses(
    (status = 204, description = "removed"), (status = 409, description = "it comes with the program"),
    (status = 412, description = "changed in the meantime"),
))]
pub(super) async fn remove(
    State(state): State<EdgeState>,
    Path(id): Path<ClientId>,
    caller: Caller,
    (origin, headers): (Origin, HeaderMap),
) -> Result<StatusCode, ApiError> {
    let (_, client) = wanted(&state, id, &headers).await?;
    if id == command_line().id {
        return Err(ApiError::new(Code::InUse).detail("it comes with the program; disable it instead"));
    }
    if !state.engine.stores().records.remove(RecordKind::Client, id.uuid()).await? {
        return Err(StoreError::Changed.into());
    }
    refuse_tokens(&state, id).await?;
    note(&state, "client.removed", (&caller, &origin), (id, told(&client))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes another secret; it is shown this once. `If-Match` must carry the client's `ETag`.
#[utoipa::path(post, path = "/clients/{id}/secret", tag = "oauth", params(("id" = String, Path)), request_body = NewSecret, responses(
    (status = 200, body = WithSecret), (status = 403, description = "it may do more than the caller"),
    (status = 409, description = "the client keeps no secret"), (status = 412, description = "changed in the meantime"),
    (status = 428, description = "`If-Match` is needed"),
))]
pub(super) async fn renew(
    State(state): State<EdgeState>,
    Path(id): Path<ClientId>,
    caller: Caller,
    (origin, headers): (Origin, HeaderMap),
    Json(NewSecret { overlap_ms }): Json<NewSecret>,
) -> Result<Response, ApiError> {
    let overlap = overlap_ms.unwrap_or(Millis(0));
    if overlap > LONGEST_OVERLAP {
        return Err(ApiError::new(Code::Validation).at("/overlap_ms", "must not be more than a week"));
    }
    let (record, before) = wanted(&state, id, &headers).await?;
    if !before.confidential {
        return Err(ApiError::new(Code::WrongState).detail("this client keeps no secret"));
    }
    check_reach(&before, &caller)?;
    let now = state.engine.clock().now();
    let fresh = secret::fresh();
    let earlier = before.secret_hash.filter(|_| overlap > Millis(0));
    let client = Client {
        secret_hash: Some(known::secret_hash(state.authority.vault(), &fresh)),
        earlier_secret: earlier.map(|hash| EarlierSecret { hash, until: now + overlap }),
        ..before
    };
    let record = StoredRecord { body: write(&client)?, updated_at: now, ..record };
    let version = state.engine.stores().records.update(RecordKind::Client, record.clone()).await?;
    note(&state, "client.secret_changed", (&caller, &origin), (id, Map::new())).await?;
    let body = WithSecret { client: view(client, &record, now), client_secret: Some(fresh) };
    Ok(unkept((etag(version), axum::Json(body)).into_response()))
}

/// Makes sure that `eml login` has its client.
///
/// # Errors
/// When the store does not answer.
pub async fn seed(records: &dyn Records, now: Timestamp) -> Result<(), StoreError> {
    let client = command_line();
    if records.by_id(RecordKind::Client, client.id.uuid()).await?.is_some() {
        return Ok(());
    }
    let record = record(&client, now).map_err(|error| StoreError::Refused(format!("{error:?}")))?;
    match records.insert(RecordKind::Client, record).await {
        // Another node begins at the same time.
        Ok(()) | Err(StoreError::Exists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
