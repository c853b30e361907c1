//! Tokens that are not accepted any more.

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::errors;
use super::rows::{Reading, signed};
use super::writer::Writer;
use crate::domain::time::{Clock, Timestamp};
use crate::store::error::StoreError;
use crate::store::grants::Revocation;

const PUT: &str = "INSERT INTO revocations (subject, least_epoch, at, until) VALUES (?, ?, ?, ?) \
     ON CONFLICT (subject) DO UPDATE SET least_epoch = max(least_epoch, excluded.least_epoch), \
     at = excluded.at, until = max(until, excluded.until)";
const SINCE: &str = "SELECT subject, least_epoch, at, until FROM revocations WHERE at >= ?";

/// Forgets those that no token outlives.
pub(super) const FORGET: &str = "DELETE FROM revocations WHERE subject IN \
     (SELECT subject FROM revocations WHERE until <= ? LIMIT ?)";

pub(super) async fn put(writer: &Writer, revocation: Revocation) -> Result<(), StoreError> {
    let mut connection = writer.connection().await?;
    // The clock of a file is that of its machine; asked once the connection is had, as the commit follows.
    let query = sqlx::query(PUT)
        .bind(revocation.subject.as_bytes().to_vec())
        .bind(signed(revocation.least_epoch))
        .bind(Clock.now().millis())
        .bind(revocation.until.millis());
    query.execute(&mut *connection).await.map(drop).map_err(|error| errors::from(&error))
}

pub(super) async fn since(
    readers: &SqlitePool,
    since: Timestamp,
) -> Result<(Vec<Revocation>, Timestamp), StoreError> {
    // Before it is read: what is revoked after that may be missing.
    let now = Clock.now();
    let query = sqlx::query(SINCE).bind(since.millis());
    let rows = query.fetch_all(readers).await.map_err(|error| errors::from(&error))?;
    let revocations = rows.iter().map(revocation).collect::<Result<_, _>>()?;
    Ok((revocations, now))
}

fn revocation(row: &SqliteRow) -> Result<Revocation, StoreError> {
    let reading = Reading { row, table: "revocations", named_by: "subject" };
    Ok(Revocation {
        subject: reading.uuid("subject")?,
        least_epoch: reading.number("least_epoch")?,
        at: Timestamp::from_millis(reading.get("at")?),
        until: Timestamp::from_millis(reading.get("until")?),
    })
}
