//! How far readers of the journal have come.

use std::sync::LazyLock;

use sqlx::SqlitePool;

use super::errors;
use super::rows::{ManyRows, Reading, signed};
use super::writer::Writer;
use crate::store::error::StoreError;

const OF_READER: &str = "SELECT shard, position FROM outbox_cursors WHERE reader = ? ORDER BY shard";

static ADVANCE: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        "INSERT INTO outbox_cursors (reader, shard, position)",
        3,
        "ON CONFLICT (reader, shard) DO UPDATE SET position = max(position, excluded.position)",
    )
});

/// The cursors of a reader, by shard.
pub(super) async fn read(readers: &SqlitePool, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
    let query = sqlx::query(OF_READER).bind(reader);
    let rows = query.fetch_all(readers).await.map_err(|error| errors::from(&error))?;
    let cursor = |row| {
        let reading = Reading { row, table: "outbox_cursors", named_by: "shard" };
        Ok((reading.get("shard")?, reading.number("position")?))
    };
    rows.iter().map(cursor).collect()
}

/// Moves cursors of a reader forward, all or none.
pub(super) async fn advance(writer: &Writer, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
    let mut transaction = writer.begin().await?;
    let moved = ADVANCE.execute(transaction.connection(), cursors, |query, (shard, position)| {
        query.bind(reader).bind(shard).bind(signed(position))
    });
    match moved.await {
        Ok(()) => transaction.commit().await,
        Err(error) => {
            transaction.roll_back().await;
            Err(errors::from(&error))
        }
    }
}
