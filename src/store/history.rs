//! Reading summaries of calls: lists, filters, pages.

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::call::Direction;
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::record::CallSummary;
use crate::domain::time::Timestamp;

/// Which calls to list. Empty lists and `None` mean any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallFilter {
    /// Only calls that are not over (`true`) or that are (`false`).
    pub open: Option<bool>,
    /// Any of these `status` or `state` words.
    pub status: Vec<String>,
    /// Any of these queues.
    pub queue: Vec<QueueId>,
    /// Any of these agents.
    pub agent: Vec<AgentId>,
    /// Inbound or outbound.
    pub direction: Option<Direction>,
    /// Exactly this party who started the call.
    pub from: Option<String>,
    /// Exactly this party who was called.
    pub to: Option<String>,
    /// Either side.
    pub number: Option<String>,
    /// Started at or after.
    pub started_after: Option<Timestamp>,
    /// Started before.
    pub started_before: Option<Timestamp>,
}

/// The place behind which a page starts: the last row of the page before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCursor {
    /// Its start.
    pub started_at: Timestamp,
    /// Its id, which decides between calls that started together.
    pub id: CallId,
}

/// Where summaries of calls are read.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// One call.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn call(&self, id: CallId) -> Result<Option<CallSummary>, StoreError>;

    /// Calls by start, newest first (oldest first with `ascending`), `limit` at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError>;

    /// How many calls match.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn count(&self, filter: &CallFilter) -> Result<u64, StoreError>;
}
