//! Indexes, and when documents go by themselves.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use super::errors::translated;
use super::{CALLS, INTERVALS, PAYLOADS};
use crate::store::error::StoreError;

/// How long what providers sent is kept: long enough for a complaint about a bill.
const PAYLOADS_KEPT: Duration = Duration::from_hours(90 * 24);

/// Makes the indexes of everything but facts. Making one that is there does nothing.
pub(super) async fn all(database: &Database) -> Result<(), StoreError> {
    let lists = ["started_at", "from", "to", "queue_id", "agent_id"].map(|first| match first {
        "started_at" => index(doc! { "started_at": 1, "_id": 1 }),
        other => index(doc! { other: 1, "started_at": 1, "_id": 1 }),
    });
    make(database, CALLS, lists.into()).await?;
    let lapse = IndexOptions::builder().expire_after(PAYLOADS_KEPT).build();
    let by_time = IndexModel::builder().keys(doc! { "at": 1 }).options(lapse).build();
    make(database, PAYLOADS, vec![index(doc! { "call_id": 1, "at": 1 }), by_time]).await?;
    let unique = IndexOptions::builder().unique(true).build();
    let keys = doc! { "scope": 1, "length_ms": 1, "starts_at": 1 };
    let of_scope = IndexModel::builder().keys(keys).options(unique).build();
    make(database, INTERVALS, vec![of_scope]).await
}

/// Makes the indexes of one month of facts.
pub(super) async fn month(database: &Database, name: &str) -> Result<(), StoreError> {
    let indexes = vec![index(doc! { "entity": 1, "seq": 1 }), index(doc! { "at": 1 })];
    make(database, name, indexes).await
}

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

async fn make(database: &Database, collection: &str, indexes: Vec<IndexModel>) -> Result<(), StoreError> {
    let made = database.collection::<Document>(collection).create_indexes(indexes).await;
    made.map(|_| ()).map_err(|error| translated(&error))
}
