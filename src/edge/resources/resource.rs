//! One implementation of create, read, change and remove for everything that is set up.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::auth::{Act, By};
use super::super::error::{ApiError, Code};
use super::super::list::{List, Page};
use super::super::router::EdgeState;
use crate::domain::directory::Directory;
use crate::store::StoreError;
use crate::store::records::{RecordKind, StoredRecord};

/// What is done to a kind of thing, as the audit trail names it.
pub(super) struct Acts {
    pub(super) created: &'static str,
    pub(super) changed: &'static str,
    pub(super) removed: &'static str,
}

/// The acts of a kind by its noun.
macro_rules! acts {
    ($noun:literal) => {
        Acts {
            created: concat!($noun, ".created"),
            changed: concat!($noun, ".changed"),
            removed: concat!($noun, ".removed"),
        }
    };
}
pub(super) use acts;

impl By {
    /// Notes what was done to a thing, with what was so before and is so after it.
    async fn note(
        &self,
        state: &EdgeState,
        what: &'static str,
        id: String,
        (before, after): (Value, Value),
    ) -> Result<(), ApiError> {
        let Self { caller, origin } = self;
        let known = [("before", before), ("after", after)].into_iter().filter(|(_, value)| !value.is_null());
        let details: Map<_, _> = known.map(|(name, value)| (name.to_owned(), value)).collect();
        let (actor, subject) = (caller.actor(), Some(id));
        state.trail.note(Act { what, actor, subject, origin: Some(origin), details }).await
    }
}

