//! Summaries of calls in memory, ordered by start.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use super::MemoryStore;
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
        let wanted = |(_, call): &(&Place, &CallSummary)| filter.matches(call);
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
        Ok(self.facts().calls.ordered.values().filter(|call| filter.matches(call)).count() as u64)
    }
}
