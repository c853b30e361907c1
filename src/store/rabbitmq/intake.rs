//! Messages as they come in, from whichever connection there is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::connection::Link;
use super::errors::step;
use super::message::short;
use super::session::Session;
use super::topology;
use crate::store::bus::WorkQueue;
use crate::store::error::StoreError;

/// Pause before a consumer is set up again on a connection that stands.
const PAUSE: Duration = Duration::from_secs(1);

/// Where messages come from.
pub(super) enum Source {
    /// A queue of one's own, with this binding.
    Events(String),
    /// A queue that is shared.
    Work(Arc<WorkQueue>),
}

/// A consumer that is set up again after each outage.
pub(super) struct Intake {
    link: Link,
    source: Source,
    prefetch: u16,
    open: Option<Open>,
}

/// A consumer while it lasts.
pub(super) struct Open {
    pub(super) session: Arc<Session>,
    pub(super) channel: Channel,
    consumer: Consumer,
}

impl Intake {
    pub(super) async fn open(link: &Link, source: Source, prefetch: u16) -> Result<Self, StoreError> {
        let mut intake = Self { link: link.clone(), source, prefetch, open: None };
        intake.open = Some(intake.set_up(link.session().await?).await?);
        Ok(intake)
    }

    async fn set_up(&self, session: Arc<Session>) -> Result<Open, StoreError> {
        let channel = session.channel().await?;
        step(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let queue = match &self.source {
            Source::Events(binding) => topology::declare_subscription(&channel, binding).await?,
            Source::Work(queue) => {
                topology::declare_queue(&channel, queue).await?;
                queue.name.clone()
            }
        };
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(short(&queue)?, "".into(), options, FieldTable::default());
        let consumer = step(consuming).await?;
        Ok(Open { session, channel, consumer })
    }

    /// The next message and the consumer that it came to. `None` when the bus was closed.
    pub(super) async fn next(&mut self) -> Option<(Delivery, &Open)> {
        loop {
            if self.open.is_none() {
                let session = self.link.next_session().await?;
                match self.set_up(session).await {
                    Ok(open) => self.open = Some(open),
                    Err(error) => {
                        warn!(%error, "cannot receive from the broker; trying on");
                        sleep(PAUSE).await;
                    }
                }
                continue;
            }
            match self.receive().await {
                Some(delivery) => return self.open.as_ref().map(|open| (delivery, open)),
                None => self.open = None,
            }
        }
    }

    /// The next message; `None` when the consumer has ended.
    async fn receive(&mut self) -> Option<Delivery> {
        let open = self.open.as_mut()?;
        let received = tokio::select! {
            biased;
            received = open.consumer.next() => received,
            () = open.session.lost() => return None,
        };
        match received {
            Some(Ok(delivery)) => Some(delivery),
            Some(Err(error)) => {
                debug!(%error, "a consumer has ended");
                None
            }
            None => {
                warn!("the broker has ended a consumer, since its queue is gone");
                None
            }
        }
    }
}
