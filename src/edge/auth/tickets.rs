//! Tickets: what a browser sends instead of a header when it opens a socket. One use, 30 seconds.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::Shown;
use super::claims::Claims;
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

    /// A ticket that stands for a token.
    ///
    /// # Errors
    /// When the cache does not take it.
    pub async fn issue(&self, claims: &Claims) -> Result<String, ApiError> {
        let ticket = hex::encode(rand::random::<[u8; 24]>());
        let kept = Kept { key: claims.key, claims: claims.clone() };
        let kept = serde_json::to_string(&kept).map_err(|_| ApiError::new(Code::Internal))?;
        self.cache.put(&key(&ticket), &kept, LIFE).await?;
        Ok(ticket)
    }

    /// What the token behind a ticket says; the ticket works once. Whether the token was revoked
    /// meanwhile is the gate's to know.
    ///
    /// # Errors
    /// When there is no such ticket, or the cache does not answer.
    pub async fn redeem(&self, ticket: &str) -> Result<Arc<Claims>, ApiError> {
        let kept = self.cache.take(&key(ticket)).await?;
        let kept: Option<Kept> = kept.and_then(|kept| serde_json::from_str(&kept).ok());
        let Kept { key, claims } = kept.ok_or(ApiError::new(Code::BadTicket))?;
        Ok(Arc::new(Claims { key, ..claims }))
    }
}

/// What the cache keeps of a ticket.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Uuid,
    claims: Claims,
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
pub async fn issue(State(state): State<EdgeState>, Shown(claims): Shown) -> Result<Json<Ticket>, ApiError> {
    let ticket = state.tickets.issue(&claims).await?;
    Ok(Json(Ticket { ticket, expires_in: LIFE.0 / 1000 }))
}

#[cfg(test)]
mod tests {
    use super::super::claims::Subject;
    use super::super::{Authority, Vault};
    use super::*;
    use crate::domain::id::UserId;
    use crate::store::memory::MemoryCache;

    #[tokio::test]
    async fn a_ticket_works_once() {
        let vault = Arc::new(Vault::of_seed(&[1; 32]));
        let authority = Authority::new(vault, "eml", Millis::from_secs(60)).unwrap();
        let claims = authority.claims(Subject::User(UserId::fresh()), Millis::from_secs(60));
        let token = authority.mint(&claims).unwrap();
        let claims = authority.verify(&token).unwrap();
        let tickets = Tickets::new(Arc::new(MemoryCache::default()));
        let ticket = tickets.issue(&claims).await.unwrap();
        assert_eq!(tickets.redeem(&ticket).await.unwrap(), claims);
        for gone in [ticket.as_str(), "", "0"] {
            assert_eq!(tickets.redeem(gone).await.unwrap_err().code(), Code::BadTicket);
        }
    }
}
