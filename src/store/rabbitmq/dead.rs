//! A look at the dead jobs of a queue.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use super::errors::{self, step};
use super::message;
use super::session::Session;
use super::topology;
use crate::store::bus::{Job, WorkQueue};
use crate::store::error::StoreError;

/// How long the next one is waited for, when somebody else may have taken it.
const NEXT_LIMIT: Duration = Duration::from_secs(2);

/// Lists dead jobs, oldest first.
///
/// The broker has no way to look at a message without taking it, and what is returned to it lines up
/// behind what was returned before. So all are taken, however few are wanted, and returned in their
/// order. On one node one looks at a time; two nodes that look at the same time see each a part.
pub(super) async fn list(session: &Session, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
    session.ensure(queue).await?;
    let _alone = session.look().await;
    let channel = session.channel().await?;
    let name = message::short(&topology::dead_queue(&queue.name))?;
    // Only taking a message tells how many there are as of now.
    let first = step(channel.basic_get(name.clone(), BasicGetOptions { no_ack: false })).await?;
    let Some(first) = first else { return Ok(Vec::new()) };
    let rest = take(&channel, name, first.message_count).await?;
    // Two steps, since what two have taken is returned in no order.
    give_back(&channel, &first, false).await?;
    if let Some(last) = rest.last() {
        give_back(&channel, last, true).await?;
    }
    step(channel.close(200, "seen".into())).await?;
    Ok(std::iter::once(&first.delivery).chain(&rest).take(limit).map(message::any_job).collect())
}

/// Takes this many messages, or fewer when somebody else takes them.
async fn take(channel: &Channel, queue: ShortString, count: u32) -> Result<Vec<Delivery>, StoreError> {
    let mut taken = Vec::new();
    if count == 0 {
        return Ok(taken);
    }
    // Without a bound of its own, the broker sends two thousand at most.
    let prefetch = u16::try_from(count).unwrap_or(u16::MAX);
    step(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    let mut messages = step(channel.basic_consume(queue, "".into(), options, FieldTable::default())).await?;
    for _ in 0..count {
        let Ok(Some(delivery)) = timeout(NEXT_LIMIT, messages.next()).await else { break };
        taken.push(delivery.map_err(|error| errors::from(&error))?);
    }
    // Before anything is returned, which would come again at once.
    step(channel.basic_cancel(messages.tag(), BasicCancelOptions::default())).await?;
    Ok(taken)
}

/// Returns a message, or all up to it.
async fn give_back(channel: &Channel, delivery: &Delivery, multiple: bool) -> Result<(), StoreError> {
    step(channel.basic_nack(delivery.delivery_tag, BasicNackOptions { multiple, requeue: true })).await
}
