//! Counters and a histogram of fixed size: what a load test reads afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Linear steps inside one power of two: values are exact to about 6 %.
const STEPS: u64 = 16;
/// Enough for microseconds up to about nine hours.
const BUCKETS: usize = 512;

/// How long webhooks took, in buckets that grow with the value.
pub(super) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    pub(super) fn record(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket_of(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The value below which `share` (0 to 1) of all records lie, in milliseconds.
    fn quantile_ms(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return 0.0;
        }
        let mut missing = as_float(total) * share;
        for (index, count) in counts.iter().enumerate() {
            missing -= as_float(*count);
            if missing <= 0.0 {
                return as_float(upper_bound(index)) / 1000.0;
            }
        }
        as_float(upper_bound(BUCKETS - 1)) / 1000.0
    }

    fn reset(&self) {
        for bucket in &self.0 {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds stay far below 2^52")]
fn as_float(value: u64) -> f64 {
    value as f64
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return usize::try_from(value).unwrap_or(0);
    }
    let power = u64::from(value.ilog2());
    let step = (value >> (power - 4)) - STEPS;
    usize::try_from((power - 3) * STEPS + step).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index + 1;
    }
    let (power, step) = (index / STEPS + 3, index % STEPS);
    (STEPS + step + 1) << (power - 4)
}

/// What the carrier has done since its start or the last reset.
pub(super) struct Stats {
    pub(super) calls_placed: AtomicU64,
    pub(super) legs_created: AtomicU64,
    pub(super) legs_active: AtomicU64,
    pub(super) calls_active: AtomicU64,
    pub(super) calls_completed: AtomicU64,
    pub(super) calls_bridged: AtomicU64,
    pub(super) calls_gave_up: AtomicU64,
    pub(super) webhooks_sent: AtomicU64,
    pub(super) webhooks_failed: AtomicU64,
    pub(super) webhooks_retried: AtomicU64,
    pub(super) webhooks_lost: AtomicU64,
    pub(super) webhooks_doubled: AtomicU64,
    pub(super) fallbacks: AtomicU64,
    pub(super) twiml_warnings: AtomicU64,
    pub(super) rest_requests: AtomicU64,
    pub(super) rest_mishaps: AtomicU64,
    pub(super) latency: Histogram,
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts one less.
pub(super) fn uncount(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

impl Stats {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            calls_placed: zero(),
            legs_created: zero(),
            legs_active: zero(),
            calls_active: zero(),
            calls_completed: zero(),
            calls_bridged: zero(),
            calls_gave_up: zero(),
            webhooks_sent: zero(),
            webhooks_failed: zero(),
            webhooks_retried: zero(),
            webhooks_lost: zero(),
            webhooks_doubled: zero(),
            fallbacks: zero(),
            twiml_warnings: zero(),
            rest_requests: zero(),
            rest_mishaps: zero(),
            latency: Histogram::new(),
        }
    }

    /// Sets everything to nothing, except what counts living calls and legs.
    pub(super) fn reset(&self) {
        for counter in [
            &self.calls_placed,
            &self.legs_created,
            &self.calls_completed,
            &self.calls_bridged,
            &self.calls_gave_up,
            &self.webhooks_sent,
            &self.webhooks_failed,
            &self.webhooks_retried,
            &self.webhooks_lost,
            &self.webhooks_doubled,
            &self.fallbacks,
            &self.twiml_warnings,
            &self.rest_requests,
            &self.rest_mishaps,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.latency.reset();
    }

    pub(super) fn view(&self) -> StatsView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsView {
            calls_placed: read(&self.calls_placed),
            calls_active: read(&self.calls_active),
            calls_completed: read(&self.calls_completed),
            calls_bridged: read(&self.calls_bridged),
            calls_gave_up: read(&self.calls_gave_up),
            legs_created: read(&self.legs_created),
            legs_active: read(&self.legs_active),
            webhooks_sent: read(&self.webhooks_sent),
            webhooks_failed: read(&self.webhooks_failed),
            webhooks_retried: read(&self.webhooks_retried),
            webhooks_lost: read(&self.webhooks_lost),
            webhooks_doubled: read(&self.webhooks_doubled),
            webhook_p50_ms: self.latency.quantile_ms(0.5),
            webhook_p99_ms: self.latency.quantile_ms(0.99),
            fallbacks: read(&self.fallbacks),
            twiml_warnings: read(&self.twiml_warnings),
            rest_requests: read(&self.rest_requests),
            rest_mishaps: read(&self.rest_mishaps),
        }
    }
}

/// The figures of a carrier at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct StatsView {
    /// Inbound calls placed.
    pub calls_placed: u64,
    /// Inbound calls that live now.
    pub calls_active: u64,
    /// Inbound calls that have ended.
    pub calls_completed: u64,
    /// Inbound calls that were joined with another party.
    pub calls_bridged: u64,
    /// Inbound calls whose caller lost patience before being joined.
    pub calls_gave_up: u64,
    /// Legs of every kind that were made.
    pub legs_created: u64,
    /// Legs of every kind that live now.
    pub legs_active: u64,
    /// Webhook requests sent, repeats included.
    pub webhooks_sent: u64,
    /// Webhooks that failed after all their repeats.
    pub webhooks_failed: u64,
    /// Webhook requests that were repeats after a failure.
    pub webhooks_retried: u64,
    /// Callbacks not sent because of chaos.
    pub webhooks_lost: u64,
    /// Callbacks sent twice because of chaos.
    pub webhooks_doubled: u64,
    /// Half of the webhook requests were answered within this many milliseconds.
    pub webhook_p50_ms: f64,
    /// 99 of 100 webhook requests were answered within this many milliseconds.
    pub webhook_p99_ms: f64,
    /// Requests to a fallback URL.
    pub fallbacks: u64,
    /// Elements in documents that the carrier does not know.
    pub twiml_warnings: u64,
    /// REST requests received.
    pub rest_requests: u64,
    /// REST requests that chaos failed or refused.
    pub rest_mishaps: u64,
}
