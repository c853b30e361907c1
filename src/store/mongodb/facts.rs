//! Facts in one collection per month of their time, `facts_2026_11`.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use chrono::{DateTime, Datelike as _};
use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use serde_json::value::RawValue;

use super::errors::translated;
use super::{MongoArchive, SCHEMA_VERSION, corrupt, date, prepare, signed, understood, writes};
use crate::domain::id::{CommandId, FactId};
use crate::domain::record::{EntityRef, FactRecord};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;

const PREFIX: &str = "facts_";
const FACTS: &str = "facts";

/// The collection of a time.
fn month_of(at: Timestamp) -> String {
    let day = DateTime::from_timestamp_millis(at.millis()).unwrap_or_default();
    format!("{PREFIX}{:04}_{:02}", day.year(), day.month())
}

fn document(fact: &FactRecord) -> Document {
    let mut document = doc! {
        "_id": fact.id.to_string(),
        "entity": fact.entity.to_string(),
        "seq": signed(fact.seq),
        "at": date(fact.at),
        "type": fact.kind.to_string(),
        "body": fact.body.get(),
        "schema_version": SCHEMA_VERSION,
    };
    if let Some(cause) = fact.cause {
        document.insert("cause", cause.to_string());
    }
    document
}

/// Documents of before have none.
fn cause(document: &Document) -> Result<Option<CommandId>, StoreError> {
    let Some(stored) = document.get("cause") else { return Ok(None) };
    let cause = stored.as_str().and_then(|text| text.parse().ok());
    cause.map(Some).ok_or_else(|| corrupt(document, FACTS, "cause"))
}

fn fact(entity: EntityRef, document: &Document) -> Result<FactRecord, StoreError> {
    let wrong = |column| corrupt(document, FACTS, column);
    let known = understood(document, FACTS)?;
    let text = |column| known.get_str(column).map_err(|_| wrong(column));
    let seq = known.get_i64("seq").ok().and_then(|seq| u64::try_from(seq).ok());
    let at = known.get_datetime("at").map_err(|_| wrong("at"))?;
    Ok(FactRecord {
        id: text("_id")?.parse::<FactId>().map_err(|_| wrong("_id"))?,
        entity,
        seq: seq.ok_or_else(|| wrong("seq"))?,
        at: Timestamp::from_millis(at.timestamp_millis()),
        kind: text("type")?.into(),
        body: RawValue::from_string(text("body")?.to_owned()).map_err(|_| wrong("body"))?,
        cause: cause(document)?,
    })
}

impl MongoArchive {
    /// Stores those facts that are not there yet.
    pub(super) async fn store_facts(&self, facts: &[FactRecord]) -> Result<(), StoreError> {
        let mut by_month: BTreeMap<String, Vec<Document>> = BTreeMap::new();
        for fact in facts {
            by_month.entry(month_of(fact.at)).or_default().push(document(fact));
        }
        for (month, documents) in by_month {
            let is_known = self.months.lock().unwrap_or_else(PoisonError::into_inner).contains(&month);
            if !is_known {
                prepare::month(&self.database, &month).await?;
                self.months.lock().unwrap_or_else(PoisonError::into_inner).insert(month.clone());
            }
            writes::insert_missing(&self.collection(&month), &documents).await?;
        }
        Ok(())
    }

    /// The collections of facts, oldest month first.
    async fn fact_collections(&self) -> Result<Vec<String>, StoreError> {
        let names = self.database.list_collection_names().await;
        let mut names = names.map_err(|error| translated(&error))?;
        names.retain(|name| name.starts_with(PREFIX));
        names.sort_unstable();
        Ok(names)
    }

    pub(super) async fn read_facts(
        &self,
        entity: EntityRef,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        for month in self.fact_collections().await? {
            let filter = doc! { "entity": entity.to_string(), "seq": { "$gt": signed(after_seq) } };
            let most = i64::try_from(limit).unwrap_or(i64::MAX);
            let cursor = self.collection(&month).find(filter).sort(doc! { "seq": 1 }).limit(most).await;
            let cursor = cursor.map_err(|error| translated(&error))?;
            let documents: Vec<_> = cursor.try_collect().await.map_err(|error| translated(&error))?;
            for document in &documents {
                found.push(fact(entity, document)?);
            }
        }
        // A clock that was set back may have put a later fact into an earlier month.
        found.sort_by_key(|fact| fact.seq);
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn count_facts_in(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        let mut count = 0;
        for month in self.fact_collections().await? {
            let span = doc! { "at": { "$gte": date(from), "$lt": date(to) } };
            let counted = self.collection(&month).count_documents(span).await;
            count += counted.map_err(|error| translated(&error))?;
        }
        Ok(count)
    }
}
