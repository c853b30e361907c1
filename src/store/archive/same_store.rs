//! The archive in the store itself.
//!
//! Facts and calls are there already, in the journal and in the lists, so they are not stored a
//! second time: only what the store does not have goes on a shelf beside them, and what is read is
//! both together. With the embedded default the archive costs next to nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Archive, ArchiveBatch, IntervalStats, ProviderPayload, ReportResult};
use crate::domain::id::{CallId, CommandId, FactId};
use crate::domain::record::{CallSummary, EntityRef, FactRecord};
use crate::domain::time::{Millis, Timestamp};
use crate::store::error::StoreError;
use crate::store::history::{CallCursor, CallFilter, History};
use crate::store::inspection::Inspection;
use crate::store::journal::Journal;

const FACT: &str = "fact";
const CALL: &str = "call";
const PAYLOAD: &str = "payload";
const INTERVAL: &str = "interval";
const REPORT: &str = "report";

/// Items of one read while filtering.
const PAGE: usize = 500;

/// One thing on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Item {
    /// What it is.
    pub(in crate::store) kind: String,
    /// Unique among its kind.
    pub(in crate::store) id: String,
    /// What it is about.
    pub(in crate::store) subject: String,
    /// Its place among the things about its subject.
    pub(in crate::store) place: i64,
    /// When it happened, milliseconds since 1970 UTC.
    pub(in crate::store) at: i64,
    /// Type of a fact, else empty.
    pub(in crate::store) name: String,
    /// Its content, JSON.
    pub(in crate::store) body: String,
    /// The command that led to a fact, as its id is written.
    pub(in crate::store) cause: Option<String>,
}

/// What a store must be able to do to be an archive, too.
#[async_trait]
pub(in crate::store) trait Shelf: Journal + History {
    /// Puts things on the shelf; what is there under the same id stays or is replaced.
    async fn put(&self, items: &[Item], replace: bool) -> Result<(), StoreError>;

    /// One thing.
    async fn get(&self, kind: &str, id: &str) -> Result<Option<Item>, StoreError>;

