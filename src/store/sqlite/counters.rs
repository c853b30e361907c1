//! Counters of tries, which survive a restart.

use super::rows::{Reading, signed};
use super::writer::Writer;
use super::{SqliteStore, errors};
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::{self, Counted};
use crate::store::error::StoreError;
use crate::store::grants::counted;

/// Counts, unless as many are counted as may be.
const COUNT: &str = "INSERT INTO counters AS counter (key, count, ends_at) SELECT ?1, 1, ?2 WHERE ?4 > 0 \
     ON CONFLICT (key) DO UPDATE SET count = CASE WHEN counter.ends_at <= ?3 THEN 1 ELSE counter.count + 1 END, \
     ends_at = CASE WHEN counter.ends_at <= ?3 THEN excluded.ends_at ELSE counter.ends_at END \
     WHERE counter.ends_at <= ?3 OR counter.count < ?4 RETURNING count, ends_at";
const READ: &str = "SELECT count + 1 AS count, ends_at FROM counters WHERE key = ? AND ends_at > ?";
const RUNNING: &str = "SELECT key, count, ends_at FROM counters WHERE ends_at > ?";
const FORGET_ONE: &str = "DELETE FROM counters WHERE key = ?";

/// Forgets those whose window is over.
pub(super) const FORGET: &str =
    "DELETE FROM counters WHERE key IN (SELECT key FROM counters WHERE ends_at <= ? LIMIT ?)";

/// Counts one event in a window of a length, with the most that are counted.
pub(super) async fn count(
    writer: &Writer,
    key: &str,
    (window, most): (Millis, u64),
    now: Timestamp,
) -> Result<Counted, StoreError> {
    let ends_at = now + cache::life(window);
    let mut connection = writer.connection().await?;
    let query = sqlx::query(COUNT).bind(key).bind(ends_at.millis()).bind(now.millis()).bind(signed(most));
    let mut row = query.fetch_optional(&mut *connection).await.map_err(|error| errors::from(&error))?;
    if row.is_none() {
        let query = sqlx::query(READ).bind(key).bind(now.millis());
        row = query.fetch_optional(&mut *connection).await.map_err(|error| errors::from(&error))?;
    }
    let Some(row) = row else { return Ok(counted(1, ends_at, now)) };
    let reading = Reading { row: &row, table: "counters", named_by: "count" };
    Ok(counted(reading.number("count")?, Timestamp::from_millis(reading.get("ends_at")?), now))
}

/// A counter that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCounter {
    /// What is counted.
    pub key: String,
    /// Where it stands.
    pub counted: Counted,
}

impl SqliteStore {
    /// The counters whose window is not over at `now`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn counters(&self, now: Timestamp) -> Result<Vec<RunningCounter>, StoreError> {
        let query = sqlx::query(RUNNING).bind(now.millis());
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        let running = |row| {
            let reading = Reading { row, table: "counters", named_by: "key" };
            let ends_at = Timestamp::from_millis(reading.get("ends_at")?);
            let counted = counted(reading.number("count")?, ends_at, now);
            Ok(RunningCounter { key: reading.get("key")?, counted })
        };
        rows.iter().map(running).collect()
    }
}

/// Ends a counter.
pub(super) async fn forget(writer: &Writer, key: &str) -> Result<(), StoreError> {
    let mut connection = writer.connection().await?;
    let query = sqlx::query(FORGET_ONE).bind(key);
    query.execute(&mut *connection).await.map(drop).map_err(|error| errors::from(&error))
}
