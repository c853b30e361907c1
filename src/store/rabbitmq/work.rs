//! Jobs as they come in, and their verdicts.
//!
//! A job that is tried again, or is dead, is published to where it goes before it leaves its queue;
//! a failure in between doubles it, and loses nothing.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::{Acker, Channel};
use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::connection::Link;
use super::errors::step;
use super::intake::{Intake, Source};
use super::message::{self, Message};
use super::publish;
use super::session::Session;
use crate::store::bus::{Delivery, Job, Verdict, WorkQueue, Worker};
use crate::store::error::StoreError;

/// Takes jobs out of one queue.
pub(super) struct RabbitWorker {
    intake: Intake,
    queue: Arc<WorkQueue>,
}

impl RabbitWorker {
    pub(super) async fn open(link: &Link, queue: &WorkQueue, prefetch: u16) -> Result<Self, StoreError> {
        let queue = Arc::new(queue.clone());
        // For the broker, 0 would mean without bound.
        let intake = Intake::open(link, Source::Work(queue.clone()), prefetch.max(1)).await?;
        Ok(Self { intake, queue })
    }
}

#[async_trait]
impl Worker for RabbitWorker {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        loop {
            let (delivery, open) = self.intake.next().await?;
            let Some(job) = message::job(&delivery) else {
                warn!(queue.name = %self.queue.name, "a message is no job and goes to the dead");
                let rejecting = delivery.acker.reject(BasicRejectOptions { requeue: false });
                if let Err(error) = step(rejecting).await {
                    debug!(%error, "the message comes again");
                }
                continue;
            };
            return Some(Box::new(RabbitDelivery {
                job,
                attempt: message::attempt(&delivery),
                acker: Some(delivery.acker),
                queue: self.queue.clone(),
                session: open.session.clone(),
                channel: open.channel.clone(),
            }));
        }
    }
}

/// A job that was taken.
struct RabbitDelivery {
    job: Job,
    attempt: u32,
    /// Gone once there is a verdict that the broker knows.
    acker: Option<Acker>,
    queue: Arc<WorkQueue>,
    session: Arc<Session>,
    /// Stays open until the verdict, even when the worker is gone.
    channel: Channel,
}

impl RabbitDelivery {
    /// Where the job goes by its verdict; `None` when it only leaves.
    fn next_place(&self, verdict: Verdict) -> Result<Option<Message>, StoreError> {
        match (verdict, self.queue.wait_after(self.attempt)) {
            (Verdict::Done, _) => Ok(None),
            (Verdict::Retry, Some(wait)) => {
                let attempt = self.attempt.saturating_add(1);
                Message::retry(&self.queue, &self.job, attempt, wait).map(Some)
            }
            (Verdict::Retry, None) | (Verdict::Dead, _) => {
                Message::dead(&self.queue, &self.job, self.attempt).map(Some)
            }
        }
    }
}

#[async_trait]
impl Delivery for RabbitDelivery {
    fn job(&self) -> &Job {
        &self.job
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), StoreError> {
        let lost = || StoreError::Unavailable("the connection is lost; the job comes again".to_owned());
        if !self.acker.as_ref().is_some_and(Acker::usable) {
            return Err(lost());
        }
        if let Some(message) = self.next_place(verdict)? {
            publish::jobs(&self.session, &self.queue, &[message]).await?;
        }
        let acker = self.acker.take().ok_or_else(lost)?;
        if step(acker.ack(BasicAckOptions::default())).await? { Ok(()) } else { Err(lost()) }
    }
}

impl Drop for RabbitDelivery {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take().filter(Acker::usable) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let channel = self.channel.clone();
        runtime.spawn(async move {
            let returning = acker.nack(BasicNackOptions { requeue: true, multiple: false });
            if let Err(error) = step(returning).await {
                debug!(%error, "a job without a verdict comes again with the next connection");
            }
            drop(channel);
        });
    }
}
