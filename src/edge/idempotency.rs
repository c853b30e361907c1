//! `Idempotency-Key`: a creating request that is repeated is answered, not carried out, again.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::id::CallId;
use crate::domain::time::Millis;
use crate::store::records::{Claim, RememberedAnswer};

/// How long an answer is remembered.
const KEPT: Millis = Millis::from_secs(24 * 3600);
/// A request without an answer after this time died with its node; longer than any may take.
const ABANDONED: Millis = Millis::from_secs(60);
/// Longest answer that is remembered, in bytes.
const LONGEST: usize = 256 * 1024;
/// Longest key.
const LONGEST_KEY: usize = 255;

/// The name of a request that may come again: who sent it, where to, and its `Idempotency-Key`.
#[derive(Debug, Clone)]
pub(super) struct RequestKey(String);

impl RequestKey {
    /// The id of the call that such a request makes, however often it comes.
    pub(super) fn call_id(&self) -> CallId {
        CallId::derived("idempotency-key", &self.0)
    }
}

/// Answers a repeated request from memory.
pub(super) async fn remember(State(state): State<EdgeState>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap_or_default().to_owned());
    match key {
        Some(key) if request.method() == Method::POST && !answers_secrets(request.uri().path()) => {
            let answer = once(&state, &key, request, next).await;
            answer.unwrap_or_else(IntoResponse::into_response)
        }
        Some(_) | None => next.run(request).await,
    }
}

/// Whether answers hold tokens or the like, which are not kept where answers are.
fn answers_secrets(path: &str) -> bool {
    let beginnings = ["/auth/", "/oauth/", "/users/login", "/ws/", "/clients"];
    beginnings.iter().any(|beginning| path.starts_with(beginning))
}

async fn once(state: &EdgeState, key: &str, request: Request, next: Next) -> Result<Response, ApiError> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(ApiError::new(Code::BadHeader).detail("Idempotency-Key must be 1 to 255 characters"));
    }
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, state).await?;
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let scoped = format!("{}\n{route}\n{key}", caller.user_id);
    let limit = state.settings.max_body_bytes;
    let body = to_bytes(body, limit).await.map_err(|_| ApiError::new(Code::BodyTooLarge))?;
    // Bodies may hold passwords: what is kept of them must not be guessable for who reads the store.
    let hash = hex::encode(state.vault.mac("idempotency", &body));
    let now = state.engine.clock().now();
    let records = &state.engine.stores().records;
    let claim = Claim {
        key: &scoped,
        request_hash: &hash,
        now,
        expired_before: now - KEPT,
        abandoned_before: now - ABANDONED,
    };
    match records.claim_key(claim).await? {
        Some(known) if known.request_hash != hash => Err(ApiError::new(Code::KeyReused)),
        Some(known) if known.status == 0 => Err(ApiError::new(Code::KeyRunning)),
        Some(known) => Ok(replay(&known)),
        None => {
            parts.extensions.insert(RequestKey(scoped.clone()));
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            let (response, answer) = keep(response, hash).await?;
            records.settle_key(&scoped, answer).await?;
            Ok(response)
        }
    }
}

fn replay(known: &RememberedAnswer) -> Response {
    let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let headers =
        [(header::CONTENT_TYPE, kind), (header::HeaderName::from_static("idempotency-replayed"), "true")];
    (status, headers, known.body.clone()).into_response()
}

/// What is remembered of an answer. A fault of ours is not: the client may try again.
async fn keep(
    response: Response,
    request_hash: String,
) -> Result<(Response, Option<RememberedAnswer>), ApiError> {
    let (mut parts, body) = response.into_parts();
    let body: Bytes = to_bytes(body, LONGEST).await.map_err(|_| ApiError::new(Code::Internal))?;
    // What must not be stored anywhere is not stored here: the same request is carried out again.
    let is_secret = parts.headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-store");
    let answer = (!is_secret && !parts.status.is_server_error()).then(|| RememberedAnswer {
        request_hash,
        status: parts.status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    parts.headers.insert("idempotency-replayed", HeaderValue::from_static("false"));
    Ok((Response::from_parts(parts, Body::from(body)), answer))
}
