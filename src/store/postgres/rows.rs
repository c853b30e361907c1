//! Values on their way into the database, and reading columns with a name for what is corrupt.

use std::borrow::Cow;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Decode, Postgres, Row, Type};
use uuid::Uuid;

use crate::domain::record::{EntityKind, EntityRef};
use crate::store::error::StoreError;

/// A statement whose values are being bound.
pub(super) type Bound = Query<'static, Postgres, PgArguments>;

/// A row of a table, with what is needed to name it when a value of it cannot be understood.
pub(super) struct Reading<'r> {
    pub(super) row: &'r PgRow,
    pub(super) table: &'static str,
    /// The column that tells rows apart in messages.
    pub(super) named_by: &'static str,
}

impl<'r> Reading<'r> {
    /// A value of one column.
    pub(super) fn get<T: Decode<'r, Postgres> + Type<Postgres>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    /// A number that is never negative.
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|_| self.corrupt(column))
    }

    /// A shard.
    pub(super) fn shard(&self, column: &'static str) -> Result<u16, StoreError> {
        u16::try_from(self.get::<i16>(column)?).map_err(|_| self.corrupt(column))
    }

    /// The entity that a row is about.
    pub(super) fn entity(&self) -> Result<EntityRef, StoreError> {
        let kind = EntityKind::from_code(self.get::<i16>("entity_kind")?.into());
        let kind = kind.ok_or_else(|| self.corrupt("entity_kind"))?;
        Ok(EntityRef { kind, id: self.get("entity_id")? })
    }

    /// The error for a value that does not fit what we write.
    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        let number = self.row.try_get::<i64, _>(self.named_by).map(|number| number.to_string());
        let id = number.or_else(|_| {
            let id = self.row.try_get::<Uuid, _>(self.named_by);
            id.map(|id| id.simple().to_string())
        });
        let id = id.or_else(|_| self.row.try_get::<String, _>(self.named_by));
        StoreError::Corrupt { table: self.table, column, id: id.unwrap_or_default() }
    }
}

/// A text as PostgreSQL keeps it, which takes every character but NUL. Callers may be named with one,
/// and must not make a whole batch fail by it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// The stored number of a kind.
pub(super) fn kind(kind: EntityKind) -> i16 {
    i16::try_from(kind.code()).unwrap_or(i16::MAX)
}

/// A shard as PostgreSQL keeps it.
pub(super) fn shard(shard: u16) -> i16 {
    i16::try_from(shard).unwrap_or(i16::MAX)
}

/// Shards as PostgreSQL keeps them.
pub(super) fn shards(shards: &[u16]) -> Vec<i16> {
    shards.iter().map(|number| shard(*number)).collect()
}

/// A number as PostgreSQL keeps it; it has no unsigned ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count of rows as PostgreSQL takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
