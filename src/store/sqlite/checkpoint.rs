//! Moving the write-ahead log into the file beside the appends, not within them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sqlx::SqlitePool;

/// Facts after which the log is moved: about 4,000 pages of 4 KiB.
const FACTS_BETWEEN: usize = 2_000;

/// Never waits for the writer nor for readers; what it cannot move yet, it leaves for later.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Moves the log from time to time on a connection of its own.
#[derive(Clone)]
pub(super) struct Checkpointer {
    pool: SqlitePool,
    facts: Arc<AtomicUsize>,
    is_moving: Arc<AtomicBool>,
}

impl Checkpointer {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self { pool, facts: Arc::default(), is_moving: Arc::default() }
    }

    /// Counts facts just stored, and starts to move the log when there are enough of them.
    pub(super) fn count(&self, facts: usize) {
        let waiting = self.facts.fetch_add(facts, Ordering::Relaxed) + facts;
        if waiting < FACTS_BETWEEN || self.is_moving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.facts.store(0, Ordering::Relaxed);
        let this = self.clone();
        tokio::spawn(async move {
            // The writer moves the log itself once it has grown too long, so a failure costs nothing.
            if let Err(error) = sqlx::query(MOVE).execute(&this.pool).await {
                tracing::warn!(%error, "cannot move the write-ahead log into the database");
            }
            this.is_moving.store(false, Ordering::Release);
        });
    }

    /// Whether it is at work.
    #[cfg(test)]
    pub(super) fn is_moving(&self) -> bool {
        self.is_moving.load(Ordering::Acquire)
    }

    /// Closes the connection once it is idle.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
