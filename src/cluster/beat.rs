//! The beat: renews the node's lease on a thread of its own, with a runtime of its own.
//!
//! A busy engine must not miss beats, so nothing of the engine runs here. Whoever builds the [`Renewal`]
//! lets it connect inside `renew`: a connection that belongs to another runtime would wait for that one.
//! When the thread ends without having been told to, the lease ends with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::lease::{EndReason, LeaseHandle};
use super::standing::{Beat, BeatOutcome};
use crate::domain::node::NodeRef;
use crate::domain::time::Millis;
use crate::store::StoreError;
use crate::store::members::Heart;

/// Reports that may wait for the membership: 16 s of beats, far more than it may ever be late.
const REPORTS: usize = 64;

/// Where the lease is renewed.
#[async_trait]
pub trait Renewal: Send + Sync + 'static {
    /// Prolongs the lease by its full length from now; false when this run may not write any more.
    ///
    /// It is given up, and called again, when it has not ended within `limit`.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Fenced`] counts as false.
    async fn renew(&self, limit: Duration) -> Result<bool, StoreError>;
}

/// Renews through the store's own connection for it.
pub struct HeartRenewal {
    heart: Mutex<Box<dyn Heart>>,
    node: NodeRef,
    lease: Millis,
}

impl HeartRenewal {
    /// The lease of a node, renewed for `lease` each time.
    #[must_use]
    pub fn new(heart: Box<dyn Heart>, node: NodeRef, lease: Millis) -> Self {
        Self { heart: Mutex::new(heart), node, lease }
    }
}

#[async_trait]
impl Renewal for HeartRenewal {
    async fn renew(&self, limit: Duration) -> Result<bool, StoreError> {
        self.heart.lock().await.renew(&self.node, self.lease, limit).await
    }
}

/// Lengths that the beat works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatSettings {
    /// From the sending of one renewal to the next.
    pub every: Duration,
    /// How long a renewal may take before it is given up; well below the lease, so that another fits in.
    pub limit: Duration,
    /// Least pause after a renewal that took longer than `every`.
    pub pause: Duration,
}

/// How a renewal went.
#[derive(Debug, Clone)]
pub struct BeatReport {
    /// The moment before it was sent.
    pub sent_at: Instant,
    /// Until its end was known.
    pub took: Duration,
    /// Whether the lease was prolonged.
    pub result: Result<bool, StoreError>,
}

impl BeatReport {
    /// The same for the membership, whose time counts from `origin`.
    #[must_use]
    pub fn since(&self, origin: Instant) -> Beat {
        Beat {
            sent_at: self.sent_at.saturating_duration_since(origin),
            took: self.took,
            outcome: self.outcome(),
        }
    }
}

impl BeatReport {
    fn outcome(&self) -> BeatOutcome {
        match &self.result {
            Ok(true) => BeatOutcome::Renewed,
            Ok(false) | Err(StoreError::Fenced(_)) => BeatOutcome::Refused,
            Err(
                StoreError::Unavailable(_)
                | StoreError::InDoubt(_)
                | StoreError::Corrupt { .. }
                | StoreError::Exists(_)
                | StoreError::Changed
                | StoreError::Refused(_),
            ) => BeatOutcome::Failed,
        }
    }
}

/// What the beat has counted since its start.
#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    missed: AtomicU64,
    late: AtomicU64,
    longest: AtomicU64,
    unread: AtomicU64,
}

/// Counts of a beat since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeatCounts {
    /// Renewals that were sent.
    pub sent: u64,
    /// Those that did not prolong the lease.
    pub missed: u64,
    /// Those sent later than planned by half a beat or more: the machine did not let us run.
    pub late: u64,
    /// The longest renewal, in microseconds.
    pub longest_us: u64,
    /// Reports that were dropped as nobody read them.
    pub unread: u64,
}

/// The running beat; it stops when it is dropped.
#[derive(Debug)]
pub struct BeatThread {
    stop: watch::Sender<bool>,
    gone: oneshot::Receiver<()>,
    counters: Arc<Counters>,
}

