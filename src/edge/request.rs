//! What every request has in common: an id, an address, a span, a figure; and strict bodies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::auth::{Access, Caller, Origin, RequestName, Shown, access, check_strength, shown};
use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::id::RequestId;
use crate::domain::identity::Permission;
use crate::telemetry::HttpObservation;

/// Longest request id that is taken over from a client.
const LONGEST_ID: usize = 64;
/// Longest problem document that is completed with the request's own fields.
const PROBLEM_LIMIT: usize = 64 * 1024;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientIp(pub IpAddr);

/// A body of strict JSON.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<EdgeState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &EdgeState) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.unwrap_or("application/json").starts_with("application/json") {
            return Err(ApiError::new(Code::MediaType));
        }
        let body = body(request, state).await?;
        parse(&body).map(Self)
    }
}

/// Reads a whole body.
///
/// # Errors
/// When it is too long or breaks off.
pub(super) async fn body(request: Request, state: &EdgeState) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::BodyTooLarge),
        _ => ApiError::new(Code::MalformedBody).detail("body broke off"),
    })
}

/// Reads strict JSON; a fault is named by its JSON pointer.
///
/// # Errors
/// When it is no JSON, or not of the expected shape.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        let text = inner.to_string();
        let code = match inner.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => Code::UnknownField,
            serde_json::error::Category::Data => Code::Validation,
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => Code::MalformedBody,
        };
        ApiError::new(code).at(pointer, text)
    })?;
    reader.end().map_err(|error| ApiError::new(Code::MalformedBody).detail(error.to_string()))?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// Query parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<EdgeState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &EdgeState) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|query| Self(query.0))
            .map_err(|rejection| ApiError::new(Code::BadFilter).detail(rejection.body_text()))
    }
}

/// A path parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<EdgeState> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        // An id of the wrong form names nothing.
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| ApiError::new(Code::NotFound))
    }
}

/// Wraps every request: id, address, span, figure, and the problem document's own fields.
pub(super) async fn observe(State(state): State<EdgeState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let ip = client_ip(&state, &request);
    let (method, instance) = (request.method().to_string(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(ClientIp(ip));
    request.extensions_mut().insert(RequestName(id.as_str().into()));
    let span = tracing::info_span!("request", request.id = %id, http.route = %route, %ip, user = tracing::field::Empty);
    let response = next.run(request).instrument(span).await;
    let mut response = complete_problem(response, &id, &instance).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    let status = response.status().as_u16();
    state.engine.metrics().http(&HttpObservation { method, route, status, took: started.elapsed() });
    response
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let sane = |id: &&str| {
        !id.is_empty()
            && id.len() <= LONGEST_ID
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(sane).map_or_else(|| RequestId::fresh().to_string(), ToOwned::to_owned)
}

/// The peer, or whom a trusted proxy names as the last one before it.
fn client_ip(state: &EdgeState, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    if !state.settings.trusted_proxies.contains(&peer) {
        return peer;
    }
    let named = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
    named.and_then(|value| value.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
}

async fn complete_problem(response: Response, id: &str, instance: &str) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/problem+json") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, PROBLEM_LIMIT).await.unwrap_or_default();
    let Ok(mut problem) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    problem["instance"] = instance.into();
    problem["request_id"] = id.into();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(problem.to_string()))
}

/// Lets a request through when its route has a row and the caller has what the row asks.
pub(super) async fn authorize(State(state): State<EdgeState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let access = route.and_then(|route| access(request.method(), route));
    let (mut parts, body) = request.into_parts();
    match access {
        // Without a row there is no handler either: the router answers 404 or 405.
        None | Some(Access::Public) => {}
        Some(Access::Needs(permission)) => {
            if let Err(error) = identify(&mut parts, &state, permission) {
                return error.into_response();
            }
        }
        Some(Access::Critical(permission)) => {
            let checked = match identify(&mut parts, &state, permission) {
                Ok(caller) => {
                    let Ok(origin) = Origin::from_request_parts(&mut parts, &state).await;
                    check_strength(&state, &caller, &origin).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                return error.into_response();
            }
        }
        Some(Access::NeedsOrChallenge(permission)) => {
            let is_named = parts.headers.contains_key(header::AUTHORIZATION);
            if let Some(Err(error)) = is_named.then(|| identify(&mut parts, &state, permission)) {
                return error.into_response();
            }
        }
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Whoever sends a request, if it has a permission; handlers find it in the request.
fn identify(parts: &mut Parts, state: &EdgeState, permission: Permission) -> Result<Caller, ApiError> {
    let claims = shown(&parts.headers, state)?;
    let caller = Caller::of(&claims, &state.engine.directory());
    tracing::Span::current().record("user", tracing::field::display(caller.user_id));
    if !caller.may(permission) {
        return Err(ApiError::new(Code::Forbidden));
    }
    parts.extensions.insert(caller);
    parts.extensions.insert(Shown(claims));
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[serde(rename = "to")]
        _to: Vec<u32>,
    }

    #[test]
    fn faults_in_a_body_are_named_by_pointer_and_kind() {
        for (body, code, pointer) in [
            (r#"{"to":[1,"x"]}"#, Code::Validation, "/to/1"),
            (r#"{"to":[1],"too":2}"#, Code::UnknownField, "/too"),
            (r#"{"to":[1]"#, Code::MalformedBody, ""),
            (r#"{"to":[1]} x"#, Code::MalformedBody, ""),
        ] {
            let error = parse::<Shape>(body.as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{body}");
            let problem = error.problem();
            let found = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
            assert_eq!(found, pointer, "{body}");
        }
    }

    #[test]
    fn only_sane_request_ids_are_taken_over() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("abc-1.2_3"));
        assert_eq!(request_id(&headers), "abc-1.2_3");
        headers.insert("x-request-id", HeaderValue::from_static("a b\"c"));
        assert!(request_id(&headers).starts_with("req_"));
    }
}
