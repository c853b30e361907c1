//! Publishing: all messages of a batch are under way at a time, and all are confirmed at the end.

use lapin::Confirmation;
use lapin::options::BasicPublishOptions;

use super::errors::commit;
use super::message::Message;
use super::session::Session;
use crate::store::bus::WorkQueue;
use crate::store::error::StoreError;

/// Publishes messages in order; returns when the broker has taken all of them to its keeping.
pub(super) async fn all(session: &Session, messages: Vec<Message>) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    // The whole lane, since the broker tells of a message that found no queue without saying to
    // which confirmation that belongs: it must be one of this batch.
    let lane = session.lane().await?;
    let mut confirmations = Vec::with_capacity(messages.len());
    for message in messages {
        let Message { exchange, key, is_mandatory, properties, body } = message;
        let options = BasicPublishOptions { mandatory: is_mandatory, immediate: false };
        let publishing = lane.channel().basic_publish(exchange, key, options, &body, properties);
        confirmations.push(commit(publishing).await?);
    }
    let mut is_complete = true;
    for confirmation in confirmations {
        is_complete &= match commit(confirmation).await? {
            Confirmation::Ack(returned) => returned.is_none(),
            Confirmation::Nack(_) | Confirmation::NotRequested => false,
        };
    }
    if !is_complete {
        return Err(StoreError::InDoubt("broker did not take all messages".to_owned()));
    }
    lane.give_back();
    Ok(())
}

/// The same into a queue that should be there; when it is not, the next try declares it again.
pub(super) async fn to_queue(
    session: &Session,
    queue: &WorkQueue,
    messages: Vec<Message>,
) -> Result<(), StoreError> {
    let published = all(session, messages).await;
    if published.is_err() {
        session.forget(queue);
    }
    published
}
