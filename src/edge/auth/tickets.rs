//! Tickets: what a browser sends instead of a header when it opens a socket. One use, 30 seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::Caller;
use crate::domain::time::{Clock, Millis, Timestamp};

/// How long a ticket is good.
const LIFE: Millis = Millis::from_secs(30);
/// Tickets that may be open at a time.
const MOST: usize = 20_000;

/// Open tickets.
#[derive(Default)]
pub struct Tickets {
    open: Mutex<HashMap<String, (Caller, Timestamp)>>,
}

impl Tickets {
    /// A ticket for a caller; `None` when too many are open.
    #[must_use]
    pub fn issue(&self, caller: Caller, now: Timestamp) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST {
            open.retain(|_, (_, until)| *until > now);
        }
        if open.len() >= MOST {
            return None;
        }
        let ticket = hex::encode(rand::random::<[u8; 24]>());
        open.insert(ticket.clone(), (caller, now + LIFE));
        Some(ticket)
    }

    /// The caller behind a ticket; it works once.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Caller> {
        let (caller, until) = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)?;
        (until > Clock.now()).then_some(caller)
    }
}

/// A ticket for `GET /ws?ticket=`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ticket {
    /// The ticket; it works once.
    ticket: String,
    /// Seconds until it does not work any more.
    expires_in: u64,
}

/// Gives out a ticket for opening a socket from a browser.
///
/// # Errors
/// When too many tickets are open.
#[utoipa::path(post, path = "/ws/ticket", tag = "auth", responses((status = 200, body = Ticket)))]
pub async fn issue(State(state): State<EdgeState>, caller: Caller) -> Result<Json<Ticket>, ApiError> {
    let ticket =
        state.tickets.issue(caller, state.engine.clock().now()).ok_or(ApiError::new(Code::Overloaded))?;
    Ok(Json(Ticket { ticket, expires_in: LIFE.0 / 1000 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::Role;
    use crate::domain::id::UserId;

    #[test]
    fn a_ticket_works_once_and_not_for_long() {
        let caller = Caller { user_id: UserId::fresh(), role: Role::Admin, agent_id: None };
        let tickets = Tickets::default();
        let now = Clock.now();
        let ticket = tickets.issue(caller, now).unwrap();
        assert_eq!(tickets.redeem(&ticket), Some(caller));
        assert_eq!(tickets.redeem(&ticket), None);
        let old = tickets.issue(caller, now - LIFE - Millis(1)).unwrap();
        assert_eq!(tickets.redeem(&old), None);
    }
}
