//! The monthly partitions of the facts: which month holds a fact, and making what is missing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Datelike, Months, NaiveDate};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::answered;
use crate::domain::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::journal::Append;

/// Lets one node at a time make partitions; any number that no other lock of the program has.
const LOCK: &str = "SELECT pg_advisory_xact_lock(5049512)";

const EXISTING: &str = "SELECT child.relname::text FROM pg_inherits \
     JOIN pg_class AS child ON child.oid = inhrelid WHERE inhparent = 'facts'::regclass";

/// A month of the calendar in UTC, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month(NaiveDate);

impl Month {
    /// The month of a point in time, or `None` far outside of the calendar.
    fn of(at: Timestamp) -> Option<Self> {
        let date = DateTime::from_timestamp_millis(at.millis())?.date_naive();
        date.with_day(1).map(Self)
    }

    fn before(self) -> Option<Self> {
        self.0.checked_sub_months(Months::new(1)).map(Self)
    }

    fn after(self) -> Option<Self> {
        self.0.checked_add_months(Months::new(1)).map(Self)
    }

    fn start(self) -> i64 {
        self.0.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()
    }

    /// The name of its partition.
    fn table(self) -> String {
        format!("facts_{:04}_{:02}", self.0.year(), self.0.month())
    }

    /// Makes an empty table and hangs it in. Attaching, other than creating in place, takes no lock
    /// that batches under way would have to wait for.
    fn statement(self) -> Option<String> {
        let (table, start, end) = (self.table(), self.start(), self.after()?.start());
        Some(format!(
            "CREATE TABLE \"{table}\" (LIKE facts INCLUDING DEFAULTS INCLUDING INDEXES); \
             ALTER TABLE facts ATTACH PARTITION \"{table}\" FOR VALUES FROM ({start}) TO ({end})"
        ))
    }
}

/// The months that are known to have a partition.
#[derive(Debug, Default)]
pub(super) struct Partitions(Mutex<BTreeSet<Month>>);

impl Partitions {
    /// Makes partitions for the month of a point in time and the ones before and after.
    pub(super) async fn make_around(&self, pool: &PgPool, now: Timestamp) -> Result<(), StoreError> {
        let Some(month) = Month::of(now) else { return Ok(()) };
        self.make(pool, [month.before(), Some(month), month.after()].into_iter().flatten()).await
    }

    /// Makes partitions for all facts of a batch. Facts outside of the calendar get none; the
    /// database will refuse them.
    pub(super) async fn make_for(&self, pool: &PgPool, batch: &[Append]) -> Result<(), StoreError> {
        let times = batch.iter().flat_map(|append| &append.facts).map(|fact| fact.at);
        // Facts of one month stand together, and telling a month is work.
        let (mut months, mut span) = (BTreeSet::new(), 0..0);
        for at in times {
            if !span.contains(&at.millis())
                && let Some(month) = Month::of(at)
            {
                span = month.start()..month.after().map_or(i64::MAX, Month::start);
                months.insert(month);
            }
        }
        self.make(pool, months.into_iter()).await
    }

    /// Forgets what is known, after a partition turned out to be missing.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    async fn make(&self, pool: &PgPool, months: impl Iterator<Item = Month>) -> Result<(), StoreError> {
        let missing: BTreeSet<_> = {
            let known = self.known();
            months.filter(|month| !known.contains(month)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let mut connection = answered(pool.acquire()).await?;
        answered(make_missing(&mut connection, &missing)).await?;
        self.known().extend(missing);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Month>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make_missing(connection: &mut PgConnection, months: &BTreeSet<Month>) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(LOCK).execute(&mut *transaction).await?;
    let existing: Vec<String> = sqlx::query_scalar(EXISTING).fetch_all(&mut *transaction).await?;
    for month in months.iter().filter(|month| !existing.contains(&month.table())) {
        let Some(statement) = month.statement() else { continue };
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(at: &str) -> Month {
        Month::of(at.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_month_begins_with_its_first_millisecond_and_ends_before_the_next() {
        let december = month("2026-12-31T23:59:59.999Z");
        assert_eq!(december, month("2026-12-01T00:00:00.000Z"));
        assert_eq!(december.after(), Some(month("2027-01-01T00:00:00.000Z")));
        assert_eq!(december.before(), Some(month("2026-11-30T23:59:59.999Z")));
        assert_eq!(december.start(), "2026-12-01T00:00:00Z".parse::<Timestamp>().unwrap().millis());
        assert_eq!(december.table(), "facts_2026_12");
    }

    #[test]
    fn a_time_outside_of_the_calendar_has_no_month() {
        for millis in [i64::MIN, i64::MAX] {
            assert_eq!(Month::of(Timestamp::from_millis(millis)), None);
        }
    }
}
