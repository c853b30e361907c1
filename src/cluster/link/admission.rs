//! The connections that peers dialed: one per node at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Ended, Side};
use super::context::Context;
use super::counters::add;
use super::wire::BoxedStream;
use crate::domain::node::NodeRef;

/// Who is connected to us.
pub(super) struct Admission {
    context: Arc<Context>,
    rooms: Mutex<HashMap<Box<str>, Room>>,
    serial: AtomicU64,
}

/// What is kept of a node that connected.
struct Room {
    /// Places for its questions, over all its connections: work that an ended one left counts too.
    asks: Arc<Semaphore>,
    now: Option<Seat>,
}

/// The connection that holds a node's place.
#[derive(Clone)]
struct Seat {
    serial: u64,
    at: NodeRef,
    stop: CancellationToken,
    /// Cancelled when the connection has ended and its loss was told.
    finished: CancellationToken,
}

impl Admission {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, rooms: Mutex::default(), serial: AtomicU64::new(0) }
    }

    /// Carries the frames of a peer that has shown who it is. An older connection of the same node ends
    /// first: its news come before, and the loss of the rest is told in between.
    pub(super) async fn admit(&self, from: NodeRef, stream: BoxedStream) {
        let seat = Seat {
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            at: from,
            stop: self.context.stop.child_token(),
            finished: CancellationToken::new(),
        };
        let _finished = seat.finished.clone().drop_guard();
        let (asks, before) = self.seat(&seat);
        if let Some(before) = before {
            before.stop.cancel();
            before.finished.cancelled().await;
        }
        // The view may have changed since the greeting, and those seated were closed then.
        if (self.context.living)(&seat.at) && !seat.stop.is_cancelled() {
            self.carry(&seat, asks, stream).await;
        }
        self.unseat(&seat);
    }

    async fn carry(&self, seat: &Seat, asks: Arc<Semaphore>, stream: BoxedStream) {
        let context = &self.context;
        add(&context.counters.connects, 1);
        tracing::info!(peer.id = %seat.at, "link from peer is up");
        let (connection, mut queue) = Connection::new(seat.at.clone(), context);
        let ended = connection.run(stream, &mut queue, &Side::Accepted(asks), &seat.stop).await;
        connection.close(queue);
        context.inbound.lost(seat.at.clone());
        if !matches!(ended, Ended::Stopped) {
            tracing::warn!(peer.id = %seat.at, why = %ended, "link from peer broke");
        }
    }

    /// Takes the node's place; tells who had it.
    fn seat(&self, seat: &Seat) -> (Arc<Semaphore>, Option<Seat>) {
        let mut rooms = self.rooms();
        let room = rooms.entry(seat.at.node.clone()).or_insert_with(|| Room {
            asks: Arc::new(Semaphore::new(self.context.settings.inbound_asks)),
            now: None,
        });
        (Arc::clone(&room.asks), room.now.replace(seat.clone()))
    }

    fn unseat(&self, seat: &Seat) {
        let mut rooms = self.rooms();
        if let Some(room) = rooms.get_mut(&seat.at.node)
            && room.now.as_ref().is_some_and(|now| now.serial == seat.serial)
        {
            room.now = None;
        }
    }

    /// Closes the connections of runs that the view does not know any more, and forgets nodes that have
    /// neither a connection nor work.
    pub(super) fn recheck(&self) {
        let all = self.context.settings.inbound_asks;
        self.rooms().retain(|_, room| match &room.now {
            Some(seat) => {
                if !(self.context.living)(&seat.at) {
                    seat.stop.cancel();
                }
                true
            }
            None => room.asks.available_permits() < all,
        });
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Box<str>, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
