//! Summaries of calls in memory, ordered by start.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::address::Address;
use crate::domain::id::CallId;
use crate::domain::record::CallSummary;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};

/// A call's place in lists.
type Place = (Timestamp, CallId);

/// Every call with its place by start.
#[derive(Default)]
pub(super) struct Calls {
    ordered: BTreeMap<Place, CallSummary>,
    starts: HashMap<CallId, Timestamp>,
}

impl Calls {
    /// Replaces what is known about a call.
    pub(super) fn put(&mut self, call: CallSummary) {
        let started_at = call.started_at;
        if let Some(before) = self.starts.insert(call.id, started_at)
            && before != started_at
        {
            self.ordered.remove(&(before, call.id));
        }
        self.ordered.insert((started_at, call.id), call);
    }
}

#[async_trait]
impl History for MemoryStore {
    async fn call(&self, id: CallId) -> Result<Option<CallSummary>, StoreError> {
        let facts = self.facts();
        let started_at = facts.calls.starts.get(&id).copied();
        Ok(started_at.and_then(|start| facts.calls.ordered.get(&(start, id)).cloned()))
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        let facts = self.facts();
        let ordered = &facts.calls.ordered;
        let wanted = |(_, call): &(&Place, &CallSummary)| matches(filter, call);
        let cursor = after.map(|cursor| (cursor.started_at, cursor.id));
        let clone = |(_, call): (&Place, &CallSummary)| call.clone();
        Ok(match (ascending, cursor) {
            (true, None) => ordered.iter().filter(wanted).take(limit).map(clone).collect(),
            (true, Some(place)) => {
                let behind = (std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded);
                ordered.range(behind).filter(wanted).take(limit).map(clone).collect()
            }
            (false, None) => ordered.iter().rev().filter(wanted).take(limit).map(clone).collect(),
            (false, Some(place)) => {
                ordered.range(..place).rev().filter(wanted).take(limit).map(clone).collect()
            }
        })
    }

    async fn count(&self, filter: &CallFilter) -> Result<u64, StoreError> {
        Ok(self.facts().calls.ordered.values().filter(|call| matches(filter, call)).count() as u64)
    }
}

/// Whether a call is among those that a filter asks for.
fn matches(filter: &CallFilter, call: &CallSummary) -> bool {
    let is = |wanted: &Option<String>, address: &Address| {
        wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
    };
    let has_word =
        |word: &String| word.as_str() == call.status.as_ref() || word.as_str() == call.state.as_ref();
    filter.open.is_none_or(|open| open == call.is_open)
        && (filter.status.is_empty() || filter.status.iter().any(has_word))
        && (filter.queue.is_empty() || call.queue_id.is_some_and(|queue| filter.queue.contains(&queue)))
        && (filter.agent.is_empty() || call.agent_id.is_some_and(|agent| filter.agent.contains(&agent)))
        && filter.direction.is_none_or(|direction| direction == call.direction)
        && is(&filter.from, &call.from)
        && is(&filter.to, &call.to)
        && (is(&filter.number, &call.from) || is(&filter.number, &call.to))
        && filter.started_after.is_none_or(|start| call.started_at >= start)
        && filter.started_before.is_none_or(|end| call.started_at < end)
}
