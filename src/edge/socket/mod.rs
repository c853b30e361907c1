//! `WebSockets` of agents and of those who watch.

mod commands;
mod connection;
pub(super) mod protocol;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde::Deserialize;

use super::auth::Caller;
use super::error::{ApiError, Code};
use super::router::EdgeState;

/// Read buffer of a connection in bytes; the library's default of 128 KiB is what costs memory.
const READ_BUFFER: usize = 4 * 1024;
/// Most bytes that wait to be written before the connection is given up.
const WRITE_BUFFER: usize = 64 * 1024;
/// Longest frame of a client in bytes.
const LONGEST_FRAME: usize = 64 * 1024;

#[derive(Deserialize)]
pub(super) struct Access {
    ticket: Option<String>,
}

/// Opens a socket.
pub(super) async fn open(
    State(state): State<EdgeState>,
    Query(access): Query<Access>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    check_origin(&state, &headers)?;
    let caller = identify(&state, &access, &headers).await?;
    if state.engine.is_draining() {
        return Err(ApiError::new(Code::Draining));
    }
    let upgrade = upgrade
        .protocols([protocol::PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(LONGEST_FRAME)
        .max_frame_size(LONGEST_FRAME);
    Ok(upgrade.on_upgrade(move |socket| connection::serve(state, caller, socket)))
}

async fn identify(state: &EdgeState, access: &Access, headers: &HeaderMap) -> Result<Caller, ApiError> {
    if let Some(ticket) = &access.ticket {
        return state.tickets.redeem(ticket).await?.ok_or_else(|| ApiError::new(Code::BadTicket));
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        bearer.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| ApiError::new(Code::NoToken))?;
    state.authority.caller_from_bearer(token)
}

/// Browsers tell where a page came from; only our own pages and configured ones may connect.
fn check_origin(state: &EdgeState, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    let allowed = &state.settings.socket.allowed_origins;
    if is_own || allowed.iter().any(|known| known == origin) {
        return Ok(());
    }
    Err(ApiError::new(Code::OriginNotAllowed))
}
