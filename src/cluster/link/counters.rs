//! What the transport counts, as numbers that may be read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one node's links, all peers together. They only grow, except where a gauge is named.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Frames written.
    pub frames_out: AtomicU64,
    /// Frames read.
    pub frames_in: AtomicU64,
    /// Bytes written, before encryption.
    pub bytes_out: AtomicU64,
    /// Bytes read, after decryption.
    pub bytes_in: AtomicU64,
    /// Gauge: our questions that have no answer yet.
    pub asks_in_flight: AtomicU64,
    /// Gauge: questions of peers that we have not answered yet.
    pub answers_in_flight: AtomicU64,
    /// Gauge: bytes that wait to be written.
    pub bytes_queued: AtomicU64,
    /// Questions and news that found no room.
    pub full: AtomicU64,
    /// Questions of peers that were refused since too many were under way.
    pub busy: AtomicU64,
    /// Questions whose deadline ended without an answer.
    pub timeouts: AtomicU64,
    /// Answers that came after their question had been given up.
    pub late_answers: AtomicU64,
    /// Frames that were skipped: too large, no JSON, or of a kind not known here.
    pub skipped: AtomicU64,
    /// Connections that came up, dialed or taken in.
    pub connects: AtomicU64,
    /// Connections that came up to a peer which had been connected before.
    pub reconnects: AtomicU64,
    /// Connections given up since the peer fell silent or did not read.
    pub silent: AtomicU64,
    /// Dials that a peer's host refused.
    pub refused: AtomicU64,
    /// Those who could not show who they are, or are not in the view.
    pub rejected: AtomicU64,
    /// Connections closed since too many had not said who they are.
    pub crowded: AtomicU64,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Takes from a gauge.
pub(super) fn take(gauge: &AtomicU64, count: usize) {
    gauge.fetch_sub(count as u64, Ordering::Relaxed);
}

/// One unit of a gauge, taken back when dropped.
pub(super) struct Raised<'a>(&'a AtomicU64);

impl<'a> Raised<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Self {
        add(gauge, 1);
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        take(self.0, 1);
    }
}
