//! Jobs in the process: those that can be taken, those that wait for another try, the dead.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::domain::time::Millis;
use crate::store::bus::{Delivery, Job, RETURNS_LIMIT, Verdict, WorkQueue, Worker};
use crate::store::error::StoreError;
use crate::store::memory::lock;

/// Jobs that a queue holds besides those that are being worked on; more are refused.
const JOBS_KEPT: usize = 100_000;
/// Dead jobs that a queue holds; the oldest go first.
const DEAD_KEPT: usize = 10_000;

/// The jobs of one queue.
#[derive(Default)]
pub(super) struct Jobs {
    places: Mutex<Places>,
    /// Wakes the workers whenever a job was laid down.
    came: Notify,
}

#[derive(Default)]
struct Places {
    ready: VecDeque<Held>,
    /// The one that is due first comes first.
    later: BinaryHeap<Reverse<Later>>,
    dead: VecDeque<Job>,
    /// Number of the last job that was laid down to wait; keeps their order.
    turn: u64,
}

/// A job and what is known of its tries.
struct Held {
    job: Job,
    attempt: u32,
    /// How often it came back without a verdict during this attempt.
    returns: u32,
}

/// A job that waits for another try.
struct Later {
    due: Instant,
    turn: u64,
    held: Held,
}

impl Later {
    const fn order(&self) -> (Instant, u64) {
        (self.due, self.turn)
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Places {
    /// The next job, or when the first of those that wait is due.
    fn take(&mut self, now: Instant) -> Result<Held, Option<Instant>> {
        while self.later.peek().is_some_and(|Reverse(later)| later.due <= now) {
            self.ready.extend(self.later.pop().map(|Reverse(later)| later.held));
        }
        let first_due = self.later.peek().map(|Reverse(later)| later.due);
        self.ready.pop_front().ok_or(first_due)
    }

    fn wait(&mut self, held: Held, wait: Millis) {
        self.turn += 1;
        self.later.push(Reverse(Later { due: Instant::now() + wait.duration(), turn: self.turn, held }));
    }

    fn bury(&mut self, job: Job, name: &str) {
        if self.dead.len() >= DEAD_KEPT {
            self.dead.pop_front();
            warn!(queue.name = name, "too many dead jobs; the oldest is forgotten");
        }
        self.dead.push_back(job);
    }
}

impl Jobs {
    /// Lays jobs down to be taken, all or none.
    pub(super) fn put(&self, name: &str, jobs: &[Job]) -> Result<(), StoreError> {
        let mut places = lock(&self.places);
        if places.ready.len() + places.later.len() + jobs.len() > JOBS_KEPT {
            return Err(StoreError::Unavailable(format!("queue {name} is full")));
        }
        places.ready.extend(jobs.iter().map(|job| Held { job: job.clone(), attempt: 1, returns: 0 }));
        drop(places);
        self.came.notify_waiters();
        Ok(())
    }

    /// The dead jobs, oldest first.
    pub(super) fn dead(&self, limit: usize) -> Vec<Job> {
        lock(&self.places).dead.iter().take(limit).cloned().collect()
    }

    async fn take(&self) -> Held {
        loop {
            // It hears of jobs from here on, so that none comes unnoticed between look and wait.
            let came = self.came.notified();
            let first_due = match lock(&self.places).take(Instant::now()) {
                Ok(held) => return held,
                Err(first_due) => first_due,
            };
            match first_due {
                None => came.await,
                Some(due) => tokio::select! {
                    () = came => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// Puts a job where its verdict sends it; without one it is first in line again.
    fn settle(&self, mut held: Held, verdict: Option<Verdict>, queue: &WorkQueue) {
        let mut places = lock(&self.places);
        match (verdict, queue.wait_after(held.attempt)) {
            (Some(Verdict::Done), _) => {}
            (Some(Verdict::Retry), Some(wait)) => {
                let held = Held { job: held.job, attempt: held.attempt.saturating_add(1), returns: 0 };
                places.wait(held, wait);
            }
            (Some(Verdict::Retry), None) | (Some(Verdict::Dead), _) => places.bury(held.job, &queue.name),
            (None, _) if held.returns >= RETURNS_LIMIT => places.bury(held.job, &queue.name),
            (None, _) => {
                held.returns += 1;
                places.ready.push_front(held);
            }
        }
        drop(places);
        self.came.notify_waiters();
    }
}

/// Takes jobs out of one queue.
pub(super) struct MemoryWorker {
    queue: Arc<WorkQueue>,
    jobs: Arc<Jobs>,
    /// One permit for each job without a verdict.
    hands: Arc<Semaphore>,
    closed: CancellationToken,
}

impl MemoryWorker {
    pub(super) fn new(queue: WorkQueue, jobs: Arc<Jobs>, prefetch: u16, closed: CancellationToken) -> Self {
        let hands = Arc::new(Semaphore::new(usize::from(prefetch.max(1))));
        Self { queue: Arc::new(queue), jobs, hands, closed }
    }

    async fn take(&self) -> Option<MemoryDelivery> {
        let hand = self.hands.clone().acquire_owned().await.ok()?;
        let held = self.jobs.take().await;
        let (queue, jobs, attempt) = (self.queue.clone(), self.jobs.clone(), held.attempt);
        let (job, returns) = (held.job, held.returns);
        Some(MemoryDelivery { job, attempt, returns, is_settled: false, queue, jobs, _hand: hand })
    }
}

#[async_trait]
impl Worker for MemoryWorker {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            delivery = self.take() => delivery.map(|delivery| Box::new(delivery) as Box<dyn Delivery>),
        }
    }
}

/// A job that was taken.
struct MemoryDelivery {
    job: Job,
    attempt: u32,
    returns: u32,
    is_settled: bool,
    queue: Arc<WorkQueue>,
    jobs: Arc<Jobs>,
    _hand: OwnedSemaphorePermit,
}

impl MemoryDelivery {
    fn end(&mut self, verdict: Option<Verdict>) {
        if !std::mem::replace(&mut self.is_settled, true) {
            let job = std::mem::replace(&mut self.job, Job { id: String::new(), body: String::new() });
            let held = Held { job, attempt: self.attempt, returns: self.returns };
            self.jobs.settle(held, verdict, &self.queue);
        }
    }
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn job(&self) -> &Job {
        &self.job
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), StoreError> {
        self.end(Some(verdict));
        Ok(())
    }
}

impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        self.end(None);
    }
}