impl BeatThread {
    /// Starts the thread; its reports come out of the receiver, which may be ignored.
    ///
    /// # Errors
    /// The system's, when it gives no thread or no runtime.
    pub fn start(
        renewal: Box<dyn Renewal>,
        lease: LeaseHandle,
        settings: BeatSettings,
    ) -> std::io::Result<(Self, mpsc::Receiver<BeatReport>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (reports, receiver) = mpsc::channel(REPORTS);
        let (going, gone) = oneshot::channel();
        let counters = Arc::new(Counters::default());
        let pulse =
            Pulse { renewal, end: EndOnLoss(lease), settings, reports, counters: Arc::clone(&counters) };
        std::thread::Builder::new().name("eml-beat".to_owned()).spawn(move || {
            runtime.block_on(pulse.run(stopped));
            // The connection of the renewal dies with the runtime, before anybody is told.
            drop(runtime);
            drop(going);
        })?;
        Ok((Self { stop, gone, counters }, receiver))
    }

    /// Stops renewing, without ending the lease, and waits until the thread has gone.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // It never sends: the end of the channel is the message.
        let _: Result<(), _> = self.gone.await;
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> BeatCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BeatCounts {
            sent: read(&self.counters.sent),
            missed: read(&self.counters.missed),
            late: read(&self.counters.late),
            longest_us: read(&self.counters.longest),
            unread: read(&self.counters.unread),
        }
    }
}

/// Ends the lease when the beat breaks down.
#[derive(Debug)]
struct EndOnLoss(LeaseHandle);

impl Drop for EndOnLoss {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(EndReason::BeatLost);
        }
    }
}

/// What lives on the thread.
struct Pulse {
    renewal: Box<dyn Renewal>,
    end: EndOnLoss,
    settings: BeatSettings,
    reports: mpsc::Sender<BeatReport>,
    counters: Arc<Counters>,
}

impl Pulse {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut due = Instant::now();
        loop {
            let sent_at = Instant::now();
            if sent_at.saturating_duration_since(due) >= self.settings.every / 2 {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
            }
            let result = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                result = self.renew() => result,
            };
            if !self.note(BeatReport { sent_at, took: sent_at.elapsed(), result }) {
                return;
            }
            due = (sent_at + self.settings.every).max(Instant::now() + self.settings.pause);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    async fn renew(&self) -> Result<bool, StoreError> {
        let limit = self.settings.limit;
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        tokio::time::timeout(limit, self.renewal.renew(limit)).await.unwrap_or_else(|_| {
            Err(StoreError::InDoubt(format!("the lease was not renewed within {} ms", limit.as_millis())))
        })
    }

    /// Tells lease, counters and membership; false when there is nothing left to renew.
    fn note(&self, report: BeatReport) -> bool {
        let micros = u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX);
        self.counters.longest.fetch_max(micros, Ordering::Relaxed);
        let outcome = report.outcome();
        match outcome {
            BeatOutcome::Renewed => self.end.0.renewed(report.sent_at),
            BeatOutcome::Refused => {
                tracing::error!("this run of the node may not write any more");
                self.end.0.end(EndReason::Fenced);
            }
            BeatOutcome::Failed => {
                let (duration_ms, error) = (micros / 1000, report.result.as_ref().err());
                tracing::warn!(?error, duration_ms, "the lease could not be renewed");
            }
        }
        if outcome != BeatOutcome::Renewed {
            self.counters.missed.fetch_add(1, Ordering::Relaxed);
        }
        // A membership that does not read is late anyway; a gap only makes it more careful.
        if self.reports.try_send(report).is_err() {
            self.counters.unread.fetch_add(1, Ordering::Relaxed);
        }
        outcome != BeatOutcome::Refused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const ALMOST: Duration = Duration::from_secs(59);
    const SETTINGS: BeatSettings = BeatSettings {
        every: Duration::from_millis(5),
        limit: Duration::from_millis(500),
        pause: Duration::from_millis(1),
    };

    enum Step {
        Yes,
        No,
        Fail,
        Stall,
        Panic,
    }

    /// Does its steps one by one, then says yes.
    struct Scripted(Mutex<VecDeque<Step>>);

    #[async_trait]
    impl Renewal for Scripted {
        async fn renew(&self, _limit: Duration) -> Result<bool, StoreError> {
            let step = self.0.lock().unwrap().pop_front();
            match step {
                None | Some(Step::Yes) => Ok(true),
                Some(Step::No) => Ok(false),
                Some(Step::Fail) => Err(StoreError::Unavailable("away".to_owned())),
                Some(Step::Stall) => std::future::pending().await,
                Some(Step::Panic) => panic!("planned"),
            }
        }
    }

