//! Tickets: what a browser sends instead of a header when it opens a socket. One use, 30 seconds.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::Caller;
use crate::domain::time::Millis;
use crate::store::cache::Cache;

/// How long a ticket is good.
const LIFE: Millis = Millis::from_secs(30);

/// Open tickets, in the cache: any node that shares it redeems them.
pub struct Tickets {
    cache: Arc<dyn Cache>,
}

impl Tickets {
    /// Tickets in a cache.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }

    /// A ticket for a caller.
    ///
    /// # Errors
    /// When the cache does not take it.
    pub async fn issue(&self, caller: Caller) -> Result<String, ApiError> {
        let ticket = hex::encode(rand::random::<[u8; 24]>());
        let caller = serde_json::to_string(&caller).map_err(|_| ApiError::new(Code::Internal))?;
        self.cache.put(&key(&ticket), &caller, LIFE).await?;
        Ok(ticket)
    }

    /// The caller behind a ticket; it works once.
    ///
    /// # Errors
    /// When there is no such ticket, or the cache does not answer.
    pub async fn redeem(&self, ticket: &str) -> Result<Caller, ApiError> {
        let caller = self.cache.take(&key(ticket)).await?;
        let caller = caller.and_then(|caller| serde_json::from_str(&caller).ok());
        caller.ok_or_else(|| ApiError::new(Code::BadTicket))
    }
}

/// What a ticket is kept under: whoever reads the cache learns no ticket.
fn key(ticket: &str) -> String {
    format!("ticket:{}", hex::encode(digest(&SHA256, ticket.as_bytes())))
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
/// When the cache does not take it.
#[utoipa::path(post, path = "/ws/ticket", tag = "auth", responses((status = 200, body = Ticket)))]
pub async fn issue(State(state): State<EdgeState>, caller: Caller) -> Result<Json<Ticket>, ApiError> {
    let ticket = state.tickets.issue(caller).await?;
    Ok(Json(Ticket { ticket, expires_in: LIFE.0 / 1000 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::Role;
    use crate::domain::id::UserId;
    use crate::store::memory::MemoryCache;

    #[tokio::test]
    async fn a_ticket_works_once() {
        let caller = Caller { user_id: UserId::fresh(), role: Role::Admin, agent_id: None };
        let tickets = Tickets::new(Arc::new(MemoryCache::default()));
        let ticket = tickets.issue(caller).await.unwrap();
        assert_eq!(tickets.redeem(&ticket).await.unwrap(), caller);
        for gone in [ticket.as_str(), "", "0"] {
            assert_eq!(tickets.redeem(gone).await.unwrap_err().code(), Code::BadTicket);
        }
    }
}
