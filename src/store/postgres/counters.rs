//! Counters of tries, shared by all nodes.

use sqlx::PgPool;

use super::rows::{Reading, signed, text};
use super::{answered, written};
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::{self, Counted};
use crate::store::error::StoreError;
use crate::store::grants::counted;

/// Counts, unless as many are counted as may be.
const COUNT: &str = "INSERT INTO counters AS counter (key, count, ends_at) \
     SELECT $1::text, 1, $2::bigint WHERE $4::bigint > 0 ON CONFLICT (key) DO UPDATE SET \
     count = CASE WHEN counter.ends_at <= $3 THEN 1 ELSE counter.count + 1 END, \
     ends_at = CASE WHEN counter.ends_at <= $3 THEN excluded.ends_at ELSE counter.ends_at END \
     WHERE counter.ends_at <= $3 OR counter.count < $4 RETURNING count, ends_at";
const READ: &str = "SELECT count + 1 AS count, ends_at FROM counters WHERE key = $1 AND ends_at > $2";

/// Ends one.
pub(super) const FORGET_ONE: &str = "DELETE FROM counters WHERE key = $1";

/// Forgets those whose window is over, but not those that are being counted right now.
pub(super) const FORGET: &str = "DELETE FROM counters WHERE key IN (SELECT key FROM counters \
     WHERE ends_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Counts one event in a window of a length, with the most that are counted.
pub(super) async fn count(
    pool: &PgPool,
    key: &str,
    (window, most): (Millis, u64),
    now: Timestamp,
) -> Result<Counted, StoreError> {
    let ends_at = now + cache::life(window);
    let mut connection = answered(pool.acquire()).await?;
    let query =
        sqlx::query(COUNT).bind(text(key)).bind(ends_at.millis()).bind(now.millis()).bind(signed(most));
    let mut row = written(query.fetch_optional(&mut *connection)).await?;
    if row.is_none() {
        let query = sqlx::query(READ).bind(text(key)).bind(now.millis());
        row = answered(query.fetch_optional(&mut *connection)).await?;
    }
    let Some(row) = row else { return Ok(counted(1, ends_at, now)) };
    let reading = Reading { row: &row, table: "counters", named_by: "count" };
    Ok(counted(reading.number("count")?, Timestamp::from_millis(reading.get("ends_at")?), now))
}
