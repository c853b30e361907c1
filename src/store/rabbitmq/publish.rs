//! Publishing with confirms: all of a batch are under way together, and the batch counts when the
//! broker has confirmed each.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::Mutex;

use super::link::{Link, answered, translated};
use super::topology::{self, EVENTS};
use crate::domain::event::Event;
use crate::store::bus::{Job, WorkQueue};
use crate::store::error::StoreError;

/// How long a batch may take to be confirmed.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// Kept on the disk of the broker.
const PERSISTENT: u8 = 2;
/// Header with the number of a job's attempt.
pub(super) const ATTEMPT: &str = "eml-attempt";
/// Media type of an event in structured mode.
const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The one who publishes; its channel is made anew after every failure.
pub(super) struct Publisher {
    link: Arc<Link>,
    channel: Mutex<Option<Channel>>,
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, channel: Mutex::default() }
    }

    /// Publishes events, in order.
    pub(super) async fn events(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut place = self.channel.lock().await;
        let channel = match place.take().filter(|known| known.status().connected()) {
            Some(channel) => channel,
            None => {
                let channel = confirming(&self.link).await?;
                topology::declare_events(&channel).await?;
                channel
            }
        };
        bounded(publish_events(&channel, events)).await?;
        // Kept only now: after a failure nobody knows what the channel still has under way.
        *place = Some(channel);
        Ok(())
    }

    /// Puts jobs into a queue, in order.
    pub(super) async fn jobs(&self, queue: &WorkQueue, jobs: &[Job]) -> Result<(), StoreError> {
        let channel = confirming(&self.link).await?;
        topology::declare_work(&channel, queue).await?;
        bounded(async {
            let mut confirms = Vec::with_capacity(jobs.len());
            for job in jobs {
                confirms.push(send_job(&channel, &queue.name, job, 1).await?);
            }
            all_confirmed(confirms).await
        })
        .await?;
        // Its work is done; a broker that does not take the farewell closes it anyway.
        let _ = channel.close(200, "done".into()).await;
        Ok(())
    }
}

/// A channel whose messages the broker confirms.
pub(super) async fn confirming(link: &Link) -> Result<Channel, StoreError> {
    let channel = link.channel().await?;
    answered(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

async fn publish_events(channel: &Channel, events: &[Event]) -> Result<(), StoreError> {
    let mut confirms = Vec::with_capacity(events.len());
    for event in events {
        let body = serde_json::to_vec(event).map_err(|error| StoreError::Refused(error.to_string()))?;
        let properties = BasicProperties::default()
            .with_content_type(CLOUD_EVENT.into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(event.id.clone().into())
            .with_type(event.kind.clone().into())
            .with_app_id("eml".into());
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish(EVENTS.into(), event.kind.clone().into(), options, &body, properties);
        confirms.push(sent.await.map_err(|error| translated(&error))?);
    }
    all_confirmed(confirms).await
}

/// Sends one job to a queue; the confirm is still to come.
pub(super) async fn send_job(
    channel: &Channel,
    queue: &str,
    job: &Job,
    attempt: u32,
) -> Result<PublisherConfirm, StoreError> {
    let mut headers = FieldTable::default();
    headers.insert(ATTEMPT.into(), AMQPValue::LongUInt(attempt));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(job.id.clone().into())
        .with_app_id("eml".into())
        .with_headers(headers);
    // Returned when there is no such queue, which would lose the job.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.into(), options, job.body.as_bytes(), properties);
    sent.await.map_err(|error| translated(&error))
}

/// Waits until the broker has taken every message to its keeping.
pub(super) async fn all_confirmed(confirms: Vec<PublisherConfirm>) -> Result<(), StoreError> {
    for confirm in confirms {
        match confirm.await.map_err(|error| translated(&error))? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(returned)) => {
                return Err(StoreError::Unavailable(format!("message came back: {}", returned.reply_text)));
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                return Err(StoreError::Unavailable("broker did not take a message".to_owned()));
            }
        }
    }
    Ok(())
}

/// A broker that runs out of memory or disk takes nothing and says nothing.
pub(super) async fn bounded(
    publishing: impl Future<Output = Result<(), StoreError>>,
) -> Result<(), StoreError> {
    match tokio::time::timeout(CONFIRM_TIMEOUT, publishing).await {
        Ok(published) => published,
        Err(_) => Err(StoreError::Unavailable("broker confirms nothing".to_owned())),
    }
}
