//! Tokens that no node accepts any more.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::rows::{Bound, Reading, signed};
use super::{answered, errors};
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::grants::Revocation;

/// What the clock of the database shows, in milliseconds since 1970 UTC.
macro_rules! now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// The clock is asked once the row is had, as others read back to the time of the commit.
const PUT: &str = concat!(
    "INSERT INTO revocations AS known (subject, least_epoch, at, until) VALUES ($1, $2, ",
    now!(),
    ", $3) ON CONFLICT (subject) DO UPDATE SET \
     least_epoch = greatest(known.least_epoch, excluded.least_epoch), at = ",
    now!(),
    ", until = greatest(known.until, excluded.until)"
);

/// One row at least, for the clock; it is asked before the rows are read.
const SINCE: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT ",
    now!(),
    " AS now) SELECT now, subject, least_epoch, at, until FROM clock \
     LEFT JOIN revocations ON at >= $1"
);

/// Forgets those that no token outlives.
pub(super) const FORGET: &str = "DELETE FROM revocations WHERE subject IN (SELECT subject FROM revocations \
     WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// The statement that revokes.
pub(super) fn putting(revocation: Revocation) -> Bound {
    sqlx::query(PUT)
        .bind(revocation.subject)
        .bind(signed(revocation.least_epoch))
        .bind(revocation.until.millis())
}

pub(super) async fn since(
    pool: &PgPool,
    since: Timestamp,
) -> Result<(Vec<Revocation>, Timestamp), StoreError> {
    let rows = answered(sqlx::query(SINCE).bind(since.millis()).fetch_all(pool)).await?;
    let first = rows.first().ok_or_else(|| errors::from(&sqlx::Error::RowNotFound))?;
    let now = Timestamp::from_millis(reading(first).get("now")?);
    let found = rows.iter().filter(|row| matches!(row.try_get::<Option<i64>, _>("at"), Ok(Some(_)) | Err(_)));
    Ok((found.map(revocation).collect::<Result<_, _>>()?, now))
}

fn reading(row: &PgRow) -> Reading<'_> {
    Reading { row, table: "revocations", named_by: "subject" }
}

fn revocation(row: &PgRow) -> Result<Revocation, StoreError> {
    let reading = reading(row);
    Ok(Revocation {
        subject: reading.get("subject")?,
        least_epoch: reading.number("least_epoch")?,
        at: Timestamp::from_millis(reading.get("at")?),
        until: Timestamp::from_millis(reading.get("until")?),
    })
}
