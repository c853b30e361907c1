//! Following events: a queue of the subscription's own, which the broker drops with it.
//!
//! What is published while the connection is broken is not seen; who must miss nothing reads the
//! journal.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::link::{Link, answered};
use super::topology::{self, EVENTS};
use crate::domain::event::{Event, is_like, topic_of};
use crate::store::bus::Subscription;
use crate::store::error::StoreError;

/// Events on their way to the listener at a time.
const PREFETCH: u16 = 500;
/// Delay before a broken subscription is set up again.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Listener {
    link: Arc<Link>,
    pattern: String,
    /// The channel is held because its queue goes with it.
    consumer: Option<(Channel, Consumer)>,
}

impl Listener {
    pub(super) async fn start(link: Arc<Link>, pattern: &str) -> Result<Self, StoreError> {
        let mut listener = Self { link, pattern: pattern.to_owned(), consumer: None };
        listener.consumer = Some(listener.consume().await?);
        Ok(listener)
    }

    async fn consume(&self) -> Result<(Channel, Consumer), StoreError> {
        let channel = self.link.channel().await?;
        topology::declare_events(&channel).await?;
        answered(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let own =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = answered(channel.queue_declare("".into(), own, FieldTable::default())).await?;
        let name = queue.name().clone();
        let bound = channel.queue_bind(
            name.clone(),
            EVENTS.into(),
            topic_of(&self.pattern).into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answered(bound).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            answered(channel.basic_consume(name, "".into(), options, FieldTable::default())).await?;
        Ok((channel, consumer))
    }
}

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let Some((_, consumer)) = &mut self.consumer else {
                match self.consume().await {
                    Ok(consumer) => self.consumer = Some(consumer),
                    Err(error) => {
                        tracing::debug!(%error, "subscription waits for the broker");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                continue;
            };
            let Some(Ok(delivery)) = consumer.next().await else {
                self.consumer = None;
                continue;
            };
            if delivery.acker.ack(BasicAckOptions::default()).await.is_err() {
                self.consumer = None;
            }
            match serde_json::from_slice::<Event>(&delivery.data) {
                Ok(event) if is_like(&event.kind, &self.pattern) => return Some(event),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a message on the bus is no event of ours"),
            }
        }
    }
}
