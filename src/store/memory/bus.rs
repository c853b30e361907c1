//! The bus in the process: the default of a node that runs alone.
//!
//! It keeps events for its subscribers and jobs for its workers until the process ends, as many as
//! its bounds allow.

mod jobs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use super::lock;
use crate::domain::event::{Event, is_like};
use crate::store::bus::{Bus, Job, Subscription, WorkQueue, Worker};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use jobs::{Jobs, MemoryWorker};

/// Events that wait for the slowest subscriber; a power of two, since the channel rounds up to one.
const EVENTS_KEPT: usize = 16_384;
/// Events that are published before the subscribers get a turn, far below what is kept for them.
const EVENTS_PER_TURN: usize = 1_024;

/// The bus in the process. It is closed for good when it is dropped.
pub struct MemoryBus {
    events: broadcast::Sender<Arc<Event>>,
    queues: Mutex<HashMap<String, Arc<Jobs>>>,
    closed: CancellationToken,
    _closes: DropGuard,
}

impl Default for MemoryBus {
    fn default() -> Self {
        let closed = CancellationToken::new();
        Self {
            events: broadcast::Sender::new(EVENTS_KEPT),
            queues: Mutex::default(),
            _closes: closed.clone().drop_guard(),
            closed,
        }
    }
}

impl MemoryBus {
    fn jobs(&self, queue: &WorkQueue) -> Arc<Jobs> {
        lock(&self.queues).entry(queue.name.clone()).or_default().clone()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, events: &[Event]) -> Result<(), StoreError> {
        for part in events.chunks(EVENTS_PER_TURN) {
            for event in part {
                // An error only says that nobody listens.
                let _ = self.events.send(Arc::new(event.clone()));
            }
            if events.len() > part.len() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &str) -> Result<Box<dyn Subscription>, StoreError> {
        let events = self.events.subscribe();
        Ok(Box::new(MemorySubscription { events, pattern: pattern.to_owned() }))
    }

    async fn enqueue(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError> {
        self.jobs(queue).put(&queue.name, jobs)
    }

    async fn work(&self, queue: &WorkQueue, prefetch: u16) -> Result<Box<dyn Worker>, StoreError> {
        let (jobs, closed) = (self.jobs(queue), self.closed.clone());
        Ok(Box::new(MemoryWorker::new(queue.clone(), jobs, prefetch, closed)))
    }

    async fn dead(&self, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.jobs(queue).dead(limit))
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

/// The events of one subscriber.
struct MemorySubscription {
    events: broadcast::Receiver<Arc<Event>>,
    pattern: String,
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) if is_like(&event.kind, &self.pattern) => return Some((*event).clone()),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => warn!(
                    bus.pattern = %self.pattern,
                    events.lost = lost,
                    "a subscriber is too slow and lost the oldest events"
                ),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn event(sequence: u64) -> Event {
        Event {
            specversion: "1.0".into(),
            id: format!("fact_{sequence}"),
            source: "/nodes/test".into(),
            kind: "call.held".into(),
            subject: "call_1".into(),
            time: "2026-11-24T12:00:00.000Z".into(),
            datacontenttype: "application/json".into(),
            sequence,
            causationid: None,
            data: RawValue::from_string("{}".into()).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_subscriber_that_is_too_slow_loses_the_oldest_events_only() {
        let bus = MemoryBus::default();
        let mut events = bus.subscribe("*").await.unwrap();
        let kept = EVENTS_KEPT as u64;
        for sequence in 1..=kept + 10 {
            bus.publish(&[event(sequence)]).await.unwrap();
        }
        for sequence in 11..=kept + 10 {
            assert_eq!(events.next().await.unwrap().sequence, sequence);
        }
    }
}
