//! The bus on `RabbitMQ` (3.10 or newer): events in a topic exchange, work in quorum queues.
//!
//! One connection per node, made again whenever it breaks, by the same code that makes the first.
//! While there is none, requests wait a few seconds and are then `Unavailable`; nothing is kept for
//! later, since who publishes publishes again.

mod connection;
mod dead;
mod errors;
mod intake;
mod message;
mod publish;
mod session;
mod subscribe;
mod topology;
mod work;

use async_trait::async_trait;

use super::bus::{Bus, Job, Subscription, WorkQueue, Worker};
use super::error::StoreError;
use super::inspection::Inspection;
use crate::domain::event::Event;
use connection::Link;
use message::Message;

pub use topology::{DEAD_EXCHANGE, EVENTS_EXCHANGE, dead_queue, retry_queue};

/// How URLs of this product start.
pub const SCHEMES: [&str; 2] = ["amqp://", "amqps://"];

/// The bus on `RabbitMQ`. It is closed for good when it is dropped.
pub struct RabbitBus {
    link: Link,
}

impl RabbitBus {
    /// Opens `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps:` for TLS. A broker that is away is no
    /// error: it is looked for in the background, and until it is found requests are `Unavailable`.
    ///
    /// # Errors
    /// `Refused` when the URL cannot be read, or the broker answers at once and does not let us in.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { link: Link::open(url).await? })
    }

    /// Ends the connection and waits until it has ended. Subscribers and workers get `None`.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

#[async_trait]
impl Bus for RabbitBus {
    async fn publish(&self, events: &[Event]) -> Result<(), StoreError> {
        let messages = events.iter().map(Message::event).collect::<Result<Vec<_>, _>>()?;
        publish::all(&*self.link.session().await?, &messages).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<Box<dyn Subscription>, StoreError> {
        Ok(Box::new(subscribe::RabbitSubscription::open(&self.link, pattern).await?))
    }

    async fn enqueue(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError> {
        let messages = jobs.iter().map(|job| Message::job(queue, job)).collect::<Result<Vec<_>, _>>()?;
        publish::jobs(&*self.link.session().await?, queue, &messages).await
    }

    async fn work(&self, queue: &WorkQueue, prefetch: u16) -> Result<Box<dyn Worker>, StoreError> {
        Ok(Box::new(work::RabbitWorker::open(&self.link, queue, prefetch).await?))
    }

    async fn dead(&self, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
        dead::list(&*self.link.session().await?, queue, limit).await
    }

    fn has_listeners(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.link.session_now()?.ping().await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.link.session().await?.ping().await?;
        // The client does not hand on what the broker says of its version.
        Ok(Inspection::embedded("RabbitMQ (AMQP 0-9-1)"))
    }
}
