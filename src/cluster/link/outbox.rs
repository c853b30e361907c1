//! Frames that wait for one connection, bounded by number and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::counters::{LinkCounters, add, take};
use super::frame::Frame;
use super::settings::LinkSettings;
use super::transport::LinkError;

/// A frame on its way, with the room it takes.
pub(super) struct Queued {
    pub(super) frame: Frame,
    /// When a question is not worth sending any more.
    pub(super) until: Option<Instant>,
    pub(super) room: Room,
}

/// Bytes of the queue, given back when dropped.
pub(super) struct Room {
    _bytes: OwnedSemaphorePermit,
    size: usize,
    counters: Arc<LinkCounters>,
}

impl Drop for Room {
    fn drop(&mut self) {
        take(&self.counters.bytes_queued, self.size);
    }
}

/// The sending end.
pub(super) struct Outbox {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    counters: Arc<LinkCounters>,
    /// Signs of life pass the queue by, so that a long queue does not look like silence.
    ping: AtomicBool,
    pong: AtomicBool,
    wake: Notify,
}

/// The connection ended.
#[derive(Debug)]
pub(super) struct Closed;

impl Outbox {
    pub(super) fn new(
        settings: &LinkSettings,
        counters: Arc<LinkCounters>,
    ) -> (Self, mpsc::Receiver<Queued>) {
        let (frames, queue) = mpsc::channel(settings.queue_frames);
        // At least one frame of the largest size must fit, or it would wait for ever.
        let bytes = settings.queue_bytes.max(settings.largest_body * 2).min(Semaphore::MAX_PERMITS);
        let outbox = Self {
            frames,
            bytes: Arc::new(Semaphore::new(bytes)),
            counters,
            ping: AtomicBool::new(false),
            pong: AtomicBool::new(false),
            wake: Notify::new(),
        };
        (outbox, queue)
    }

    /// Queues a frame; waits while there is no room.
    pub(super) async fn send(&self, frame: Frame, until: Option<Instant>) -> Result<(), Closed> {
        let size = frame.size();
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(permits(size)).await.map_err(|_| Closed)?;
        let place = self.frames.reserve().await.map_err(|_| Closed)?;
        place.send(Queued { frame, until, room: self.room(bytes, size) });
        Ok(())
    }

    /// Queues a frame, or says that there is no room.
    pub(super) fn try_send(&self, frame: Frame) -> Result<(), LinkError> {
        let size = frame.size();
        let gone = LinkError::Gone { sure: true };
        let full = || {
            add(&self.counters.full, 1);
            LinkError::Full
        };
        let bytes = match Arc::clone(&self.bytes).try_acquire_many_owned(permits(size)) {
            Ok(bytes) => bytes,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(full()),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(gone),
        };
        match self.frames.try_reserve() {
            Ok(place) => {
                place.send(Queued { frame, until: None, room: self.room(bytes, size) });
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(gone),
        }
    }

    fn room(&self, bytes: OwnedSemaphorePermit, size: usize) -> Room {
        add(&self.counters.bytes_queued, size);
        Room { _bytes: bytes, size, counters: Arc::clone(&self.counters) }
    }

    /// Asks for a sign of life, ahead of the queue.
    pub(super) fn ping(&self) {
        self.ping.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Gives a sign of life, ahead of the queue. Several that wait become one.
    pub(super) fn pong(&self) {
        self.pong.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Waits until a sign of life is to be sent.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The signs of life that are due.
    pub(super) fn signs(&self) -> impl Iterator<Item = Frame> + use<> {
        let asked = self.ping.swap(false, Ordering::Relaxed).then_some(Frame::Ping);
        let given = self.pong.swap(false, Ordering::Relaxed).then_some(Frame::Pong);
        asked.into_iter().chain(given)
    }

    /// Ends those who wait for room.
    pub(super) fn close(&self) {
        self.bytes.close();
    }
}

fn permits(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
