//! Reading summaries of calls: lists, filters, pages.

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::address::Address;
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

impl CallFilter {
    /// Whether a call is among those asked for.
    #[must_use]
    pub fn matches(&self, call: &CallSummary) -> bool {
        let is = |wanted: &Option<String>, address: &Address| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
        };
        let has_word =
            |word: &String| word.as_str() == call.status.as_ref() || word.as_str() == call.state.as_ref();
        self.open.is_none_or(|open| open == call.is_open)
            && (self.status.is_empty() || self.status.iter().any(has_word))
            && (self.queue.is_empty() || call.queue_id.is_some_and(|queue| self.queue.contains(&queue)))
            && (self.agent.is_empty() || call.agent_id.is_some_and(|agent| self.agent.contains(&agent)))
            && self.direction.is_none_or(|direction| direction == call.direction)
            && is(&self.from, &call.from)
            && is(&self.to, &call.to)
            && (is(&self.number, &call.from) || is(&self.number, &call.to))
            && self.started_after.is_none_or(|start| call.started_at >= start)
            && self.started_before.is_none_or(|end| call.started_at < end)
    }
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
