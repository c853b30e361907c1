//! The partitions of facts: one table per month of `at`, in UTC.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Datelike as _, Months, NaiveDate};
use sqlx::{AssertSqlSafe, PgPool};

use super::errors;
use crate::domain::time::{Clock, Timestamp};
use crate::store::error::StoreError;

/// Months made ahead of time, the present one among them.
const AHEAD: u32 = 3;
/// Taken while partitions are made, so that nodes that start together do not cross each other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(715623)";

/// A month in UTC, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(NaiveDate);

impl Month {
    /// The month a time falls into. Times that no calendar reaches fall into its first month.
    pub(super) fn of(at: Timestamp) -> Self {
        let day = DateTime::from_timestamp_millis(at.millis()).map(|time| time.date_naive());
        Self(day.and_then(|day| day.with_day(1)).unwrap_or_default())
    }

    fn next(self) -> Self {
        Self(self.0.checked_add_months(Months::new(1)).unwrap_or(self.0))
    }

    fn starts_at(self) -> i64 {
        self.0.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()
    }

    fn statement(self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS facts_{:04}_{:02} PARTITION OF facts FOR VALUES FROM ({}) TO ({})",
            self.0.year(),
            self.0.month(),
            self.starts_at(),
            self.next().starts_at()
        )
    }
}

/// The partitions that are known to exist.
#[derive(Clone, Default)]
pub(super) struct Partitions(Arc<Mutex<BTreeSet<Month>>>);

impl Partitions {
    /// Makes those of this month and the next ones.
    pub(super) async fn make_ahead(&self, pool: &PgPool) -> Result<(), StoreError> {
        let mut month = Month::of(Clock.now());
        let mut months = BTreeSet::new();
        for _ in 0..AHEAD {
            months.insert(month);
            month = month.next();
        }
        self.make(pool, months).await
    }

    /// Makes those that facts of these times need.
    pub(super) async fn make_for(
        &self,
        pool: &PgPool,
        times: impl Iterator<Item = Timestamp>,
    ) -> Result<(), StoreError> {
        let mut needed: BTreeSet<_> = times.map(Month::of).collect();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            needed.retain(|month| !known.contains(month));
        }
        if needed.is_empty() { Ok(()) } else { self.make(pool, needed).await }
    }

    async fn make(&self, pool: &PgPool, months: BTreeSet<Month>) -> Result<(), StoreError> {
        let translated = |error: sqlx::Error| errors::from(&error);
        let mut transaction = pool.begin().await.map_err(translated)?;
        sqlx::query(LOCK).execute(&mut *transaction).await.map_err(translated)?;
        for month in &months {
            let statement = AssertSqlSafe(month.statement());
            sqlx::query(statement).execute(&mut *transaction).await.map_err(translated)?;
        }
        transaction.commit().await.map_err(translated)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(months);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let at = |text: &str| {
            Timestamp::from_millis(DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
        };
        let december = Month::of(at("2026-12-31T23:59:59.999Z"));
        assert_eq!(december.next(), Month::of(at("2027-01-01T00:00:00Z")));
        assert_eq!(december, Month::of(at("2026-12-01T00:00:00Z")));
        assert_eq!(
            december.statement(),
            "CREATE TABLE IF NOT EXISTS facts_2026_12 PARTITION OF facts FOR VALUES FROM (1796083200000) TO \
             (1798761600000)"
        );
    }
}
