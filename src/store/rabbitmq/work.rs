//! Queues of work: jobs are taken, and leave only with a verdict.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use super::link::{Link, answered};
use super::publish::{ATTEMPT, all_confirmed, bounded, confirming, send_job};
use super::topology::{self, dead_name, retry_name};
use crate::store::bus::{Delivery, Job, Verdict, WorkQueue, Worker};
use crate::store::error::StoreError;

/// Delay before a broken consumer is set up again.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Hand {
    link: Arc<Link>,
    queue: Arc<WorkQueue>,
    prefetch: u16,
    consumer: Option<(Channel, Consumer)>,
}

impl Hand {
    pub(super) async fn start(link: Arc<Link>, queue: &WorkQueue, prefetch: u16) -> Result<Self, StoreError> {
        let mut hand =
            Self { link, queue: Arc::new(queue.clone()), prefetch: prefetch.max(1), consumer: None };
        hand.consumer = Some(hand.consume().await?);
        Ok(hand)
    }

    async fn consume(&self) -> Result<(Channel, Consumer), StoreError> {
        // With confirms, since a job that is to be tried again is published on it.
        let channel = confirming(&self.link).await?;
        topology::declare_work(&channel, &self.queue).await?;
        answered(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let consumer = channel.basic_consume(
            self.queue.name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = answered(consumer).await?;
        Ok((channel, consumer))
    }
}

#[async_trait]
impl Worker for Hand {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        loop {
            let Some((channel, consumer)) = &mut self.consumer else {
                match self.consume().await {
                    Ok(consumer) => self.consumer = Some(consumer),
                    Err(error) => {
                        tracing::debug!(%error, "worker waits for the broker");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                continue;
            };
            let Some(Ok(message)) = consumer.next().await else {
                self.consumer = None;
                continue;
            };
            let (channel, queue) = (channel.clone(), self.queue.clone());
            return Some(Box::new(Taken {
                job: job(&message),
                attempt: attempt(&message),
                message: Some(message),
                channel,
                queue,
            }));
        }
    }
}

fn job(message: &Message) -> Job {
    let id = message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    Job { id, body: String::from_utf8_lossy(&message.data).into_owned() }
}

fn attempt(message: &Message) -> u32 {
    let headers = message.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(ATTEMPT)) {
        Some(AMQPValue::LongUInt(attempt)) => *attempt,
        Some(AMQPValue::LongLongInt(attempt)) => u32::try_from(*attempt).unwrap_or(1),
        Some(_) | None => 1,
    }
}

/// A job that was taken. When it is dropped without a verdict it is given back.
struct Taken {
    job: Job,
    attempt: u32,
    /// Absent once there is a verdict.
    message: Option<Message>,
    channel: Channel,
    queue: Arc<WorkQueue>,
}

#[async_trait]
impl Delivery for Taken {
    fn job(&self) -> &Job {
        &self.job
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), StoreError> {
        let wait = self.queue.retry_after.get(self.attempt.saturating_sub(1) as usize).copied();
        let next = match (verdict, wait) {
            (Verdict::Done, _) => None,
            (Verdict::Retry, Some(wait)) => Some((retry_name(&self.queue, wait), self.attempt + 1)),
            (Verdict::Retry, None) | (Verdict::Dead, _) => Some((dead_name(&self.queue), self.attempt)),
        };
        if let Some((queue, attempt)) = next {
            // First there, then gone from here: in between it is twice, never nowhere.
            bounded(async {
                let confirm = send_job(&self.channel, &queue, &self.job, attempt).await?;
                all_confirmed(vec![confirm]).await
            })
            .await?;
        }
        let Some(message) = self.message.take() else { return Ok(()) };
        let acknowledged = answered(async { message.acker.ack(BasicAckOptions::default()).await }).await?;
        if acknowledged {
            return Ok(());
        }
        Err(StoreError::Unavailable("the job was given back meanwhile".to_owned()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(message) = self.message.take() else { return };
        // Without a runtime the program is about to end, and the broker notices.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                let _ = message.acker.nack(back).await;
            });
        }
    }
}

/// Looks at the dead jobs of a queue. They are taken without a verdict and given back.
pub(super) async fn dead(link: &Link, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
    let channel = link.channel().await?;
    topology::declare_work(&channel, queue).await?;
    let mut found = Vec::new();
    while found.len() < limit {
        let got = channel.basic_get(dead_name(queue).into(), BasicGetOptions::default());
        let Some(got) = answered(got).await? else { break };
        found.push(job(&got.delivery));
    }
    // Closing gives back what was taken.
    answered(channel.close(200, "looked".into())).await?;
    Ok(found)
}
