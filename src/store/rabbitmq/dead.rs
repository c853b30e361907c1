//! A look at the dead jobs of a queue.

use lapin::options::{BasicGetOptions, BasicNackOptions};

use super::errors::step;
use super::message;
use super::session::Session;
use super::topology;
use crate::store::bus::{Job, WorkQueue};
use crate::store::error::StoreError;

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
    let (mut jobs, mut last) = (Vec::new(), None);
    while let Some(found) = step(channel.basic_get(name.clone(), BasicGetOptions { no_ack: false })).await? {
        last = Some(found.delivery.delivery_tag);
        if jobs.len() < limit {
            jobs.push(message::any_job(&found.delivery));
        }
    }
    if let Some(last) = last {
        step(channel.basic_nack(last, BasicNackOptions { multiple: true, requeue: true })).await?;
    }
    step(channel.close(200, "seen".into())).await?;
    Ok(jobs)
}
