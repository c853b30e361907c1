//! Exchanges and queues: what is declared, and under which names. Everything is durable and kept on
//! several brokers where there are several (quorum queues), except the queue of a subscription.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::link::answered;
use crate::domain::time::Millis;
use crate::store::bus::WorkQueue;
use crate::store::error::StoreError;

/// Where every event is published; its routing key is its type.
pub(super) const EVENTS: &str = "eml.events";
/// Where jobs go that were delivered too often without a verdict.
pub(super) const DEAD: &str = "eml.dead";
/// Deliveries without a verdict after which a job is dead: whoever takes it dies of it.
const DELIVERY_LIMIT: i32 = 20;

/// Declares the exchange of events.
pub(super) async fn declare_events(channel: &Channel) -> Result<(), StoreError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared =
        channel.exchange_declare(EVENTS.into(), ExchangeKind::Topic, durable, FieldTable::default());
    answered(declared).await
}

/// Declares everything of a queue of work.
pub(super) async fn declare_work(channel: &Channel, queue: &WorkQueue) -> Result<(), StoreError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let dead = channel.exchange_declare(DEAD.into(), ExchangeKind::Direct, durable, FieldTable::default());
    answered(dead).await?;
    declare(channel, &dead_name(queue), FieldTable::default()).await?;
    let bound = channel.queue_bind(
        dead_name(queue).into(),
        DEAD.into(),
        dead_name(queue).into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    answered(bound).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD));
    arguments.insert("x-dead-letter-routing-key".into(), text(&dead_name(queue)));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    declare(channel, &queue.name, arguments).await?;
    for wait in &queue.retry_after {
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(i64::try_from(wait.0).unwrap_or(0)));
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&queue.name));
        declare(channel, &retry_name(queue, *wait), arguments).await?;
    }
    Ok(())
}

async fn declare(channel: &Channel, name: &str, mut arguments: FieldTable) -> Result<(), StoreError> {
    arguments.insert("x-queue-type".into(), text("quorum"));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    answered(channel.queue_declare(name.into(), durable, arguments)).await.map(|_| ())
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Where dead jobs of a queue are.
pub(super) fn dead_name(queue: &WorkQueue) -> String {
    format!("{}.dead", queue.name)
}

/// Where jobs wait to be tried again. The wait is part of the name: a queue that was declared with
/// another could not be declared again.
pub(super) fn retry_name(queue: &WorkQueue, wait: Millis) -> String {
    format!("{}.retry.{}", queue.name, wait.0)
}
