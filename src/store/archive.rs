//! The archive: what is over, kept for reports: finished calls, facts by month, interval
//! statistics, what providers sent, and results of reports.
//!
//! Everything is stored under an id that its maker chose, so storing a thing twice stores it once.
//! Products: memory, SQLite, PostgreSQL and MongoDB. All pass the contract suite in
//! `tests/it/archive_contract.rs`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::history::{CallCursor, CallFilter};
use crate::domain::id::{CallId, FactId};
use crate::domain::record::{CallSummary, EntityRef, FactRecord};
use crate::domain::time::{Millis, Timestamp};

/// What a provider sent, as it was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderPayload {
    /// The fact that recorded it; its unique name.
    pub fact_id: FactId,
    /// The call it belongs to.
    pub call_id: CallId,
    /// Name of the provider section.
    pub provider: String,
    /// Which callback it was.
    pub name: String,
    /// The fields of the request, JSON.
    pub fields: serde_json::Value,
    /// When it arrived.
    pub at: Timestamp,
}

/// What is stored together.
#[derive(Debug, Clone, Default)]
pub struct ArchiveBatch {
    /// Facts of any entities, in any order.
    pub facts: Vec<FactRecord>,
    /// Calls that are over. A later summary of a call replaces an earlier one.
    pub calls: Vec<CallSummary>,
    /// What providers sent.
    pub payloads: Vec<ProviderPayload>,
}

/// Figures of one thing over one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntervalStats {
    /// Whose figures: an id of a queue or an agent, or `all`.
    pub scope: String,
    /// Start of the interval.
    pub starts_at: Timestamp,
    /// Length of the interval.
    pub length: Millis,
    /// The figures by name, as in `offered` or `wait_ms`.
    pub figures: BTreeMap<String, i64>,
}

/// The result of one run of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportResult {
    /// Its id.
    pub id: String,
    /// Which report it is of.
    pub name: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its content.
    pub body: serde_json::Value,
}

/// Where finished things are kept.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Stores a batch; what is there already stays as it is, but for newer summaries of calls.
    /// When an error is answered any part may have been stored: store the batch again.
    ///
    /// # Errors
    /// When the archive cannot be written.
    async fn store(&self, batch: &ArchiveBatch) -> Result<(), StoreError>;

    /// Facts of one entity with numbers above `after_seq`, in order, `limit` at most.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError>;

    /// How many facts were decided in a span: at or after `from`, before `to`.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn count_facts(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError>;

    /// Finished calls by start, as `History::calls` does.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError>;

    /// What providers sent about a call, in the order of arrival.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn payloads(&self, call_id: CallId) -> Result<Vec<ProviderPayload>, StoreError>;

    /// Sets the figures of intervals; those of the same scope, start and length are replaced.
    ///
    /// # Errors
    /// When the archive cannot be written.
    async fn put_intervals(&self, intervals: &[IntervalStats]) -> Result<(), StoreError>;

    /// The figures of a scope whose intervals start at or after `from` and before `to`, in order.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn intervals(
        &self,
        scope: &str,
        length: Millis,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<IntervalStats>, StoreError>;

    /// Keeps the result of a report; one with the same id is replaced.
    ///
    /// # Errors
    /// When the archive cannot be written.
    async fn put_report(&self, report: &ReportResult) -> Result<(), StoreError>;

    /// The result of a report by its id.
    ///
    /// # Errors
    /// When the archive cannot be read.
    async fn report(&self, id: &str) -> Result<Option<ReportResult>, StoreError>;

    /// Whether the archive can be written right now.
    ///
    /// # Errors
    /// When it cannot.
    async fn ping(&self) -> Result<(), StoreError>;
}
