//! The audit trail: a chain that is only ever added to.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::rows::{Reading, limit, signed};
use super::{SqliteStore, errors};
use crate::domain::identity::{AuditEntry, Sealed};
use crate::store::audit::{AuditFilter, AuditLog, ChainEnd, Columns, Link, adopt_all, seal_all};
use crate::store::error::StoreError;

const END: &str = "SELECT number, hash FROM audit_end";
const INSERT: &str =
    "INSERT INTO audit (number, at, what, actor, subject, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?)";
const MOVE_END: &str = "UPDATE audit_end SET number = ?, hash = ?";
const AFTER: &str = "SELECT number, at, what, actor, subject, body, hash FROM audit \
     WHERE number > ? ORDER BY number LIMIT ?";

#[async_trait]
impl AuditLog for SqliteStore {
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError> {
        self.add(|end| seal_all(end, &entries)).await
    }

    async fn adopt_audit(&self, entries: Vec<Sealed>) -> Result<u64, StoreError> {
        self.add(|end| adopt_all(end, entries)).await
    }

    async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Sealed>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT number, body, hash FROM audit WHERE number < ");
        sql.push_bind(before.map_or(i64::MAX, signed));
        push_filter(&mut sql, filter);
        sql.push(" ORDER BY number DESC LIMIT ").push_bind(self::limit(limit));
        // Filters have too many forms to keep a prepared statement of each.
        let query = sql.build().persistent(false);
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| sealed(&reading(row))).collect()
    }

    async fn audit_after(&self, number: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        let query = sqlx::query(AFTER).bind(signed(number)).bind(self::limit(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(|row| matching(&reading(row))).collect()
    }

    async fn audit_end(&self) -> Result<ChainEnd, StoreError> {
        let row = sqlx::query(END).fetch_one(&self.readers).await.map_err(|error| errors::from(&error))?;
        end(&row)
    }
}

impl SqliteStore {
    /// Adds what is to come behind the end.
    async fn add(
        &self,
        link: impl FnOnce(ChainEnd) -> Result<(Vec<Link>, ChainEnd), StoreError> + Send,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.writer.begin().await?;
        match write(transaction.connection(), link).await {
            Ok(last) => transaction.commit().await.map(|()| last),
            Err(error) => {
                transaction.roll_back().await;
                Err(error)
            }
        }
    }
}

async fn write(
    connection: &mut SqliteConnection,
    link: impl FnOnce(ChainEnd) -> Result<(Vec<Link>, ChainEnd), StoreError> + Send,
) -> Result<u64, StoreError> {
    let row = sqlx::query(END).fetch_one(&mut *connection).await.map_err(|error| errors::from(&error))?;
    let (links, end) = link(end(&row)?)?;
    for Link { columns, sealed } in links {
        let query = sqlx::query(INSERT)
            .bind(signed(sealed.number))
            .bind(columns.at)
            .bind(columns.what)
            .bind(columns.actor)
            .bind(columns.subject)
            .bind(sealed.body)
            .bind(sealed.hash.to_vec());
        query.execute(&mut *connection).await.map_err(|error| errors::from(&error))?;
    }
    let query = sqlx::query(MOVE_END).bind(signed(end.number)).bind(end.hash.to_vec());
    query.execute(connection).await.map_err(|error| errors::from(&error))?;
    Ok(end.number)
}

/// Adds the conditions of a filter.
fn push_filter(sql: &mut QueryBuilder<Sqlite>, filter: &AuditFilter) {
    if let Some(what) = &filter.what {
        match what.strip_suffix('*') {
            Some(start) => {
                sql.push(" AND what >= ").push_bind(start.to_owned());
                sql.push(" AND substr(what, 1, length(").push_bind(start.to_owned());
                sql.push(")) = ").push_bind(start.to_owned());
            }
            None => drop(sql.push(" AND what = ").push_bind(what.clone())),
        }
    }
    if let Some(actor) = &filter.actor {
        sql.push(" AND actor = ").push_bind(actor.clone());
    }
    if let Some(subject) = &filter.subject {
        sql.push(" AND subject = ").push_bind(subject.clone());
    }
    if let Some(from) = filter.from {
        sql.push(" AND at >= ").push_bind(from.millis());
    }
    if let Some(until) = filter.until {
        sql.push(" AND at < ").push_bind(until.millis());
    }
}

fn reading(row: &SqliteRow) -> Reading<'_> {
    Reading { row, table: "audit", named_by: "number" }
}

fn sealed(reading: &Reading<'_>) -> Result<Sealed, StoreError> {
    Ok(Sealed { number: reading.number("number")?, body: reading.get("body")?, hash: hash(reading)? })
}

/// The same of one that is found by what it says.
fn matching(reading: &Reading<'_>) -> Result<Sealed, StoreError> {
    let columns = Columns {
        at: reading.get("at")?,
        what: reading.get("what")?,
        actor: reading.get("actor")?,
        subject: reading.get("subject")?,
    };
    let sealed = sealed(reading)?;
    if columns.belong_to(&sealed.body) { Ok(sealed) } else { Err(reading.corrupt("body")) }
}

fn end(row: &SqliteRow) -> Result<ChainEnd, StoreError> {
    let reading = Reading { row, table: "audit_end", named_by: "number" };
    Ok(ChainEnd { number: reading.number("number")?, hash: hash(&reading)? })
}

fn hash(reading: &Reading<'_>) -> Result<[u8; 32], StoreError> {
    reading.get::<&[u8]>("hash")?.try_into().map_err(|_| reading.corrupt("hash"))
}
