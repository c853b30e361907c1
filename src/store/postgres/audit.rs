//! The audit trail: a chain that all nodes add to, one at a time.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::rows::{Reading, limit, signed, text};
use super::transaction::Transaction;
use super::{PostgresStore, answered};
use crate::domain::identity::{AuditEntry, Sealed};
use crate::store::audit::{AuditFilter, AuditLog, ChainEnd, Columns, Link, adopt_all, seal_all};
use crate::store::error::StoreError;

const END: &str = "SELECT number, hash FROM audit_end";
/// Held until the commit: who comes next builds on what it leaves.
const HOLD_END: &str = "SELECT number, hash FROM audit_end FOR UPDATE";
const INSERT: &str = "WITH moved AS (UPDATE audit_end SET number = $1, hash = $2) \
     INSERT INTO audit (number, at, what, actor, subject, body, hash) SELECT * FROM \
     unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[])";
const AFTER: &str = "SELECT number, at, what, actor, subject, body, hash FROM audit \
     WHERE number > $1 ORDER BY number LIMIT $2";

#[async_trait]
impl AuditLog for PostgresStore {
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
        answered(query.fetch_all(&self.pool)).await?.iter().map(|row| sealed(&reading(row))).collect()
    }

    async fn audit_after(&self, number: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        let query = sqlx::query(AFTER).bind(signed(number)).bind(self::limit(limit));
        answered(query.fetch_all(&self.pool)).await?.iter().map(|row| matching(&reading(row))).collect()
    }

    async fn audit_end(&self) -> Result<ChainEnd, StoreError> {
        end(&answered(sqlx::query(END).fetch_one(&self.pool)).await?)
    }
}

impl PostgresStore {
    /// Adds what is to come behind the end.
    async fn add(
        &self,
        link: impl FnOnce(ChainEnd) -> Result<(Vec<Link>, ChainEnd), StoreError> + Send,
    ) -> Result<u64, StoreError> {
        let mut transaction = Transaction::begin(&self.pool).await?;
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
    connection: &mut PgConnection,
    link: impl FnOnce(ChainEnd) -> Result<(Vec<Link>, ChainEnd), StoreError> + Send,
) -> Result<u64, StoreError> {
    let row = answered(sqlx::query(HOLD_END).fetch_one(&mut *connection)).await?;
    let (links, end) = link(end(&row)?)?;
    let (columns, sealed): (Vec<_>, Vec<_>) =
        links.into_iter().map(|link| (link.columns, link.sealed)).unzip();
    let query = sqlx::query(INSERT)
        .bind(signed(end.number))
        .bind(end.hash.to_vec())
        .bind(sealed.iter().map(|entry| signed(entry.number)).collect::<Vec<_>>())
        .bind(columns.iter().map(|entry| entry.at).collect::<Vec<_>>())
        .bind(columns.iter().map(|entry| kept(&entry.what)).collect::<Vec<_>>())
        .bind(columns.iter().map(|entry| entry.actor.clone()).collect::<Vec<_>>())
        .bind(columns.iter().map(|entry| entry.subject.as_deref().map(kept)).collect::<Vec<_>>())
        .bind(sealed.iter().map(|entry| entry.body.clone()).collect::<Vec<_>>())
        .bind(sealed.iter().map(|entry| entry.hash.to_vec()).collect::<Vec<_>>());
    answered(query.execute(connection)).await?;
    Ok(end.number)
}

fn kept(word: &str) -> String {
    text(word).into_owned()
}

/// Adds the conditions of a filter.
fn push_filter(sql: &mut QueryBuilder<Postgres>, filter: &AuditFilter) {
    if let Some(what) = &filter.what {
        match what.strip_suffix('*') {
            Some(start) => {
                sql.push(" AND what >= ").push_bind(kept(start));
                sql.push(" AND starts_with(what, ").push_bind(kept(start)).push(")");
            }
            None => drop(sql.push(" AND what = ").push_bind(kept(what))),
        }
    }
    if let Some(actor) = &filter.actor {
        sql.push(" AND actor = ").push_bind(kept(actor));
    }
    if let Some(subject) = &filter.subject {
        sql.push(" AND subject = ").push_bind(kept(subject));
    }
    if let Some(from) = filter.from {
        sql.push(" AND at >= ").push_bind(from.millis());
    }
    if let Some(until) = filter.until {
        sql.push(" AND at < ").push_bind(until.millis());
    }
}

fn reading(row: &PgRow) -> Reading<'_> {
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

fn end(row: &PgRow) -> Result<ChainEnd, StoreError> {
    let reading = Reading { row, table: "audit_end", named_by: "number" };
    Ok(ChainEnd { number: reading.number("number")?, hash: hash(&reading)? })
}

fn hash(reading: &Reading<'_>) -> Result<[u8; 32], StoreError> {
    reading.get::<&[u8]>("hash")?.try_into().map_err(|_| reading.corrupt("hash"))
}
