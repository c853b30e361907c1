//! Events as they come in.
//!
//! The queue of a subscriber goes with its connection: what is published during an outage does not
//! reach it.

use async_trait::async_trait;
use lapin::options::BasicAckOptions;
use tracing::{debug, warn};

use super::connection::Link;
use super::errors::step;
use super::intake::{Intake, Source};
use crate::domain::event::{Event, is_like};
use crate::store::bus::Subscription;
use crate::store::error::StoreError;

/// Events that may be on their way to a subscriber.
const PREFETCH: u16 = 512;
/// Events that are acknowledged together; below what may be on its way, so that it never stands still.
const ACKNOWLEDGED_TOGETHER: u16 = 64;

/// The events of one subscriber.
pub(super) struct RabbitSubscription {
    intake: Intake,
    pattern: String,
    unacknowledged: u16,
}

impl RabbitSubscription {
    pub(super) async fn open(link: &Link, pattern: &str) -> Result<Self, StoreError> {
        let intake = Intake::open(link, Source::Events(binding(pattern)), PREFETCH).await?;
        Ok(Self { intake, pattern: pattern.to_owned(), unacknowledged: 0 })
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let (delivery, open) = self.intake.next().await?;
            self.unacknowledged += 1;
            if self.unacknowledged >= ACKNOWLEDGED_TOGETHER {
                self.unacknowledged = 0;
                let options = BasicAckOptions { multiple: true };
                if let Err(error) = step(open.channel.basic_ack(delivery.delivery_tag, options)).await {
                    debug!(%error, "events were not acknowledged");
                }
            }
            match serde_json::from_slice::<Event>(&delivery.data) {
                Ok(event) if is_like(&event.kind, &self.pattern) => return Some(event),
                Ok(_) => {}
                Err(error) => warn!(%error, bus.key = %delivery.routing_key, "a message is no event"),
            }
        }
    }
}

/// A binding that lets through at least the events that are like a pattern. A star of ours stands for
/// anything, one of the broker's for one word; so each word with a star becomes any number of words.
fn binding(pattern: &str) -> String {
    let mut words: Vec<_> =
        pattern.split('.').map(|word| if word.contains('*') { "#" } else { word }).collect();
    words.dedup_by(|word, before| *word == "#" && *before == "#");
    words.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_lets_through_at_least_what_the_pattern_does() {
        for (pattern, want) in [
            ("*", "#"),
            ("call.*", "call.#"),
            ("*.created", "#.created"),
            ("call.queued", "call.queued"),
            ("c*.q*d", "#"),
            ("call.q*.by.*", "call.#.by.#"),
        ] {
            assert_eq!(binding(pattern), want, "{pattern}");
        }
    }
}
