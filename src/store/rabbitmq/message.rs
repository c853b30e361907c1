//! Events and jobs in the form in which they travel.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::topology;
use crate::domain::event::Event;
use crate::domain::time::{Clock, Millis, Timestamp};
use crate::store::bus::{Job, WorkQueue};
use crate::store::error::StoreError;

/// What an event is, by the `CloudEvents` binding for messages with all attributes in the body.
const EVENT_TYPE: &str = "application/cloudevents+json";
/// What the content of a job is.
const JOB_TYPE: &str = "application/json";
/// Who publishes.
const APP_ID: &str = "eml";
/// The header that counts the attempts at a job, from 1.
const ATTEMPT_HEADER: &str = "eml-attempt";
/// The broker writes the message to the disk.
const PERSISTENT: u8 = 2;
/// The exchange that brings a message to the queue that its key names.
const TO_QUEUE: &str = "";

/// A message on its way to the broker.
pub(super) struct Message {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    /// Whether it must get into a queue. An event that nobody waits for need not.
    pub(super) is_mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn event(event: &Event) -> Result<Self, StoreError> {
        let body = serde_json::to_vec(event);
        let mut properties = properties(EVENT_TYPE, &event.id)?.with_type(short(&event.kind)?);
        if let Ok(at) = event.time.parse::<Timestamp>() {
            properties = properties.with_timestamp(seconds(at));
        }
        Ok(Self {
            exchange: topology::EVENTS_EXCHANGE.into(),
            key: short(&event.kind)?,
            is_mandatory: false,
            properties,
            body: body.map_err(|error| StoreError::Refused(format!("event {}: {error}", event.id)))?,
        })
    }

    /// A job on its first way into its queue.
    pub(super) fn job(queue: &WorkQueue, job: &Job) -> Result<Self, StoreError> {
        Self::of(job, 1, TO_QUEUE, &queue.name)
    }

    /// A job that waits before its next attempt.
    pub(super) fn retry(
        queue: &WorkQueue,
        job: &Job,
        attempt: u32,
        wait: Millis,
    ) -> Result<Self, StoreError> {
        Self::of(job, attempt, TO_QUEUE, &topology::retry_queue(&queue.name, wait))
    }

    /// A job that is dead after an attempt.
    pub(super) fn dead(queue: &WorkQueue, job: &Job, attempt: u32) -> Result<Self, StoreError> {
        Self::of(job, attempt, topology::DEAD_EXCHANGE, &queue.name)
    }

    fn of(job: &Job, attempt: u32, exchange: &'static str, key: &str) -> Result<Self, StoreError> {
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPT_HEADER.into(), AMQPValue::LongLongInt(attempt.into()));
        Ok(Self {
            exchange: exchange.into(),
            key: short(key)?,
            is_mandatory: true,
            properties: properties(JOB_TYPE, &job.id)?
                .with_headers(headers)
                .with_timestamp(seconds(Clock.now())),
            body: job.body.clone().into_bytes(),
        })
    }
}

fn properties(content_type: &'static str, id: &str) -> Result<BasicProperties, StoreError> {
    Ok(BasicProperties::default()
        .with_content_type(content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(id)?)
        .with_app_id(APP_ID.into()))
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.millis() / 1_000).unwrap_or_default()
}

/// A name as the protocol bounds it.
pub(super) fn short(name: &str) -> Result<ShortString, StoreError> {
    ShortString::try_new(name).map_err(|_| StoreError::Refused(format!("name is too long: {name:.40}…")))
}

/// The job in a message; `None` when it is none of ours.
pub(super) fn job(delivery: &Delivery) -> Option<Job> {
    let id = delivery.properties.message_id().as_ref()?.to_string();
    Some(Job { id, body: String::from_utf8(delivery.data.clone()).ok()? })
}

/// Which attempt a message tells, from 1.
pub(super) fn attempt(delivery: &Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    let told = headers.and_then(|headers| headers.inner().get(ATTEMPT_HEADER)?.as_long_long_int());
    told.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1)
}

/// What can be shown of a message, whoever published it.
pub(super) fn any_job(delivery: &Delivery) -> Job {
    let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
    Job { id: id.unwrap_or_default(), body: String::from_utf8_lossy(&delivery.data).into_owned() }
}
