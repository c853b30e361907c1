//! The shelf of the archive in the same file.

use std::ops::Range;
use std::sync::LazyLock;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::rows::{Bound, ManyRows, Reading, limit};
use super::{SqliteStore, errors};
use crate::store::archive::{Item, Shelf};
use crate::store::error::StoreError;

const INSERT: &str = "INSERT INTO archive_items (kind, id, subject, place, at, name, body, cause)";

static KEEP: LazyLock<ManyRows> =
    LazyLock::new(|| ManyRows::insert(INSERT, 8, "ON CONFLICT (kind, id) DO NOTHING"));

static REPLACE: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        INSERT,
        8,
        "ON CONFLICT (kind, id) DO UPDATE SET subject = excluded.subject, place = excluded.place, \
         at = excluded.at, name = excluded.name, body = excluded.body, \
         cause = excluded.cause",
    )
});

const ONE: &str =
    "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items WHERE kind = ? AND id = ?";
const ABOUT: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = ? AND subject = ? AND place >= ? ORDER BY place, id LIMIT ?";
const FORWARD: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = ? AND (at, id) > (?, ?) ORDER BY at, id LIMIT ?";
const BACKWARD: &str = "SELECT kind, id, subject, place, at, name, body, cause FROM archive_items \
     WHERE kind = ? AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?";
const COUNT: &str = "SELECT (SELECT count(*) FROM archive_items WHERE kind = ?1 AND at >= ?2 AND at < ?3) \
     + (SELECT count(*) FROM facts WHERE at >= ?2 AND at < ?3)";

/// Behind every id, as they are ASCII.
const LAST_ID: &str = "\u{10ffff}";

#[async_trait]
impl Shelf for SqliteStore {
    async fn put(&self, items: &[Item], replace: bool) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let items: Vec<_> = items.iter().collect();
        let statement = if replace { &REPLACE } else { &KEEP };
        let mut transaction = self.writer.begin().await?;
        match statement.execute(transaction.connection(), &items, bind).await {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                transaction.roll_back().await;
                Err(errors::from(&error))
            }
        }
    }

    async fn get(&self, kind: &str, id: &str) -> Result<Option<Item>, StoreError> {
        let query = sqlx::query(ONE).bind(kind).bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(|error| errors::from(&error))?;
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
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
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
        let rows = query.fetch_all(&self.readers).await.map_err(|error| errors::from(&error))?;
        rows.iter().map(item).collect()
    }

    async fn count_in(&self, kind: &str, span: Range<i64>) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(COUNT).bind(kind).bind(span.start).bind(span.end);
        let count = query.fetch_one(&self.readers).await.map_err(|error| errors::from(&error))?;
        Ok(count.unsigned_abs())
    }
}

fn bind(query: Bound, item: &Item) -> Bound {
    query
        .bind(&*item.kind)
        .bind(&*item.id)
        .bind(&*item.subject)
        .bind(item.place)
        .bind(item.at)
        .bind(&*item.name)
        .bind(&*item.body)
        .bind(item.cause.as_deref())
}

fn item(row: &SqliteRow) -> Result<Item, StoreError> {
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
