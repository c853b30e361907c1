//! The shelf of the archive in the same database.

use std::ops::Range;

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::rows::{Reading, limit};
use super::{PostgresStore, answered};
use crate::store::archive::{Item, Shelf};
use crate::store::error::StoreError;

const KEEP: &str = "INSERT INTO archive_items (kind, id, subject, place, at, name, body, cause) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
     $7::text[], $8::text[]) ON CONFLICT (kind, id) DO NOTHING";
const REPLACE: &str = "INSERT INTO archive_items (kind, id, subject, place, at, name, body, cause) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
     $7::text[], $8::text[]) ON CONFLICT (kind, id) DO UPDATE SET subject = excluded.subject, place = excluded.place, \
     at = excluded.at, name = excluded.name, body = excluded.body, \
     cause = excluded.cause";

const ONE: &str =
    "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items WHERE kind = $1 AND id = $2";
const ABOUT: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = $1 AND subject = $2 AND place >= $3 ORDER BY place, id LIMIT $4";
const FORWARD: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = $1 AND (at, id) > ($2, $3) ORDER BY at, id LIMIT $4";
const BACKWARD: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4";
const COUNT: &str = "SELECT (SELECT count(*) FROM archive_items WHERE kind = $1 AND at >= $2 AND at < $3) \
     + (SELECT count(*) FROM facts WHERE at >= $2 AND at < $3)";

/// Behind every id, as they are ASCII.
const LAST_ID: &str = "\u{10ffff}";

#[async_trait]
impl Shelf for PostgresStore {
    async fn put(&self, items: &[Item], replace: bool) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let texts = |value: fn(&Item) -> &String| items.iter().map(|item| value(item).as_str()).collect();
        let numbers = |value: fn(&Item) -> i64| items.iter().map(value).collect();
        let (kinds, ids, subjects): (Vec<&str>, Vec<&str>, Vec<&str>) =
            (texts(|item| &item.kind), texts(|item| &item.id), texts(|item| &item.subject));
        let (places, times): (Vec<i64>, Vec<i64>) = (numbers(|item| item.place), numbers(|item| item.at));
        let (names, bodies): (Vec<&str>, Vec<&str>) = (texts(|item| &item.name), texts(|item| &item.body));
        let query = sqlx::query(if replace { REPLACE } else { KEEP });
        let causes: Vec<Option<&str>> = items.iter().map(|item| item.cause.as_deref()).collect();
        let query = query.bind(kinds).bind(ids).bind(subjects).bind(places).bind(times).bind(names);
        let query = query.bind(bodies).bind(causes);
        answered(query.execute(&self.pool)).await.map(drop)
    }

    async fn get(&self, kind: &str, id: &str) -> Result<Option<Item>, StoreError> {
        let query = sqlx::query(ONE).bind(kind).bind(id);
        let row = answered(query.fetch_optional(&self.pool)).await?;
        row.as_ref().map(item).transpose()
    }

    async fn about(
        &self,
        kind: &str,
        subject: &str,
        from: i64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let query = sqlx::query(ABOUT).bind(kind).bind(subject).bind(from).bind(self::limit(limit));
        let rows = answered(query.fetch_all(&self.pool)).await?;
        rows.iter().map(item).collect()
    }

    async fn in_order(
        &self,
        kind: &str,
        behind: Option<(i64, String)>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let (text, first) = if ascending {
            (FORWARD, (i64::MIN, String::new()))
        } else {
            (BACKWARD, (i64::MAX, LAST_ID.to_owned()))
        };
        let (at, id) = behind.unwrap_or(first);
        let query = sqlx::query(text).bind(kind).bind(at).bind(id).bind(self::limit(limit));
        let rows = answered(query.fetch_all(&self.pool)).await?;
        rows.iter().map(item).collect()
    }

    async fn count_in(&self, kind: &str, span: Range<i64>) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(COUNT).bind(kind).bind(span.start).bind(span.end);
        let count = answered(query.fetch_one(&self.pool)).await?;
        Ok(count.unsigned_abs())
    }
}

fn item(row: &PgRow) -> Result<Item, StoreError> {
    let reading = Reading { row, table: "archive_items", named_by: "id" };
    Ok(Item {
        kind: reading.get("kind")?,
        id: reading.get("id")?,
        subject: reading.get("subject")?,
        place: reading.get("place")?,
        at: reading.get("at")?,
        name: reading.get("name")?,
        body: reading.get("body")?,
        cause: reading.get("cause")?,
    })
}
