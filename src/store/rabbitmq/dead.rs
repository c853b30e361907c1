//! A look at the dead jobs of a queue.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions};
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
/// behind what was returned before. So all are taken, however few are wanted, and returned together:
/// that keeps their order. On one node one looks at a time; two nodes that look at the same time see
/// each a part.
pub(super) async fn list(session: &Session, queue: &WorkQueue, limit: usize) -> Result<Vec<Job>, StoreError> {
    session.ensure(queue).await?;
    let _alone = session.look().await;
    let channel = session.channel().await?;
    let name = message::short(&topology::dead_queue(&queue.name))?;
    let first = step(channel.basic_get(name.clone(), BasicGetOptions { no_ack: false })).await?;
    let Some(first) = first else { return Ok(Vec::new()) };
    let mut jobs = vec![message::any_job(&first.delivery)];
    let taking = take(&channel, name, first.message_count, |delivery| {
        if jobs.len() < limit {
            jobs.push(message::any_job(delivery));
        }
    });
    let last = taking.await?.unwrap_or(first.delivery.delivery_tag);
    jobs.truncate(limit);
    step(channel.basic_nack(last, BasicNackOptions { multiple: true, requeue: true })).await?;
    step(channel.close(200, "seen".into())).await?;
    Ok(jobs)
}

/// Takes this many messages, and gives the number of the last.
async fn take(
    channel: &Channel,
    queue: ShortString,
    count: u32,
    mut see: impl FnMut(&Delivery) + Send,
) -> Result<Option<u64>, StoreError> {
    if count == 0 {
        return Ok(None);
    }
    // Without a bound of its own, the broker sends two thousand at most.
    let prefetch = u16::try_from(count).unwrap_or(u16::MAX);
    step(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    let mut messages = step(channel.basic_consume(queue, "".into(), options, FieldTable::default())).await?;
    let mut last = None;
    for _ in 0..count {
        let Ok(Some(delivery)) = timeout(NEXT_LIMIT, messages.next()).await else { break };
        let delivery = delivery.map_err(|error| errors::from(&error))?;
        last = Some(delivery.delivery_tag);
        see(&delivery);
    }
    Ok(last)
}
