//! `Idempotency-Key`: a creating request that is sent twice is carried out once.
//!
//! Keys belong to a user and a route and are kept for 24 hours. Answers below 500 are remembered;
//! after a fault of ours the key is free again. A request runs to its end even when its client
//! goes away, so that its key is always settled.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::auth::Caller;
use super::error::{ApiError, Code, PROBLEM_JSON};
use super::routes;
use super::state::EdgeState;
use crate::domain::id::CallId;
use crate::domain::time::{Millis, Timestamp};
use crate::store::records::{Records, RememberedAnswer};

/// How long keys are kept.
const KEPT: Millis = Millis::from_secs(86_400);
/// A request that has not come to its end after so long died with its node.
const LOST_AFTER: Millis = Millis::from_secs(120);
/// Longest key, in characters.
const LONGEST_KEY: usize = 255;
/// Largest answer that is remembered, in bytes; ours are far below.
const LARGEST_ANSWER: usize = 1024 * 1024;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The scope and the key of a request with an `Idempotency-Key`; in its extensions.
#[derive(Debug, Clone)]
pub struct KeyScope {
    key: String,
    request_hash: String,
}

impl KeyScope {
    /// The call that this request makes, however often it is carried out.
    #[must_use]
    pub fn call_id(&self) -> CallId {
        CallId::derived("idempotency-key", &format!("{}\n{}", self.key, self.request_hash))
    }
}

/// An answer as it is kept: with the headers that belong to it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptAnswer {
    location: Option<String>,
    etag: Option<String>,
    body: String,
}

/// What a claim of a key leads to.
#[derive(Debug)]
enum Claim {
    /// The request is new: carry it out.
    Fresh,
    /// It was carried out: give the same answer.
    Known(RememberedAnswer),
}

/// Wraps creating requests that carry a key.
pub async fn remember(State(state): State<EdgeState>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(IDEMPOTENCY_KEY) || !is_creating(&request) {
        return next.run(request).await;
    }
    guard(state, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

fn is_creating(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    routes::find(request.method(), path).is_some_and(|route| route.creates)
}

async fn guard(state: EdgeState, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let user = parts.extensions.get::<Caller>().map(|caller| caller.user_id.to_string()).unwrap_or_default();
    let key = read_key(&parts.headers)?;
    let key = format!("{user} {} {} {key}", Method::POST, parts.uri.path());
    let bytes = to_bytes(body, state.settings.body_limit)
        .await
        .map_err(|_| ApiError::new(Code::BodyTooLarge, "the body is larger than allowed, or broke off"))?;
    let scope = KeyScope { key, request_hash: hash(&bytes) };

    let records = Arc::clone(&state.engine.stores().records);
    if let Claim::Known(answer) = claim(&*records, &scope, state.clock.now()).await? {
        return replay(answer);
    }
    parts.extensions.insert(scope.clone());
    let request = Request::from_parts(parts, Body::from(bytes));
    let work = async move {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            ApiError::internal(&"a handler panicked; its idempotency key is free again").into_response()
        });
        settle(&*records, &scope, answer).await
    };
    // Its own task: the client may go away, the key must be settled all the same.
    let task = tokio::spawn(work.instrument(tracing::Span::current()));
    task.await.map_err(|error| ApiError::internal(&error))?
}

/// The key in the headers.
fn read_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let bad = || {
        ApiError::new(
            Code::BadHeader,
            "Idempotency-Key must be one text of 1 to 255 printable ASCII characters",
        )
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(bad()) };
    let key = value.to_str().map_err(|_| bad())?.trim().trim_matches('"');
    let is_sane = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sane { Ok(key.to_owned()) } else { Err(bad()) }
}

fn hash(body: &Bytes) -> String {
    hex::encode(digest(&SHA256, body).as_ref())
}

/// Claims the key, or finds out what became of the request that has it.
async fn claim(records: &dyn Records, scope: &KeyScope, now: Timestamp) -> Result<Claim, ApiError> {
    let mine = RememberedAnswer {
        request_hash: scope.request_hash.clone(),
        status: 0,
        body: now.millis().to_string(),
    };
    let Some(found) = records.claim_key(&scope.key, mine.clone(), now, now - KEPT).await? else {
        return Ok(Claim::Fresh);
    };
    if found.request_hash != scope.request_hash {
        return Err(ApiError::new(Code::KeyReused, "the key came with another body before"));
    }
    if found.status != 0 {
        return Ok(Claim::Known(found));
    }
    let since = found.body.parse().map(Timestamp::from_millis).unwrap_or_default();
    if now.since(since) < LOST_AFTER {
        return Err(ApiError::new(Code::KeyRunning, "the first request with this key is still running"));
    }
    records.settle_key(&scope.key, Some(mine)).await?;
    Ok(Claim::Fresh)
}

/// Keeps the answer, or frees the key after a fault of ours.
async fn settle(records: &dyn Records, scope: &KeyScope, answer: Response) -> Result<Response, ApiError> {
    if answer.status().is_server_error() {
        records.settle_key(&scope.key, None).await?;
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, LARGEST_ANSWER).await.map_err(|error| ApiError::internal(&error))?;
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kept = KeptAnswer {
        location: text(header::LOCATION),
        etag: text(header::ETAG),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    };
    let remembered = RememberedAnswer {
        request_hash: scope.request_hash.clone(),
        status: parts.status.as_u16(),
        body: serde_json::to_string(&kept).map_err(|error| ApiError::internal(&error))?,
    };
    if let Err(error) = records.settle_key(&scope.key, Some(remembered)).await {
        // What was asked for is done; the key stays claimed until it counts as lost.
        tracing::warn!(cause = %error, "answer to an idempotent request was not remembered");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// The remembered answer.
fn replay(answer: RememberedAnswer) -> Result<Response, ApiError> {
    let corrupt = |error: &dyn std::fmt::Display| ApiError::internal(error);
    let kept: KeptAnswer = serde_json::from_str(&answer.body).map_err(|error| corrupt(&error))?;
    let status = StatusCode::from_u16(answer.status).map_err(|error| corrupt(&error))?;
    let media_type = if status.is_success() { "application/json" } else { PROBLEM_JSON };
    let mut response = (status, [(header::CONTENT_TYPE, media_type)], kept.body).into_response();
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    for (name, value) in [(header::LOCATION, kept.location), (header::ETAG, kept.etag)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
