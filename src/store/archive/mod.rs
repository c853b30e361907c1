//! The archive: what is over, kept for reports: finished calls, facts by month, interval
//! statistics, what providers sent, and results of reports.
//!
//! Everything is stored under an id that its maker chose, so storing a thing twice stores it once.
//! Products: the store itself (memory, `SQLite`, `PostgreSQL`) and `MongoDB`. All pass the contract
//! suite in `tests/it/archive_contract.rs`.

mod same_store;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use same_store::{Item, SameStore, Shelf};

use super::error::StoreError;
use super::history::{CallCursor, CallFilter};
use super::inspection::Inspection;
use super::mongodb::{self, MongoArchive};
use crate::domain::event::untagged;
use crate::domain::id::{CallId, FactId};
use crate::domain::record::{CallSummary, EntityKind, EntityRef, FactRecord};
use crate::domain::time::{Millis, Timestamp};

/// The URL of the archive in the store itself.
pub const SAME_STORE: &str = "store:";
/// The type of facts that hold a request of a provider.
const REPORTED: &str = "call.carrier_reported";

/// What a provider sent, as it was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderPayload {
    /// The fact that recorded it; its unique name.
    pub fact_id: FactId,
    /// The call it belongs to.
    pub call_id: CallId,
    /// Which callback it was, in the provider's words.
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
    /// Calls that are over; each replaces what is known of its call. Whoever stores them reads them
    /// when it does, so what comes later is never older.
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
    /// Stores a batch; what is there already stays as it is, but for summaries of calls.
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

    /// What the product says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn inspect(&self) -> Result<Inspection, StoreError>;
}

/// Opens an archive outside the store: `mongodb://…` or `mongodb+srv://…`.
///
/// # Errors
/// `Refused` for any other URL. An archive that is away is no error here.
pub async fn open(url: &str) -> Result<Arc<dyn Archive>, StoreError> {
    if mongodb::SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(Arc::new(MongoArchive::open(url).await?));
    }
    Err(StoreError::Refused(format!("archive URL must be `mongodb://…` or `{SAME_STORE}`")))
}

/// The request of a provider that a fact tells of, if it does.
#[must_use]
pub fn payload_of(fact: &FactRecord) -> Option<ProviderPayload> {
    #[derive(Deserialize)]
    struct Reported<'a> {
        name: String,
        #[serde(borrow)]
        fields: &'a RawValue,
    }
    if fact.entity.kind != EntityKind::Call || &*fact.kind != REPORTED {
        return None;
    }
    let told = untagged(&fact.body);
    let Reported { name, fields } = serde_json::from_str(told.get()).ok()?;
    let fields = serde_json::from_str(fields.get()).ok()?;
    Some(ProviderPayload {
        fact_id: fact.id,
        call_id: CallId::from_uuid(fact.entity.id),
        name,
        fields,
        at: fact.at,
    })
}