    /// Things about a subject at or behind a place, in order, `limit` at most.
    async fn about(
        &self,
        kind: &str,
        subject: &str,
        from: i64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError>;

    /// Things of a kind by time and id, behind a place, `limit` at most.
    async fn in_order(
        &self,
        kind: &str,
        behind: Option<(i64, String)>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError>;

    /// How many facts the journal, and things of a kind the shelf has in a span of time.
    async fn count_in(&self, kind: &str, span: Range<i64>) -> Result<u64, StoreError>;
}

/// A store as its own archive.
pub(in crate::store) struct SameStore<S>(pub(in crate::store) S);

fn item(kind: &str, id: &dyn ToString, subject: &dyn ToString, at: Timestamp) -> Item {
    Item {
        kind: kind.to_owned(),
        id: id.to_string(),
        subject: subject.to_string(),
        place: at.millis(),
        at: at.millis(),
        name: String::new(),
        body: String::new(),
        cause: None,
    }
}

fn write<T: Serialize>(content: &T) -> Result<String, StoreError> {
    serde_json::to_string(content).map_err(|error| StoreError::Refused(error.to_string()))
}

fn read<T: DeserializeOwned>(item: &Item) -> Result<T, StoreError> {
    serde_json::from_str(&item.body).map_err(|_| corrupt(item))
}

fn corrupt(item: &Item) -> StoreError {
    wrong(item, "body")
}

fn wrong(item: &Item, column: &'static str) -> StoreError {
    StoreError::Corrupt { table: "archive_items", column, id: item.id.clone() }
}

fn limit(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// A summary as the shelf keeps it. What is archived is over.
fn call(item: &Item) -> Result<CallSummary, StoreError> {
    read(item)
}

fn fact(entity: EntityRef, item: &Item) -> Result<FactRecord, StoreError> {
    let cause = item.cause.as_deref().map(str::parse::<CommandId>).transpose();
    Ok(FactRecord {
        id: item.id.parse::<FactId>().map_err(|_| corrupt(item))?,
        entity,
        seq: u64::try_from(item.place).map_err(|_| corrupt(item))?,
        at: Timestamp::from_millis(item.at),
        kind: item.name.as_str().into(),
        body: RawValue::from_string(item.body.clone()).map_err(|_| corrupt(item))?,
        cause: cause.map_err(|_| wrong(item, "cause"))?,
    })
}

impl<S: Shelf> SameStore<S> {
    /// Those facts of a batch that the journal does not have.
    async fn missing_facts(&self, facts: &[FactRecord]) -> Result<Vec<Item>, StoreError> {
        let mut spans: HashMap<EntityRef, (u64, u64)> = HashMap::new();
        for fact in facts {
            let span = spans.entry(fact.entity).or_insert((fact.seq, fact.seq));
            *span = (span.0.min(fact.seq), span.1.max(fact.seq));
        }
        let mut known = std::collections::HashSet::new();
        for (entity, (first, last)) in spans {
            let found = self.0.facts(entity, first.saturating_sub(1), limit(last - first + 1)).await?;
            known.extend(found.into_iter().map(|fact| fact.id));
        }
        let missing = facts.iter().filter(|fact| !known.contains(&fact.id));
        Ok(missing
            .map(|fact| Item {
                place: i64::try_from(fact.seq).unwrap_or(i64::MAX),
                name: fact.kind.to_string(),
                body: fact.body.get().to_owned(),
                cause: fact.cause.map(|cause| cause.to_string()),
                ..item(FACT, &fact.id, &fact.entity, fact.at)
            })
            .collect())
    }

    /// Those calls of a batch that the lists do not have.
    async fn missing_calls(&self, calls: &[CallSummary]) -> Result<Vec<Item>, StoreError> {
        let mut missing = BTreeMap::new();
        for call in calls {
            if self.0.call(call.id).await?.is_none() {
                let on_shelf = Item { body: write(call)?, ..item(CALL, &call.id, &"", call.started_at) };
                // The last of a batch stands.
                missing.insert(call.id, on_shelf);
            }
        }
        Ok(missing.into_values().collect())
    }

    async fn shelved_calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        let mut behind = after.map(|cursor| (cursor.started_at.millis(), cursor.id.to_string()));
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.0.in_order(CALL, behind, ascending, PAGE).await?;
            let Some(last) = page.last() else { break };
            behind = Some((last.at, last.id.clone()));
            for item in &page {
                found.extend(Some(call(item)?).filter(|call| filter.matches(call)));
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

#[async_trait]
impl<S: Shelf> Archive for SameStore<S> {
    async fn store(&self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        let mut kept = self.missing_facts(&batch.facts).await?;
        for payload in &batch.payloads {
            kept.push(Item {
                body: write(payload)?,
                ..item(PAYLOAD, &payload.fact_id, &payload.call_id, payload.at)
            });
        }
        self.0.put(&kept, false).await?;
        self.0.put(&self.missing_calls(&batch.calls).await?, true).await
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        let from = i64::try_from(after_seq.saturating_add(1)).unwrap_or(i64::MAX);
        let shelved = self.0.about(FACT, &entity.to_string(), from, limit).await?;
        let mut by_seq = BTreeMap::new();
        for item in &shelved {
            let fact = fact(entity, item)?;
            by_seq.insert(fact.seq, fact);
        }
        by_seq.extend(self.0.facts(entity, after_seq, limit).await?.into_iter().map(|fact| (fact.seq, fact)));
        Ok(by_seq.into_values().take(limit).collect())
    }

    async fn count_facts(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        self.0.count_in(FACT, from.millis()..to.millis()).await
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        if filter.open == Some(true) {
            return Ok(Vec::new());
        }
        let over = CallFilter { open: Some(false), ..filter.clone() };
        let mut found = self.shelved_calls(&over, after, ascending, limit).await?;
        found.append(&mut self.0.calls(&over, after, ascending, limit).await?);
        found.sort_by_key(|call| (call.started_at, call.id));
        if !ascending {
            found.reverse();
        }
        found.dedup_by_key(|call| call.id);
        found.truncate(limit);
        Ok(found)
    }

    async fn payloads(&self, call_id: CallId) -> Result<Vec<ProviderPayload>, StoreError> {
        let mut by_fact = BTreeMap::new();
        for item in self.0.about(PAYLOAD, &call_id.to_string(), i64::MIN, usize::MAX).await? {
            let payload: ProviderPayload = read(&item)?;
            by_fact.insert((payload.at, payload.fact_id), payload);
        }
        for fact in self.0.facts(call_id.into(), 0, usize::MAX).await? {
            if let Some(payload) = super::payload_of(&fact) {
                by_fact.insert((payload.at, payload.fact_id), payload);
            }
        }
        Ok(by_fact.into_values().collect())
    }

    async fn put_intervals(&self, intervals: &[IntervalStats]) -> Result<(), StoreError> {
        let mut items = BTreeMap::new();
        for interval in intervals {
            let subject = subject_of(&interval.scope, interval.length);
            let id = format!("{subject}/{}", interval.starts_at.millis());
            let body = write(interval)?;
            items.insert(id.clone(), Item { body, ..item(INTERVAL, &id, &subject, interval.starts_at) });
        }
        self.0.put(&items.into_values().collect::<Vec<_>>(), true).await
    }

    async fn intervals(
        &self,
        scope: &str,
        length: Millis,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<IntervalStats>, StoreError> {
        let items = self.0.about(INTERVAL, &subject_of(scope, length), from.millis(), usize::MAX).await?;
        items.iter().take_while(|item| item.at < to.millis()).map(read).collect()
    }

    async fn put_report(&self, report: &ReportResult) -> Result<(), StoreError> {
        let kept = Item { body: write(report)?, ..item(REPORT, &report.id, &report.name, report.made_at) };
        self.0.put(&[kept], true).await
    }

    async fn report(&self, id: &str) -> Result<Option<ReportResult>, StoreError> {
        self.0.get(REPORT, id).await?.as_ref().map(read).transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Journal::ping(&self.0).await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        Journal::inspect(&self.0).await
    }
}

fn subject_of(scope: &str, length: Millis) -> String {
    format!("{scope}/{}", length.0)
}
