//! The archive in `MongoDB`: finished calls, facts by month, interval statistics, what providers
//! sent, results of reports.
//!
//! Each document carries its `schema_version`; one from a newer program is refused, not guessed at.
//! Everything is written with majority and journal, so what was acknowledged survives the server.

mod calls;
mod errors;
mod facts;
mod prepare;
mod writes;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection, Database};
use tokio::sync::OnceCell;

use self::errors::translated;
use super::archive::{Archive, ArchiveBatch, IntervalStats, ProviderPayload, ReportResult};
use super::error::StoreError;
use super::history::{CallCursor, CallFilter};
use super::inspection::Inspection;
use crate::domain::id::CallId;
use crate::domain::record::{CallSummary, EntityRef, FactRecord};
use crate::domain::time::{Millis, Timestamp};

/// How URLs of this product start.
pub const SCHEMES: [&str; 2] = ["mongodb://", "mongodb+srv://"];

/// The shape of the documents this program writes.
const SCHEMA_VERSION: i32 = 1;
/// The database where the URL names none.
const DATABASE: &str = "eml";
/// How long a server is looked for before the archive counts as not available.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(2);

const CALLS: &str = "calls";
const PAYLOADS: &str = "payloads";
const INTERVALS: &str = "intervals";
const REPORTS: &str = "reports";

/// The archive in one database.
pub struct MongoArchive {
    database: Database,
    /// Set once the indexes are there.
    prepared: OnceCell<()>,
    /// Months whose collection is prepared.
    months: Mutex<HashSet<String>>,
}

impl MongoArchive {
    /// Prepares for `mongodb://[USER:PASSWORD@]HOST[:PORT]/DATABASE` and `mongodb+srv://…`. The
    /// connection is made, and indexes are, when they are first needed.
    ///
    /// # Errors
    /// `Refused` when the URL makes no sense.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let refused = |error: mongodb::error::Error| StoreError::Refused(error.to_string());
        let mut options = ClientOptions::parse(url).await.map_err(refused)?;
        options.app_name = Some("eml".to_owned());
        options.server_selection_timeout = Some(SELECTION_TIMEOUT);
        options.connect_timeout = Some(SELECTION_TIMEOUT);
        options.write_concern =
            Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
        let client = Client::with_options(options).map_err(refused)?;
        Ok(Self { database: client.database(&name), prepared: OnceCell::new(), months: Mutex::default() })
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    async fn prepared(&self) -> Result<(), StoreError> {
        self.prepared.get_or_try_init(|| prepare::all(&self.database)).await.copied()
    }

    async fn find(
        &self,
        collection: &str,
        filter: Document,
        sort: Document,
    ) -> Result<Vec<Document>, StoreError> {
        let cursor = self.collection(collection).find(filter).sort(sort).await;
        let cursor = cursor.map_err(|error| translated(&error))?;
        cursor.try_collect().await.map_err(|error| translated(&error))
    }
}

/// A time as documents keep it.
fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.millis())
}

/// Refuses documents of a newer program.
fn understood<'d>(document: &'d Document, table: &'static str) -> Result<&'d Document, StoreError> {
    match document.get_i32("schema_version") {
        Ok(version) if version <= SCHEMA_VERSION => Ok(document),
        Ok(_) | Err(_) => Err(corrupt(document, table, "schema_version")),
    }
}

fn corrupt(document: &Document, table: &'static str, column: &'static str) -> StoreError {
    let id = document.get("_id").map(ToString::to_string).unwrap_or_default();
    StoreError::Corrupt { table, column, id }
}

