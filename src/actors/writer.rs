//! The writer: takes appends from all actors and commits them in groups.
//!
//! Supervised by the root. Its inbox is a bounded channel that outlives it: when the writer fails
//! it is started again and goes on with what waits there; appends whose batch was lost with it are
//! answered by the closing of their reply, and their actors load themselves anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::cluster::lease::{EndReason, LeaseHandle};
use crate::domain::backoff::Backoff;
use crate::domain::id::FactId;
use crate::domain::record::EntityRef;
use crate::domain::time::Millis;
use crate::seeded::{self, Bug};
use crate::store::StoreError;
use crate::store::journal::{Append, AppendOutcome, Journal};
use crate::telemetry::Metrics;

/// How often a commit without a clear outcome is looked up before its actors are told so.
const LOOK_UPS: usize = 6;
/// Delay between such look-ups.
const LOOK_UP_DELAY: Backoff = Backoff { first: Millis(20), factor: 2, longest: Millis(1_000) };

/// How the writer groups and bounds what it is given.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// Most facts in one commit.
    pub flush_rows: usize,
    /// How long to wait for more before a commit; 0 commits at once what is there.
    pub flush_after: Millis,
    /// Appends that may wait; beyond, those who append wait too.
    pub queue_rows: usize,
}

struct Job {
    append: Append,
    reply: oneshot::Sender<Result<AppendOutcome, StoreError>>,
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    jobs: mpsc::Sender<Job>,
    pending: Arc<AtomicUsize>,
    is_ok: Arc<std::sync::atomic::AtomicBool>,
    commits: watch::Sender<u64>,
    capacity: usize,
}

/// The writer's end of the channel; survives the writer.
pub(super) struct Inbox {
    jobs: Mutex<mpsc::Receiver<Job>>,
}

impl WriterHandle {
    /// A handle and the inbox that a writer must be started on.
    pub(super) fn new(settings: &WriterSettings) -> (Self, Arc<Inbox>) {
        let (sender, receiver) = mpsc::channel(settings.queue_rows.max(1));
        let handle = Self {
            jobs: sender,
            pending: Arc::default(),
            is_ok: Arc::new(std::sync::atomic::AtomicBool::new(true)),
            commits: watch::Sender::default(),
            capacity: settings.queue_rows.max(1),
        };
        (handle, Arc::new(Inbox { jobs: Mutex::new(receiver) }))
    }

    /// Stores facts; waits until they are durable.
    ///
    /// # Errors
    /// What the store says; `InDoubt` also when the writer failed meanwhile.
    pub async fn append(&self, append: Append) -> Result<AppendOutcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.pending.fetch_add(1, Ordering::Relaxed);
        let sent = self.jobs.send(Job { append, reply }).await;
        let outcome = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(StoreError::InDoubt("writer failed".to_owned()))),
            Err(_) => Err(StoreError::Unavailable("writer has stopped".to_owned())),
        };
        self.pending.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Appends that wait for their commit.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Changes with each commit.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Whether new work should be turned away: more than half of the inbox is taken.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.pending() * 2 > self.capacity
    }

    /// Whether the last commit succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.is_ok.load(Ordering::Relaxed)
    }

    /// Notes what a test of the store found.
    pub fn set_ok(&self, is_ok: bool) {
        self.is_ok.store(is_ok, Ordering::Relaxed);
    }
}

/// The actor.
pub(super) struct Writer;

/// What it is started with.
pub(super) struct Args {
    pub(super) settings: WriterSettings,
    pub(super) inbox: Arc<Inbox>,
    pub(super) handle: WriterHandle,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) metrics: Metrics,
    /// Ended when the journal says that others have taken over.
    pub(super) lease: LeaseHandle,
}

/// Its only message: take the next batch.
pub(super) struct NextBatch;

impl Actor for Writer {
    type Msg = NextBatch;
    type State = Args;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<NextBatch>, args: Args) -> Result<Args, ActorProcessingErr> {
        me.cast(NextBatch)?;
        Ok(args)
    }

    async fn handle(
        &self,
        me: ActorRef<NextBatch>,
        _next: NextBatch,
        state: &mut Args,
    ) -> Result<(), ActorProcessingErr> {
        let jobs = state.collect().await;
        if jobs.is_empty() {
            me.stop(Some("all senders are gone".to_owned()));
            return Ok(());
        }
        state.commit(jobs).await;
        me.cast(NextBatch)?;
        Ok(())
    }
}

impl Args {
    async fn collect(&self) -> Vec<Job> {
        let mut inbox = self.inbox.jobs.lock().await;
        let mut jobs = Vec::new();
        inbox.recv_many(&mut jobs, self.settings.flush_rows).await;
        if self.settings.flush_after.0 > 0 && !jobs.is_empty() && jobs.len() < self.settings.flush_rows {
            let room = self.settings.flush_rows - jobs.len();
            let more = inbox.recv_many(&mut jobs, room);
            let _ = tokio::time::timeout(self.settings.flush_after.duration(), more).await;
        }
        jobs
    }

    async fn commit(&self, jobs: Vec<Job>) {
        let started = Instant::now();
        let facts = jobs.iter().map(|job| job.append.facts.len()).sum::<usize>();
        let sent: Vec<_> = jobs.iter().map(|job| Sent::of(&job.append)).collect();
        let (appends, replies): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.append, job.reply)).unzip();
        if seeded::has(Bug::AckBeforeCommit) {
            for reply in replies {
                let _ = reply.send(Ok(AppendOutcome::Stored));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = self.journal.append(appends).await;
            return;
        }
        let result = match self.journal.append(appends).await {
            Err(StoreError::InDoubt(why)) => self.look_up(&sent, why).await,
            settled => settled,
        };
        self.handle.set_ok(result.is_ok());
        self.metrics.journal_commit(started.elapsed(), facts);
        match result {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
                self.handle.commits.send_modify(|commits| *commits += 1);
            }
            Err(error) => {
                tracing::error!(error = %error, facts, "journal did not store a batch");
                if matches!(error, StoreError::Fenced(_)) {
                    self.lease.end(EndReason::Fenced);
                }
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// A commit whose outcome is unknown is read back, never repeated.
    async fn look_up(&self, sent: &[Sent], why: String) -> Result<Vec<AppendOutcome>, StoreError> {
        for attempt in 0..LOOK_UPS {
            tokio::time::sleep(LOOK_UP_DELAY.delay(attempt).duration()).await;
            if let Ok(outcomes) = self.read_back(sent).await {
                return Ok(outcomes);
            }
        }
        Err(StoreError::InDoubt(why))
    }

    async fn read_back(&self, sent: &[Sent]) -> Result<Vec<AppendOutcome>, StoreError> {
        let mut stored = Vec::with_capacity(sent.len());
        for append in sent {
            let found = self.journal.facts(append.entity, append.after_seq, 1).await?;
            stored.push(match found.first() {
                Some(fact) if Some(fact.id) == append.first => AppendOutcome::Stored,
                Some(fact) => AppendOutcome::Conflict { found_seq: fact.seq },
                None => return Err(StoreError::Unavailable("batch was not stored".to_owned())),
            });
        }
        Ok(stored)
    }
}

/// What of an append must be known to find out later whether it was stored.
struct Sent {
    entity: EntityRef,
    after_seq: u64,
    first: Option<FactId>,
}

impl Sent {
    fn of(append: &Append) -> Self {
        let first = append.facts.first().map(|fact| fact.id);
        Self { entity: append.entity, after_seq: append.after_seq, first }
    }
}
