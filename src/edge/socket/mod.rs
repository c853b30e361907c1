//! `WebSockets` of agents and of those who watch.

mod commands;
mod connection;
pub(super) mod protocol;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde::Deserialize;

use super::auth::{Caller, Claims, shown};
use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::identity::Permission;

/// Read buffer of a connection in bytes; the library's default of 128 KiB is what costs memory.
const READ_BUFFER: usize = 4 * 1024;
/// Most bytes that wait to be written before the connection is given up.
const WRITE_BUFFER: usize = 64 * 1024;
/// Longest frame of a client in bytes.
const LONGEST_FRAME: usize = 64 * 1024;

#[derive(Deserialize)]
pub(super) struct Ticket {
    ticket: Option<String>,
}

/// Opens a socket.
pub(super) async fn open(
    State(state): State<EdgeState>,
    Query(ticket): Query<Ticket>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    check_origin(&state, &headers)?;
    let claims = identify(&state, &ticket, &headers).await?;
    let caller = Caller::of(&claims, &state.engine.directory());
    if !caller.may(Permission::Own) {
        return Err(ApiError::new(Code::Forbidden));
    }
    let watch = state.gate.watch(&claims).ok_or(ApiError::new(Code::SessionOver))?;
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
    Ok(upgrade.on_upgrade(move |socket| connection::serve(state, (caller, watch), socket)))
}

async fn identify(state: &EdgeState, ticket: &Ticket, headers: &HeaderMap) -> Result<Arc<Claims>, ApiError> {
    if let Some(ticket) = &ticket.ticket {
        return state.tickets.redeem(ticket).await;
    }
    shown(headers, state)
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