    fn start(
        steps: impl IntoIterator<Item = Step>,
        settings: BeatSettings,
    ) -> (BeatThread, mpsc::Receiver<BeatReport>, LeaseHandle, Instant) {
        let renewal = Box::new(Scripted(Mutex::new(steps.into_iter().collect())));
        let registered_at = Instant::now();
        let lease = LeaseHandle::new(LONG, Duration::ZERO, registered_at);
        let (beat, reports) = BeatThread::start(renewal, lease.clone(), settings).unwrap();
        (beat, reports, lease, registered_at)
    }

    #[tokio::test]
    async fn each_renewal_prolongs_the_lease_from_its_sending() {
        let (beat, mut reports, lease, registered_at) = start([], SETTINGS);
        let first = reports.recv().await.unwrap();
        let second = reports.recv().await.unwrap();
        assert!(matches!(second.result, Ok(true)));
        assert!(second.sent_at >= first.sent_at + SETTINGS.every);
        assert!(lease.is_held_at(second.sent_at + ALMOST));
        let told = second.since(registered_at);
        assert_eq!(told.outcome, BeatOutcome::Renewed);
        assert_eq!(told.sent_at, second.sent_at - registered_at);
        beat.stop().await;
        assert!(lease.is_held(), "to stop is not to end");
    }

    #[tokio::test]
    async fn a_failure_prolongs_nothing_and_is_tried_again() {
        let (beat, mut reports, lease, registered_at) = start([Step::Fail], SETTINGS);
        let failed = reports.recv().await.unwrap();
        assert!(matches!(failed.result, Err(StoreError::Unavailable(_))));
        assert_eq!(failed.since(registered_at).outcome, BeatOutcome::Failed);
        let good = reports.recv().await.unwrap();
        assert!(lease.is_held_at(good.sent_at + ALMOST));
        assert_eq!(beat.counts().missed, 1);
        assert!(beat.counts().sent >= 2);
        beat.stop().await;
    }

    #[tokio::test]
    async fn a_renewal_that_stalls_is_given_up_and_the_next_one_counts() {
        let settings = BeatSettings { limit: Duration::from_millis(30), ..SETTINGS };
        let (beat, mut reports, lease, _) = start([Step::Stall], settings);
        let stalled = reports.recv().await.unwrap();
        assert!(matches!(stalled.result, Err(StoreError::InDoubt(_))));
        assert!(stalled.took >= settings.limit);
        let good = reports.recv().await.unwrap();
        assert!(matches!(good.result, Ok(true)));
        assert!(lease.is_held_at(good.sent_at + ALMOST));
        assert!(beat.counts().longest_us >= 30_000);
        beat.stop().await;
    }

    #[tokio::test]
    async fn a_refusal_ends_the_lease_and_the_beat() {
        let (beat, mut reports, lease, registered_at) = start([Step::Yes, Step::No], SETTINGS);
        assert!(matches!(reports.recv().await.unwrap().result, Ok(true)));
        assert_eq!(reports.recv().await.unwrap().since(registered_at).outcome, BeatOutcome::Refused);
        assert!(reports.recv().await.is_none(), "the thread has gone");
        assert_eq!(lease.held().await.unwrap_err().0, EndReason::Fenced);
        beat.stop().await;
    }

    #[tokio::test]
    async fn a_beat_that_breaks_down_ends_the_lease() {
        let (beat, mut reports, lease, _) = start([Step::Yes, Step::Panic], SETTINGS);
        assert_eq!(lease.ended().await.0, EndReason::BeatLost);
        assert!(matches!(reports.recv().await.unwrap().result, Ok(true)));
        assert!(reports.recv().await.is_none());
        beat.stop().await;
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_renewal_that_stalls() {
        let settings = BeatSettings { limit: LONG, ..SETTINGS };
        let (beat, mut reports, lease, _) = start([Step::Yes, Step::Stall], settings);
        assert!(reports.recv().await.is_some());
        beat.stop().await;
        assert!(reports.recv().await.is_none());
        assert!(lease.is_held());
    }

    #[tokio::test]
    async fn a_beat_goes_on_when_nobody_reads_its_reports() {
        let settings = BeatSettings { every: Duration::from_millis(1), ..SETTINGS };
        let (beat, reports, _, _) = start([], settings);
        while beat.counts().unread == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(reports.len(), REPORTS);
        beat.stop().await;
    }
}
