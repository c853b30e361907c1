//! What comes over a connection that a peer dialed: its questions and its news.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::counters::{Raised, add};
use super::frame::{Frame, FrameError, Kind, Received};
use super::transport::LinkRefusal;

/// Hands on what came. Never waits.
pub(super) fn receive(
    connection: &Arc<Connection>,
    asks: &Arc<Semaphore>,
    received: Received,
) -> Result<(), FrameError> {
    let context = &connection.context;
    match received {
        Received::Frame(Frame::Ask { id, left, body }) => ask(connection, asks, (id, left, body)),
        Received::Frame(Frame::Push { body }) => context.inbound.push(connection.peer.clone(), body),
        Received::Frame(Frame::Ping) => connection.outbox.pong(),
        Received::Frame(Frame::Answer { .. }) => return Err(FrameError::OutOfPlace(Kind::Answer)),
        Received::Frame(Frame::Refusal { .. }) => return Err(FrameError::OutOfPlace(Kind::Refusal)),
        Received::Frame(Frame::Pong) => return Err(FrameError::OutOfPlace(Kind::Pong)),
        Received::TooLarge { kind, id } => skipped(connection, kind, id, LinkRefusal::TooLarge),
        Received::Malformed { kind, id } => skipped(connection, kind, id, LinkRefusal::Malformed),
        Received::Unknown => add(&context.counters.skipped, 1),
    }
    Ok(())
}

/// The asker of what could not be read is told; news that could not be read are lost, and that is said.
fn skipped(connection: &Connection, kind: Kind, id: u64, why: LinkRefusal) {
    let context = &connection.context;
    add(&context.counters.skipped, 1);
    if context.complaints.is_due(&connection.peer.node) {
        tracing::warn!(peer.id = %connection.peer, "a peer sent a frame that is {why}");
    }
    if kind == Kind::Ask {
        refuse(connection, id, why);
    } else {
        context.inbound.lost(connection.peer.clone());
    }
}

/// Says no, if there is room for it. Without room the asker finds out by its deadline.
fn refuse(connection: &Connection, id: u64, why: LinkRefusal) {
    let _ = connection.outbox.try_send(Frame::Refusal { id, why });
}

fn ask(connection: &Arc<Connection>, asks: &Arc<Semaphore>, question: (u64, Duration, Box<RawValue>)) {
    let Ok(place) = Arc::clone(asks).try_acquire_owned() else {
        add(&connection.context.counters.busy, 1);
        refuse(connection, question.0, LinkRefusal::Busy);
        return;
    };
    connection.context.spawn(answer(Arc::clone(connection), place, question));
}

/// Works on one question until its asker gives up. If the work panics, the asker is told at once. A connection that breaks does not stop the work: what
/// was begun is finished, and its sender finds it done when it asks again.
async fn answer(
    connection: Arc<Connection>,
    _place: OwnedSemaphorePermit,
    (id, left, body): (u64, Duration, Box<RawValue>),
) {
    let context = &connection.context;
    let _raised = Raised::new(&context.counters.answers_in_flight);
    let until = Instant::now() + left.min(context.settings.longest_ask);
    let work = async {
        let answered = AssertUnwindSafe(context.inbound.ask(connection.peer.clone(), body)).catch_unwind();
        let frame = match answered.await.unwrap_or_else(|_| Err(LinkRefusal::Other("failed".into()))) {
            Ok(body) if body.get().len() > context.settings.largest_body => {
                Frame::Refusal { id, why: LinkRefusal::TooLarge }
            }
            Ok(body) => Frame::Answer { id, body },
            Err(why) => Frame::Refusal { id, why },
        };
        // With the connection gone, nobody waits for it.
        let _ = connection.outbox.send(frame, None).await;
    };
    // At the deadline the asker has its answer already: none in time.
    let _ = context.stop.run_until_cancelled(timeout_at(until, work)).await;
}
