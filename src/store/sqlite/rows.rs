//! Statements for many rows at once, and reading columns with a name for what is corrupt.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row, Sqlite, SqliteConnection, Type};
use uuid::Uuid;

use crate::store::error::StoreError;

/// A statement whose values are being bound.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// Rows per statement. Few sizes, so that few prepared statements are kept; the largest stays far
/// below SQLite's limit of 32,766 bound values. A statement with more room than rows is filled up
/// with rows of NULL, which it passes over: each statement is a way to the thread of the connection
/// and back, and under load that way costs more than the rows.
const SIZES: [usize; 4] = [256, 64, 16, 4];

/// One statement in the sizes above.
pub(super) struct ManyRows {
    texts: [String; SIZES.len()],
    columns: usize,
}

impl ManyRows {
    /// Inserts rows of `columns` values; `into` names table and columns, `tail` what becomes of
    /// rows that are there. The first value of a row is never NULL.
    pub(super) fn insert(into: &str, columns: usize, tail: &str) -> Self {
        Self::new(columns, |rows| {
            format!("{into} SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL {tail}")
        })
    }

    /// Finds rows whose key of `columns` values is one of those bound; `select` ends before `IN`.
    pub(super) fn find(select: &str, columns: usize) -> Self {
        Self::new(columns, |rows| format!("{select} IN (VALUES {rows})"))
    }

    fn new(columns: usize, text: impl Fn(String) -> String) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        Self { texts: SIZES.map(|size| text(vec![row.as_str(); size].join(","))), columns }
    }

    /// Takes the items of the next statement from the front, and binds them to it.
    fn next<'a, T: Copy>(
        &'static self,
        items: &'a [T],
        bind: impl Fn(Bound, T) -> Bound,
    ) -> (Bound, &'a [T]) {
        let sizes = SIZES.iter().zip(&self.texts);
        let fitting = sizes.rev().find(|(size, _)| **size >= items.len());
        let (size, text) = fitting.unwrap_or((&SIZES[0], &self.texts[0]));
        let (chunk, rest) = items.split_at(items.len().min(*size));
        let filled = chunk.iter().copied().fold(sqlx::query(text.as_str()), bind);
        let missing = (size - chunk.len()) * self.columns;
        ((0..missing).fold(filled, |query, _| query.bind(None::<i64>)), rest)
    }

    /// Runs the statement over all items; `bind` binds the values of one.
    pub(super) async fn execute<T: Copy + Sync>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, T) -> Bound + Send,
    ) -> Result<(), sqlx::Error> {
        let mut rest = items;
        while !rest.is_empty() {
            let (query, behind) = self.next(rest, &bind);
            query.execute(&mut *connection).await?;
            rest = behind;
        }
        Ok(())
    }

    /// Runs the statement over all items and collects the rows it finds.
    pub(super) async fn fetch<T: Copy + Sync>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, T) -> Bound + Send,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (query, behind) = self.next(rest, &bind);
            found.append(&mut query.fetch_all(&mut *connection).await?);
            rest = behind;
        }
        Ok(found)
    }
}

/// A row of a table, with what is needed to name it when a value of it cannot be understood.
pub(super) struct Reading<'r> {
    pub(super) row: &'r SqliteRow,
    pub(super) table: &'static str,
    /// The column that tells rows apart in messages: a position or a 16-byte id.
    pub(super) named_by: &'static str,
}

impl<'r> Reading<'r> {
    /// A value of one column.
    pub(super) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    /// A number that is never negative.
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|_| self.corrupt(column))
    }

    /// A UUID kept as 16 bytes.
    pub(super) fn uuid(&self, column: &'static str) -> Result<Uuid, StoreError> {
        Uuid::from_slice(self.get(column)?).map_err(|_| self.corrupt(column))
    }

    /// The error for a value that does not fit what we write.
    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        let number = self.row.try_get::<i64, _>(self.named_by).map(|number| number.to_string());
        let id = number.or_else(|_| self.row.try_get::<&[u8], _>(self.named_by).map(hex::encode));
        StoreError::Corrupt { table: self.table, column, id: id.unwrap_or_default() }
    }
}

/// A number as SQLite keeps it; it has no unsigned ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count of rows as SQLite takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
