//! Events and work in RabbitMQ, which all nodes share.
//!
//! Whatever breaks is thrown away and made anew at the next use: connection, channel, consumer. So
//! there is one way to recover, and it is the way to begin.

mod link;
mod publish;
mod subscribe;
mod topology;
mod work;

use std::sync::Arc;

use async_trait::async_trait;

use self::link::Link;
use self::publish::Publisher;
use super::bus::{Bus, Job, Subscription, WorkQueue, Worker};
use super::error::StoreError;
use super::inspection::Inspection;
use crate::domain::event::Event;

/// How URLs of this product start.
pub const SCHEMES: [&str; 2] = ["amqp://", "amqps://"];

/// The bus in one RabbitMQ, or a cluster behind one address.
pub struct RabbitBus {
    link: Arc<Link>,
    publisher: Publisher,
}

impl RabbitBus {
    /// Prepares for `amqp://USER:PASSWORD@HOST[:PORT][/VHOST]`, `amqps://` for TLS. The connection is
    /// made when it is first needed.
    ///
    /// # Errors
    /// `Refused` when the URL makes no sense.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(url)?);
        Ok(Self { publisher: Publisher::new(link.clone()), link })
    }
}

#[async_trait]
impl Bus for RabbitBus {
    async fn publish(&self, events: &[Event]) -> Result<(), StoreError> {
        self.publisher.events(events).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<Box<dyn Subscription>, StoreError> {
        Ok(Box::new(subscribe::Listener::start(self.link.clone(), pattern).await?))
    }

    async fn enqueue(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError> {
        self.publisher.jobs(queue, jobs).await
    }

    async fn work(&self, queue: &WorkQueue, prefetch: u16) -> Result<Box<dyn Worker>, StoreError> {
        Ok(Box::new(work::Hand::start(self.link.clone(), queue, prefetch).await?))
    }

    async fn dead(&self, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
        work::dead(&self.link, queue, limit).await
    }

    fn has_listeners(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let channel = self.link.channel().await?;
        let closed = channel.close(200, "checked".into()).await;
        closed.map_err(|error| link::translated(&error))
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        // The client does not hand on what the broker says of its version.
        self.ping().await?;
        Ok(Inspection::embedded("RabbitMQ (AMQP 0-9-1)"))
    }
}
