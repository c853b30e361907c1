//! Statements for many rows at once, and reading columns with a name for what is corrupt.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row, Sqlite, SqliteConnection, Type};
use uuid::Uuid;

use crate::store::error::StoreError;

/// A statement whose values are being bound.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// Rows per statement. Few sizes, so that few prepared statements are kept; the largest stays far
/// below SQLite's limit of 32,766 bound values.
const SIZES: [usize; 3] = [64, 8, 1];

/// One statement in the sizes above.
pub(super) struct ManyRows([String; SIZES.len()]);

impl ManyRows {
    /// A statement that takes rows of `columns` values between `head` and `tail`.
    pub(super) fn new(head: &str, columns: usize, tail: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        Self(SIZES.map(|size| format!("{head} {} {tail}", vec![row.as_str(); size].join(","))))
    }

    /// Takes as many items from the front as the largest fitting statement has rows.
    fn next<'a, T>(&'static self, items: &'a [T]) -> (&'static str, &'a [T], &'a [T]) {
        let fitting = SIZES.iter().zip(&self.0).find(|(size, _)| **size <= items.len());
        let Some((size, text)) = fitting else { return ("", items, &[]) };
        let (chunk, rest) = items.split_at(*size);
        (text, chunk, rest)
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
            let (text, chunk, behind) = self.next(rest);
            let query = chunk.iter().copied().fold(sqlx::query(text), &bind);
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
            let (text, chunk, behind) = self.next(rest);
            let query = chunk.iter().copied().fold(sqlx::query(text), &bind);
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
