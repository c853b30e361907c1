//! How far readers of the journal have come.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::rows::{Reading, shard, signed, text};
use super::{answered, written};
use crate::store::error::StoreError;

const OF_READER: &str = "SELECT shard, position FROM outbox_cursors WHERE reader = $1 ORDER BY shard";

const ADVANCE: &str = "INSERT INTO outbox_cursors (reader, shard, position) \
     SELECT $1, * FROM unnest($2::smallint[], $3::bigint[]) \
     ON CONFLICT (reader, shard) DO UPDATE SET position = excluded.position \
     WHERE outbox_cursors.position < excluded.position";

/// The cursors of a reader, by shard.
pub(super) async fn read(pool: &PgPool, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
    let rows = answered(sqlx::query(OF_READER).bind(text(reader)).fetch_all(pool)).await?;
    let cursor = |row| {
        let reading = Reading { row, table: "outbox_cursors", named_by: "position" };
        Ok((reading.shard("shard")?, reading.number("position")?))
    };
    rows.iter().map(cursor).collect()
}

/// Moves cursors of a reader forward, all or none. Doing it twice does no harm.
pub(super) async fn advance(pool: &PgPool, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
    // Each shard once and in order: one statement must not touch a row twice, and takes its locks in
    // the order of its rows.
    let mut furthest = BTreeMap::new();
    for (shard, position) in cursors {
        let place: &mut u64 = furthest.entry(*shard).or_default();
        *place = (*place).max(*position);
    }
    let query = sqlx::query(ADVANCE)
        .bind(text(reader))
        .bind(furthest.keys().map(|number| shard(*number)).collect::<Vec<_>>())
        .bind(furthest.values().map(|position| signed(*position)).collect::<Vec<_>>());
    let mut connection = answered(pool.acquire()).await?;
    written(query.execute(&mut *connection)).await.map(drop)
}