/// A number as documents keep it; they have no unsigned ones.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Archive for MongoArchive {
    async fn store(&self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        self.prepared().await?;
        self.store_facts(&batch.facts).await?;
        let payloads = batch.payloads.iter().map(payload_document).collect::<Vec<_>>();
        writes::insert_missing(&self.collection(PAYLOADS), &payloads).await?;
        let calls = batch.calls.iter().map(calls::document).collect::<Result<Vec<_>, _>>()?;
        writes::replace(&self.database, CALLS, calls).await
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        self.read_facts(entity, after_seq, limit).await
    }

    async fn count_facts(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        self.count_facts_in(from, to).await
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        after: Option<CallCursor>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<CallSummary>, StoreError> {
        if filter.open == Some(true) || limit == 0 {
            return Ok(Vec::new());
        }
        let direction = if ascending { 1 } else { -1 };
        let filter = calls::filter(filter, after, ascending);
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let order = doc! { "started_at": direction, "_id": direction };
        let found = self.collection(CALLS).find(filter).sort(order).limit(most).await;
        let found = found.map_err(|error| translated(&error))?;
        let documents: Vec<_> = found.try_collect().await.map_err(|error| translated(&error))?;
        documents.iter().map(calls::summary).collect()
    }

    async fn payloads(&self, call_id: CallId) -> Result<Vec<ProviderPayload>, StoreError> {
        let filter = doc! { "call_id": call_id.to_string() };
        let documents = self.find(PAYLOADS, filter, doc! { "at": 1, "_id": 1 }).await?;
        documents.iter().map(|document| content(document, PAYLOADS)).collect()
    }

    async fn put_intervals(&self, intervals: &[IntervalStats]) -> Result<(), StoreError> {
        self.prepared().await?;
        let documents = intervals.iter().map(interval_document).collect();
        writes::replace(&self.database, INTERVALS, documents).await
    }

    async fn intervals(
        &self,
        scope: &str,
        length: Millis,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<IntervalStats>, StoreError> {
        let filter = doc! {
            "scope": scope,
            "length_ms": signed(length.0),
            "starts_at": { "$gte": date(from), "$lt": date(to) },
        };
        let documents = self.find(INTERVALS, filter, doc! { "starts_at": 1 }).await?;
        documents.iter().map(|document| interval(document, scope, length)).collect()
    }

    async fn put_report(&self, report: &ReportResult) -> Result<(), StoreError> {
        self.prepared().await?;
        let document = doc! {
            "_id": &report.id,
            "name": &report.name,
            "made_at": date(report.made_at),
            "content": serde_json::to_string(report).map_err(|error| StoreError::Refused(error.to_string()))?,
            "schema_version": SCHEMA_VERSION,
        };
        writes::replace(&self.database, REPORTS, vec![document]).await
    }

    async fn report(&self, id: &str) -> Result<Option<ReportResult>, StoreError> {
        let found = self.find(REPORTS, doc! { "_id": id }, doc! {}).await?;
        found.first().map(|document| content(document, REPORTS)).transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.prepared().await?;
        let beat = doc! { "_id": "probe", "at": DateTime::now(), "schema_version": SCHEMA_VERSION };
        writes::replace(&self.database, "probe", vec![beat]).await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let build = self.database.run_command(doc! { "buildInfo": 1 }).await;
        let build = build.map_err(|error| translated(&error))?;
        let hello = self.database.run_command(doc! { "hello": 1 }).await;
        let hello = hello.map_err(|error| translated(&error))?;
        let clock = hello.get_datetime("localTime").ok();
        let clock = clock.map(|clock| Timestamp::from_millis(clock.timestamp_millis()));
        let version = build.get_str("version").unwrap_or("?");
        Ok(Inspection { product: format!("MongoDB wire protocol, server {version}"), clock })
    }
}

fn payload_document(payload: &ProviderPayload) -> Document {
    doc! {
        "_id": payload.fact_id.to_string(),
        "call_id": payload.call_id.to_string(),
        "name": &payload.name,
        "at": date(payload.at),
        // As text: names of fields are the provider's and may hold what documents may not.
        "content": serde_json::to_string(payload).unwrap_or_default(),
        "schema_version": SCHEMA_VERSION,
    }
}

fn content<T: serde::de::DeserializeOwned>(
    document: &Document,
    table: &'static str,
) -> Result<T, StoreError> {
    let text = understood(document, table)?.get_str("content");
    let content = text.ok().and_then(|text| serde_json::from_str(text).ok());
    content.ok_or_else(|| corrupt(document, table, "content"))
}

fn interval_document(interval: &IntervalStats) -> Document {
    let IntervalStats { scope, starts_at, length, figures } = interval;
    let figures: Document = figures.iter().map(|(name, figure)| (name.clone(), (*figure).into())).collect();
    doc! {
        "_id": format!("{scope}/{}/{}", length.0, starts_at.millis()),
        "scope": scope,
        "length_ms": signed(length.0),
        "starts_at": date(*starts_at),
        "figures": figures,
        "schema_version": SCHEMA_VERSION,
    }
}

fn interval(document: &Document, scope: &str, length: Millis) -> Result<IntervalStats, StoreError> {
    let known = understood(document, INTERVALS)?;
    let starts_at = known.get_datetime("starts_at").map_err(|_| corrupt(document, INTERVALS, "starts_at"))?;
    let figures = known.get_document("figures").map_err(|_| corrupt(document, INTERVALS, "figures"))?;
    let figures: Option<_> =
        figures.iter().map(|(name, figure)| Some((name.clone(), figure.as_i64()?))).collect();
    Ok(IntervalStats {
        scope: scope.to_owned(),
        starts_at: Timestamp::from_millis(starts_at.timestamp_millis()),
        length,
        figures: figures.ok_or_else(|| corrupt(document, INTERVALS, "figures"))?,
    })
}
