//! Tickets: what a browser sends instead of a header when it opens a socket. One use, 30 seconds, on
//! any node that shares the cache.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::router::EdgeState;
use super::{Caller, digest};
use crate::domain::time::Millis;
use crate::store::StoreError;
use crate::store::cache::Cache;

/// How long a ticket is good.
const LIFE: Millis = Millis::from_secs(30);

/// Open tickets.
pub struct Tickets {
    cache: Arc<dyn Cache>,
}

impl Tickets {
    /// Keeps them in this cache.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }

    /// A ticket for a caller.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    pub async fn issue(&self, caller: Caller) -> Result<String, StoreError> {
        let ticket = hex::encode(rand::random::<[u8; 24]>());
        let caller =
            serde_json::to_string(&caller).map_err(|error| StoreError::Refused(error.to_string()))?;
        self.cache.put(&key(&ticket), &caller, LIFE).await?;
        Ok(ticket)
    }

    /// The caller behind a ticket; it works once.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    pub async fn redeem(&self, ticket: &str) -> Result<Option<Caller>, StoreError> {
        let caller = self.cache.take(&key(ticket)).await?;
        // What another version of the program wrote is as good as no ticket.
        Ok(caller.and_then(|caller| serde_json::from_str(&caller).ok()))
    }
}

/// Where a ticket is kept. Whoever reads the cache's keys does not learn tickets.
fn key(ticket: &str) -> String {
    format!("ticket:{}", digest(ticket))
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
/// When the cache cannot be reached.
#[utoipa::path(post, path = "/ws/ticket", tag = "auth", responses((status = 200, body = Ticket)))]
pub async fn issue(State(state): State<EdgeState>, caller: Caller) -> Result<Json<Ticket>, ApiError> {
    let ticket = state.tickets.issue(caller).await?;
    Ok(Json(Ticket { ticket, expires_in: LIFE.0 / 1000 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::Role;
    use crate::domain::id::{AgentId, UserId};
    use crate::store::memory::MemoryCache;

    #[tokio::test]
    async fn a_ticket_works_once_on_any_node_of_a_cache() {
        let cache = Arc::new(MemoryCache::default());
        let [one, other] = [(); 2].map(|()| Tickets::new(cache.clone()));
        for agent_id in [None, Some(AgentId::fresh())] {
            let caller = Caller { user_id: UserId::fresh(), role: Role::Admin, agent_id };
            let ticket = one.issue(caller).await.unwrap();
            assert_eq!(other.redeem(&ticket).await.unwrap(), Some(caller));
            assert_eq!(one.redeem(&ticket).await.unwrap(), None);
        }
        assert_eq!(one.redeem("unknown").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_ticket_ends_after_30_seconds() {
        let cache = Arc::new(MemoryCache::default());
        let caller = Caller { user_id: UserId::fresh(), role: Role::Admin, agent_id: None };
        let ticket = Tickets::new(cache.clone()).issue(caller).await.unwrap();
        let left = cache.left(&key(&ticket)).await.unwrap().0;
        assert!((20_000..=30_000).contains(&left), "{left}");
    }
}