/// The fields in which two documents differ, as they are in each.
fn differences(before: &Value, after: &Value) -> (Value, Value) {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before.clone(), after.clone());
    };
    let only = |of: &Map<String, Value>, than: &Map<String, Value>| {
        let differing = of.iter().filter(|(name, value)| than.get(*name) != Some(value));
        Value::Object(differing.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    (only(before, after), only(after, before))
}

/// A kind of thing that is set up.
pub(super) trait Resource {
    /// Where it is kept.
    const KIND: RecordKind;
    /// Its path, without slash.
    const PATH: &'static str;
    /// How the audit trail names what is done to it.
    const ACTS: Acts;
    /// What is kept.
    type Document: Serialize + DeserializeOwned;

    /// Its bare id.
    fn id(document: &Self::Document) -> Uuid;

    /// Its id as shown.
    fn shown_id(document: &Self::Document) -> String;

    /// What is unique about it.
    fn key(document: &Self::Document) -> String;

    /// Whether it may be kept like this.
    fn check(document: &Self::Document, directory: &Directory) -> Result<(), ApiError>;

    /// What refers to it, if anything does.
    fn used_by(document: &Self::Document, directory: &Directory) -> Option<String>;

    /// As it is shown.
    fn view(document: &Self::Document, state: &EdgeState) -> Value {
        let _ = state;
        serde_json::to_value(document).unwrap_or_default()
    }
}

fn read<R: Resource>(record: StoredRecord) -> Result<R::Document, ApiError> {
    serde_json::from_value(record.body).map_err(|error| {
        tracing::error!(%error, id = %record.id, "record cannot be read");
        ApiError::new(Code::Internal)
    })
}

fn write(document: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(document).map_err(|_| ApiError::new(Code::Internal))
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"v{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

pub(super) async fn list<R: Resource>(state: &EdgeState) -> Result<Response, ApiError> {
    let records = state.engine.stores().records.all(R::KIND).await?;
    let mut data = Vec::with_capacity(records.len());
    for record in records {
        data.push(R::view(&read::<R>(record)?, state));
    }
    Ok(axum::Json(List { data, page: Page::whole() }).into_response())
}

async fn stored<R: Resource>(state: &EdgeState, id: Uuid) -> Result<StoredRecord, ApiError> {
    let record = state.engine.stores().records.by_id(R::KIND, id).await?;
    record.ok_or(ApiError::new(Code::NotFound))
}

pub(super) async fn show<R: Resource>(state: &EdgeState, id: Uuid) -> Result<Response, ApiError> {
    let record = stored::<R>(state, id).await?;
    let tag = etag(record.version);
    let view = R::view(&read::<R>(record)?, state);
    Ok((tag, axum::Json(view)).into_response())
}

pub(super) async fn create<R: Resource>(
    state: &EdgeState,
    by: &By,
    document: &R::Document,
) -> Result<Response, ApiError> {
    let _alone = state.set_up.lock().await;
    R::check(document, &state.engine.directory())?;
    let now = state.engine.clock().now();
    let record = StoredRecord {
        id: R::id(document),
        key: R::key(document),
        body: write(document)?,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let made = record.body.clone();
    state.engine.stores().records.insert(R::KIND, record).await?;
    state.engine.reload_directory().await?;
    by.note(state, R::ACTS.created, R::shown_id(document), (Value::Null, made)).await?;
    let location = format!("/{}/{}", R::PATH, R::shown_id(document));
    let headers = [(header::LOCATION, location), (header::ETAG, "\"v1\"".to_owned())];
    Ok((StatusCode::CREATED, headers, axum::Json(R::view(document, state))).into_response())
}

/// The `ETag` of a version, as a header of an answer.
pub(in super::super) fn etag(version: u64) -> [(header::HeaderName, HeaderValue); 1] {
    [(header::ETAG, tag(version))]
}

/// The version that a client knows, if it says so.
///
/// # Errors
/// When what it says is no version.
pub(in super::super) fn known_version(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    if headers.contains_key(header::IF_MATCH) { if_match(headers) } else { Ok(None) }
}

/// The version a client says it knows.
pub(in crate::edge) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let tag = headers.get(header::IF_MATCH).ok_or(ApiError::new(Code::PreconditionRequired))?;
    let tag = tag.to_str().unwrap_or_default();
    if tag == "*" {
        return Ok(None);
    }
    let version = tag.trim_matches('"').strip_prefix('v').and_then(|version| version.parse().ok());
    version.map(Some).ok_or(ApiError::new(Code::PreconditionFailed))
}

pub(super) async fn change<R: Resource>(
    state: &EdgeState,
    by: &By,
    id: Uuid,
    headers: &HeaderMap,
    patch: Value,
) -> Result<Response, ApiError> {
    let known = if_match(headers)?;
    let _alone = state.set_up.lock().await;
    let record = stored::<R>(state, id).await?;
    if known.is_some_and(|version| version != record.version) {
        return Err(ApiError::new(Code::PreconditionFailed));
    }
    let document: R::Document = merged(&record.body, patch)?;
    R::check(&document, &state.engine.directory())?;
    let body = write(&document)?;
    let differences = differences(&record.body, &body);
    let changed =
        StoredRecord { key: R::key(&document), body, updated_at: state.engine.clock().now(), ..record };
    let version = state.engine.stores().records.update(R::KIND, changed).await?;
    state.engine.reload_directory().await?;
    by.note(state, R::ACTS.changed, R::shown_id(&document), differences).await?;
    Ok((etag(version), axum::Json(R::view(&document, state))).into_response())
}

pub(super) async fn remove<R: Resource>(
    state: &EdgeState,
    by: &By,
    id: Uuid,
    headers: &HeaderMap,
) -> Result<StatusCode, ApiError> {
    let known = if_match(headers)?;
    let _alone = state.set_up.lock().await;
    let record = stored::<R>(state, id).await?;
    if known.is_some_and(|version| version != record.version) {
        return Err(ApiError::new(Code::PreconditionFailed));
    }
    let removed = record.body.clone();
    let document = read::<R>(record)?;
    if let Some(user) = R::used_by(&document, &state.engine.directory()) {
        return Err(ApiError::new(Code::InUse).detail(format!("{user} refers to it")));
    }
    if !state.engine.stores().records.remove(R::KIND, id).await? {
        return Err(StoreError::Changed.into());
    }
    state.engine.reload_directory().await?;
    by.note(state, R::ACTS.removed, R::shown_id(&document), (removed, Value::Null)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A document with a merge patch (RFC 7396) on its first level, which is all our documents have
/// that is changed field by field; `null` takes a field back to nothing.
fn merged<T: DeserializeOwned>(body: &Value, patch: Value) -> Result<T, ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::new(Code::MalformedBody).detail("a patch is a JSON object"));
    };
    let mut body = body.clone();
    for (name, value) in patch {
        match body.get_mut(&name) {
            Some(_) if name == "id" => {
                return Err(ApiError::new(Code::Validation).at("/id", "ids never change"));
            }
            Some(place) => *place = value,
            None => {
                return Err(
                    ApiError::new(Code::UnknownField).at(format!("/{name}"), "there is no such field")
                );
            }
        }
    }
    serde_path_to_error::deserialize(body).map_err(|error| {
        let pointer = format!("/{}", error.path().to_string().replace('.', "/"));
        ApiError::new(Code::Validation).at(pointer, error.inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::directory::Skill;
    use crate::domain::id::SkillId;

    #[test]
    fn a_patch_changes_known_fields_only() {
        let skill = Skill { id: SkillId::fresh(), name: "billing".to_owned() };
        let body = serde_json::to_value(&skill).unwrap();
        let changed: Skill = merged(&body, json!({ "name": "sales" })).unwrap();
        assert_eq!((changed.id, changed.name.as_str()), (skill.id, "sales"));
        for (patch, code) in [
            (json!({ "nam": "x" }), Code::UnknownField),
            (json!({ "id": "skl_x" }), Code::Validation),
            (json!({ "name": 7 }), Code::Validation),
            (json!([]), Code::MalformedBody),
        ] {
            assert_eq!(merged::<Skill>(&body, patch).unwrap_err().code(), code);
        }
    }

    #[test]
    fn the_trail_gets_what_a_change_made_different() {
        let before = json!({ "id": "skl_1", "name": "billing", "tags": ["a"], "note": "old" });
        let after = json!({ "id": "skl_1", "name": "sales", "tags": ["a"], "limit": 3 });
        let want = (json!({ "name": "billing", "note": "old" }), json!({ "name": "sales", "limit": 3 }));
        assert_eq!(differences(&before, &after), want);
    }

    #[test]
    fn a_change_needs_the_version_it_changes() {
        let mut headers = HeaderMap::new();
        assert_eq!(if_match(&headers).unwrap_err().code(), Code::PreconditionRequired);
        headers.insert(header::IF_MATCH, HeaderValue::from_static("\"v3\""));
        assert_eq!(if_match(&headers).unwrap(), Some(3));
        headers.insert(header::IF_MATCH, HeaderValue::from_static("*"));
        assert_eq!(if_match(&headers).unwrap(), None);
        headers.insert(header::IF_MATCH, HeaderValue::from_static("\"x\""));
        assert_eq!(if_match(&headers).unwrap_err().code(), Code::PreconditionFailed);
    }
}
