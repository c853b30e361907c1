//! Reading columns with a name for what is corrupt, and numbers as PostgreSQL keeps them.

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

use crate::domain::record::{EntityKind, EntityRef};
use crate::store::error::StoreError;

/// A row of a table, with what is needed to name it when a value of it cannot be understood.
pub(super) struct Reading<'r> {
    pub(super) row: &'r PgRow,
    pub(super) table: &'static str,
    /// The column that tells rows apart in messages: a position, an id or a key.
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

    /// The entity of a row.
    pub(super) fn entity(&self) -> Result<EntityRef, StoreError> {
        let kind = EntityKind::from_code(i64::from(self.get::<i16>("entity_kind")?));
        let kind = kind.ok_or_else(|| self.corrupt("entity_kind"))?;
        Ok(EntityRef { kind, id: self.get("entity_id")? })
    }

    /// The error for a value that does not fit what we write.
    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        let name = self.named_by;
        let id = (self.row.try_get::<i64, _>(name).map(|number| number.to_string()))
            .or_else(|_| self.row.try_get::<Uuid, _>(name).map(|id| id.to_string()))
            .or_else(|_| self.row.try_get::<String, _>(name));
        StoreError::Corrupt { table: self.table, column, id: id.unwrap_or_default() }
    }
}

/// A number as PostgreSQL keeps it; it has no unsigned ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count of rows as PostgreSQL takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The number of a kind of entity.
pub(super) fn code(kind: EntityKind) -> i16 {
    i16::try_from(kind.code()).unwrap_or_default()
}
