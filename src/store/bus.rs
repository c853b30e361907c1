//! The bus: every fact as an event for the outside, and queues of work with acknowledgement.
//!
//! Delivery is at least once; who receives drops what it has seen by the event's id. Products: in
//! process and `RabbitMQ`. Both pass the contract suite in `tests/it/bus_contract.rs`.

use std::sync::Arc;

use async_trait::async_trait;

use super::error::StoreError;
use super::inspection::Inspection;
use super::memory::MemoryBus;
use super::rabbitmq::{self, RabbitBus};
use crate::domain::event::Event;
use crate::domain::time::Millis;

/// The URL of the bus in this process.
pub const IN_PROCESS: &str = "memory:";

/// A queue of work that several nodes share; each job goes to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkQueue {
    /// Its name, as in `eml.work.notifications`.
    pub name: String,
    /// How long a job that is to be tried again waits, by attempt: the first entry after the first
    /// attempt. A job that failed more often than that is dead: it moves to `<name>.dead`.
    pub retry_after: Vec<Millis>,
}

/// How often a job may come back without a verdict, per attempt, before it is dead: it is taken for
/// one that brings down whoever takes it. High, since a job that only waited beside such a one counts
/// as well.
pub const RETURNS_LIMIT: u32 = 100;

impl WorkQueue {
    /// How long a job waits after an attempt, counted from 1; `None` when that was the last.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Millis> {
        let step = usize::try_from(attempt).ok()?.checked_sub(1)?;
        self.retry_after.get(step).copied()
    }
}

/// One job of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Unique name; the receiver drops what it has done by it.
    pub id: String,
    /// Its content, JSON.
    pub body: String,
}

/// What becomes of a job that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done and leaves the queue.
    Done,
    /// It comes again after the wait of its attempt, or is dead when it was the last.
    Retry,
    /// It is dead at once: trying again cannot help.
    Dead,
}

/// A job that was taken and waits for its verdict. One that is dropped without comes again.
#[async_trait]
pub trait Delivery: Send {
    /// The job.
    fn job(&self) -> &Job;

    /// Which attempt this is, from 1. Deliveries that ended without a verdict do not count.
    fn attempt(&self) -> u32;

    /// Gives the verdict.
    ///
    /// # Errors
    /// When the bus cannot be reached; the job comes again then.
    async fn settle(self: Box<Self>, verdict: Verdict) -> Result<(), StoreError>;
}

/// Events as they come in.
///
/// Waiting for the next one may be given up at any time; none is lost by that.
#[async_trait]
pub trait Subscription: Send {
    /// The next event; waits over outages of the bus. `None` when the bus was closed for good.
    async fn next(&mut self) -> Option<Event>;
}

/// Jobs as they come in.
///
/// Waiting for the next one may be given up at any time; none is lost by that.
#[async_trait]
pub trait Worker: Send {
    /// The next job; waits over outages of the bus. `None` when the bus was closed for good.
    async fn next(&mut self) -> Option<Box<dyn Delivery>>;
}

/// Where events and work go.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes events, in order; returns when the bus has taken all of them to its keeping.
    ///
    /// # Errors
    /// When it cannot be known whether all were taken: publish all of them again.
    async fn publish(&self, events: &[Event]) -> Result<(), StoreError>;

    /// Events from now on whose type is like `pattern`, in which `*` stands for anything. A
    /// subscriber that falls far behind, or whose bus is away, loses events; who needs all of them
    /// reads the journal.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn subscribe(&self, pattern: &str) -> Result<Box<dyn Subscription>, StoreError>;

    /// Puts jobs into a queue; returns when the bus has taken all of them to its keeping.
    ///
    /// # Errors
    /// When it cannot be known whether all were taken: put all of them again.
    async fn enqueue(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError>;

    /// Takes jobs out of a queue, `prefetch` at most without a verdict at a time.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn work(&self, queue: &WorkQueue, prefetch: u16) -> Result<Box<dyn Worker>, StoreError>;

    /// The dead jobs of a queue, oldest first, `limit` at most; they stay where they are.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    async fn dead(&self, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// Whether anybody may take an event that is published now.
    fn has_listeners(&self) -> bool;

    /// Whether the bus can be reached.
    ///
    /// # Errors
    /// When it cannot.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What the product says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn inspect(&self) -> Result<Inspection, StoreError>;
}

/// Opens the bus behind a URL: `memory:` for this process, `amqp://…` or `amqps://…`.
///
/// # Errors
/// `Refused` for any other URL. A bus that is away is no error here.
pub async fn open(url: &str) -> Result<Arc<dyn Bus>, StoreError> {
    if rabbitmq::SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(Arc::new(RabbitBus::open(url).await?));
    }
    if url == IN_PROCESS {
        return Ok(Arc::new(MemoryBus::default()));
    }
    Err(StoreError::Refused(format!("bus URL must be `amqp://…`, `amqps://…` or `{IN_PROCESS}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_by_its_attempt_and_is_dead_after_the_last() {
        let queue = WorkQueue { name: "eml.work.test".into(), retry_after: vec![Millis(10), Millis(200)] };
        let waits: Vec<_> = (0..4).map(|attempt| queue.wait_after(attempt)).collect();
        assert_eq!(waits, [None, Some(Millis(10)), Some(Millis(200)), None]);
    }
}
