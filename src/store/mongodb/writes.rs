//! Writing many documents at once so that writing them again changes nothing.

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Collection, Database};

use super::errors::translated;
use crate::store::error::StoreError;

/// The server's code for an id that is there already.
const DOUBLE: i32 = 11_000;
/// Documents of one command; far below the 100,000 that a server takes.
const CHUNK: usize = 1_000;

/// Inserts documents whose ids are not there yet; the others stay as they are.
pub(super) async fn insert_missing(
    collection: &Collection<Document>,
    documents: &[Document],
) -> Result<(), StoreError> {
    for chunk in documents.chunks(CHUNK) {
        match collection.insert_many(chunk).ordered(false).await {
            Ok(_) => {}
            Err(error) if is_only_doubles(&error) => {}
            Err(error) => return Err(translated(&error)),
        }
    }
    Ok(())
}

fn is_only_doubles(error: &Error) -> bool {
    let ErrorKind::InsertMany(refused) = error.kind.as_ref() else { return false };
    refused.write_concern_error.is_none()
        && refused.write_errors.as_ref().is_some_and(|errors| errors.iter().all(|error| error.code == DOUBLE))
}

/// Puts documents in the place of those with the same id. As one command, which every version of
/// the server knows; the client's own form of it wants version 8.
pub(super) async fn replace(
    database: &Database,
    collection: &str,
    documents: Vec<Document>,
) -> Result<(), StoreError> {
    for chunk in documents.chunks(CHUNK) {
        let updates: Vec<Bson> = chunk.iter().map(|document| update(document).into()).collect();
        let command = doc! {
            "update": collection,
            "updates": updates,
            // In order, so that of two with one id the later stands.
            "ordered": true,
            "writeConcern": { "w": "majority", "j": true },
        };
        let answer = database.run_command(command).await.map_err(|error| translated(&error))?;
        for trouble in ["writeErrors", "writeConcernError"] {
            if let Some(what) = answer.get(trouble) {
                return Err(StoreError::Unavailable(format!("{trouble}: {what}")));
            }
        }
    }
    Ok(())
}

fn update(document: &Document) -> Document {
    let id = document.get("_id").cloned().unwrap_or(Bson::Null);
    doc! { "q": { "_id": id }, "u": document.clone(), "upsert": true }
}
