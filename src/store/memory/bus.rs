//! Events and work in this process, with the semantics of the bus between nodes. Nothing of it
//! outlives the process: who needs that puts jobs in again from what is stored.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};

use crate::domain::event::{Event, is_like};
use crate::domain::time::Millis;
use crate::store::bus::{Bus, Delivery, Job, Subscription, Verdict, WorkQueue, Worker};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;

/// Events that a subscription may lag behind before it loses the oldest.
const LAG: usize = 8_192;
/// Jobs that may wait in a queue; more are refused.
const MOST_JOBS: usize = 100_000;
/// Dead jobs kept of a queue; the oldest give way.
const MOST_DEAD: usize = 10_000;

/// The bus of a node that needs no other.
pub struct MemoryBus {
    events: broadcast::Sender<Arc<Event>>,
    queues: Mutex<HashMap<String, Arc<Queue>>>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self { events: broadcast::channel(LAG).0, queues: Mutex::default() }
    }
}

/// A job with the number of its attempt.
struct Waiting {
    job: Job,
    attempt: u32,
}

#[derive(Default)]
struct Queue {
    shelves: Mutex<Shelves>,
    filled: Notify,
}

#[derive(Default)]
struct Shelves {
    ready: VecDeque<Waiting>,
    dead: VecDeque<Job>,
}

impl Queue {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, waiting: Waiting) {
        self.shelves().ready.push_back(waiting);
        self.filled.notify_one();
    }

    fn put_back(&self, waiting: Waiting) {
        self.shelves().ready.push_front(waiting);
        self.filled.notify_one();
    }

    fn bury(&self, job: Job) {
        let mut shelves = self.shelves();
        if shelves.dead.len() == MOST_DEAD {
            shelves.dead.pop_front();
        }
        shelves.dead.push_back(job);
    }
}

impl MemoryBus {
    fn queue(&self, queue: &WorkQueue) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(queue.name.clone()).or_default().clone()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, events: &[Event]) -> Result<(), StoreError> {
        if self.has_listeners() {
            for event in events {
                // The last listener may have gone meanwhile.
                let _ = self.events.send(Arc::new(event.clone()));
            }
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &str) -> Result<Box<dyn Subscription>, StoreError> {
        Ok(Box::new(Listener { events: self.events.subscribe(), pattern: pattern.to_owned() }))
    }

    async fn enqueue(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError> {
        let queue = self.queue(queue);
        if queue.shelves().ready.len() + jobs.len() > MOST_JOBS {
            return Err(StoreError::Unavailable("the queue is full".to_owned()));
        }
        for job in jobs {
            queue.put(Waiting { job: job.clone(), attempt: 1 });
        }
        Ok(())
    }

    async fn work(&self, queue: &WorkQueue, prefetch: u16) -> Result<Box<dyn Worker>, StoreError> {
        let room = Arc::new(Semaphore::new(usize::from(prefetch.max(1))));
        Ok(Box::new(Hand { queue: self.queue(queue), retry_after: queue.retry_after.clone().into(), room }))
    }

    async fn dead(&self, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.queue(queue).shelves().dead.iter().take(limit).cloned().collect())
    }

    fn has_listeners(&self) -> bool {
        self.events.receiver_count() > 0
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        Ok(Inspection::embedded("memory of this process"))
    }
}

struct Listener {
    events: broadcast::Receiver<Arc<Event>>,
    pattern: String,
}

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) if is_like(&event.kind, &self.pattern) => return Some((*event).clone()),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a listener does not keep up and lost the oldest events");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

struct Hand {
    queue: Arc<Queue>,
    retry_after: Arc<[Millis]>,
    room: Arc<Semaphore>,
}

#[async_trait]
impl Worker for Hand {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        let permit = self.room.clone().acquire_owned().await.ok()?;
        loop {
            let filled = self.queue.filled.notified();
            let next = self.queue.shelves().ready.pop_front();
            if let Some(waiting) = next {
                // One notice may stand for several jobs; whoever else waits looks too.
                self.queue.filled.notify_one();
                return Some(Box::new(Taken {
                    waiting: Some(waiting),
                    queue: self.queue.clone(),
                    retry_after: self.retry_after.clone(),
                    _permit: permit,
                    nothing: Job { id: String::new(), body: String::new() },
                }));
            }
            filled.await;
        }
    }
}

/// A job that was taken. When it is dropped without a verdict it goes back to the front.
struct Taken {
    waiting: Option<Waiting>,
    queue: Arc<Queue>,
    retry_after: Arc<[Millis]>,
    _permit: OwnedSemaphorePermit,
    /// What is shown once the job has its verdict, which nobody can see.
    nothing: Job,
}

#[async_trait]
impl Delivery for Taken {
    fn job(&self) -> &Job {
        self.waiting.as_ref().map_or(&self.nothing, |waiting| &waiting.job)
    }

    fn attempt(&self) -> u32 {
        self.waiting.as_ref().map_or(0, |waiting| waiting.attempt)
    }

    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), StoreError> {
        let Some(Waiting { job, attempt }) = self.waiting.take() else { return Ok(()) };
        let wait = self.retry_after.get(attempt as usize - 1).copied();
        match (verdict, wait) {
            (Verdict::Done, _) => {}
            (Verdict::Retry, Some(wait)) => {
                let queue = self.queue.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(wait.duration()).await;
                    queue.put(Waiting { job, attempt: attempt + 1 });
                });
            }
            (Verdict::Retry, None) | (Verdict::Dead, _) => self.queue.bury(job),
        }
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.queue.put_back(waiting);
        }
    }
}
