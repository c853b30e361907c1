//! What is declared at the broker, and its names.
//!
//! ```text
//! eml.events (topic)  ── binding ──► one exclusive queue per subscriber
//! <name> (quorum)     ── dead, or returned too often ──► eml.dead (direct) ── <name> ──► <name>.dead
//! <name>.retry.<ms>   ── after <ms> ──► <name>          one per delay, since a queue frees its head only
//! ```
//!
//! The delay is part of the name of a retry queue. So a change of the configuration names other
//! queues; the old ones run empty, instead of refusing the new delay.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};

use super::errors::step;
use super::message::short;
use crate::domain::time::Millis;
use crate::store::bus::{RETURNS_LIMIT, WorkQueue};
use crate::store::error::StoreError;

/// Where events go: a durable topic exchange; the routing key is the type of the event.
pub const EVENTS_EXCHANGE: &str = "eml.events";
/// Where dead jobs go: a durable direct exchange; the routing key is the name of their queue.
pub const DEAD_EXCHANGE: &str = "eml.dead";

/// Dead jobs that are kept per queue; the oldest go first. A look at them takes all of them.
const DEAD_KEPT: u32 = 10_000;
/// Events that wait at the broker for a subscriber that is too slow; the oldest go first.
const EVENTS_KEPT: u32 = 16_384;
/// Looking at dead jobs takes and returns them. Newer brokers drop what was returned 20 times unless
/// told otherwise, and older ones have no word for "never".
const LOOKS_LIMIT: u32 = i32::MAX.cast_unsigned();

/// The queue that keeps the dead jobs of a queue.
#[must_use]
pub fn dead_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// The queue in which jobs of a queue wait for another try.
#[must_use]
pub fn retry_queue(queue: &str, wait: Millis) -> String {
    format!("{queue}.retry.{}", wait.0)
}

/// The names of all queues that belong to a queue.
pub(super) fn names(queue: &WorkQueue) -> Vec<String> {
    let retries = queue.retry_after.iter().map(|wait| retry_queue(&queue.name, *wait));
    retries.chain([queue.name.clone(), dead_queue(&queue.name)]).collect()
}

pub(super) async fn declare_exchanges(channel: &Channel) -> Result<(), StoreError> {
    for (name, kind) in [(EVENTS_EXCHANGE, ExchangeKind::Topic), (DEAD_EXCHANGE, ExchangeKind::Direct)] {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        step(channel.exchange_declare(name.into(), kind, options, FieldTable::default())).await?;
    }
    Ok(())
}

/// Declares a queue, its retry queues and the queue of its dead. All are kept by a majority of the
/// brokers, and hand on to each other with confirmation.
pub(super) async fn declare_queue(channel: &Channel, queue: &WorkQueue) -> Result<(), StoreError> {
    let dead = dead_queue(&queue.name);
    declare(channel, &dead, Arguments::quorum().number("x-max-length", DEAD_KEPT).returns(LOOKS_LIMIT))
        .await?;
    let (name, key) = (short(&dead)?, short(&queue.name)?);
    let options = QueueBindOptions::default();
    step(channel.queue_bind(name, DEAD_EXCHANGE.into(), key, options, FieldTable::default())).await?;
    let work = Arguments::quorum().returns(RETURNS_LIMIT).hands_on_to(DEAD_EXCHANGE, &queue.name);
    declare(channel, &queue.name, work).await?;
    for wait in &queue.retry_after {
        let retry = Arguments::quorum().time_to_live(*wait).hands_on_to("", &queue.name);
        declare(channel, &retry_queue(&queue.name, *wait), retry).await?;
    }
    Ok(())
}

/// Declares a queue for one subscriber, which goes with its connection, and gives its name.
pub(super) async fn declare_subscription(channel: &Channel, binding: &str) -> Result<String, StoreError> {
    let options = QueueDeclareOptions::exclusive().auto_delete();
    let arguments = Arguments::default().number("x-max-length", EVENTS_KEPT);
    let queue = step(channel.queue_declare("".into(), options, arguments.0)).await?;
    let (name, key) = (queue.name().clone(), short(binding)?);
    let bound = channel.queue_bind(
        name,
        EVENTS_EXCHANGE.into(),
        key,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    step(bound).await?;
    Ok(queue.name().to_string())
}

async fn declare(channel: &Channel, name: &str, arguments: Arguments) -> Result<(), StoreError> {
    step(channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), arguments.0)).await.map(drop)
}

/// Arguments of a queue.
#[derive(Default)]
struct Arguments(FieldTable);

impl Arguments {
    fn quorum() -> Self {
        Self::default().text("x-queue-type", "quorum")
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.with(name, AMQPValue::LongString(LongString::from(value)))
    }

    fn number(self, name: &str, value: u32) -> Self {
        self.with(name, AMQPValue::LongLongInt(value.into()))
    }

    /// How often a message may come back before it is handed on.
    fn returns(self, limit: u32) -> Self {
        self.number("x-delivery-limit", limit)
    }

    fn time_to_live(self, wait: Millis) -> Self {
        self.with("x-message-ttl", AMQPValue::LongLongInt(i64::try_from(wait.0).unwrap_or(i64::MAX)))
    }

    /// Where messages go that this queue gives up. It keeps them until they have arrived, which the
    /// broker only does for queues that refuse what is too much instead of dropping it.
    fn hands_on_to(self, exchange: &str, key: &str) -> Self {
        self.text("x-dead-letter-exchange", exchange)
            .text("x-dead-letter-routing-key", key)
            .text("x-dead-letter-strategy", "at-least-once")
            .text("x-overflow", "reject-publish")
    }

    fn with(mut self, name: &str, value: AMQPValue) -> Self {
        self.0.insert(name.into(), value);
        self
    }
}
