//! Publishing: all messages of a batch are under way at a time, and all are confirmed at the end.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::future::maybe_done;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, Error, ErrorKind, PublisherConfirm};

use super::errors::commit;
use super::message::Message;
use super::session::Session;
use crate::store::bus::WorkQueue;
use crate::store::error::StoreError;

/// Messages that are handed to the connection at a time, which then writes them together.
const PART: usize = 256;

/// Publishes messages in order; returns when the broker has taken all of them to its keeping.
pub(super) async fn all(session: &Session, messages: &[Message]) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    // The whole lane, since the broker tells of a message that found no queue without saying to
    // which confirmation that belongs: it must be one of this batch.
    let lane = session.lane().await?;
    let mut confirmations = Vec::with_capacity(messages.len());
    for part in messages.chunks(PART) {
        confirmations.extend(send(lane.channel(), part).await?);
    }
    for confirmation in confirmations {
        match commit(confirmation).await? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) | Confirmation::Nack(_) | Confirmation::NotRequested => {
                return Err(StoreError::InDoubt("broker did not take all messages".to_owned()));
            }
        }
    }
    lane.give_back();
    Ok(())
}

/// The same into a queue that should be there; when it is not, the next try declares it again.
pub(super) async fn jobs(
    session: &Session,
    queue: &WorkQueue,
    messages: &[Message],
) -> Result<(), StoreError> {
    session.ensure(queue).await?;
    let published = all(session, messages).await;
    if published.is_err() {
        session.forget(queue);
    }
    published
}

/// Writes messages in order; the confirmations come later.
async fn send(channel: &Channel, part: &[Message]) -> Result<Vec<PublisherConfirm>, StoreError> {
    let writing = part.iter().map(|message| Box::pin(maybe_done(write(channel, message))));
    let mut writing: Vec<_> = writing.collect();
    // Each is begun before the first is waited for: a message takes its place when it is begun.
    poll_fn(|context| {
        for message in &mut writing {
            let _ = message.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let mut confirmations = Vec::with_capacity(part.len());
    for mut message in writing {
        let written = async {
            message.as_mut().await;
            message.as_mut().take_output().unwrap_or_else(|| Err(Error::from(ErrorKind::FutureCompleted)))
        };
        confirmations.push(commit(written).await?);
    }
    Ok(confirmations)
}

async fn write(channel: &Channel, message: &Message) -> lapin::Result<PublisherConfirm> {
    let Message { exchange, key, is_mandatory, properties, body } = message;
    let options = BasicPublishOptions { mandatory: *is_mandatory, immediate: false };
    channel.basic_publish(exchange.clone(), key.clone(), options, body, properties.clone()).await
}
