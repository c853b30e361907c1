//! One connection that is up: reads, writes, and listens for signs of life.
//!
//! All three run in one task, and none waits for another: what is read is handed on at once, so two
//! nodes that flood each other cannot stop each other from reading.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::codec::{Decoder as _, Encoder as _};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::counters::add;
use super::dialer::Stage;
use super::frame::{Frame, FrameCodec, FrameError, Kind, Received};
use super::outbox::{Outbox, Queued, Room};
use super::requests;
use super::transport::{LinkError, LinkRefusal};
use super::window::{Pending, Reply};
use super::wire::BoxedStream;
use crate::domain::node::NodeRef;

/// The buffer for reading grows by this much, in bytes.
const READ_STEP: usize = 16 * 1024;
/// Frames are put together until a write has this many bytes.
const WRITE_STEP: usize = 64 * 1024;
/// Looks for signs of life per time that a peer may be silent. The peer is given up when all looks but
/// one found nothing: after that time at the latest. Looks are counted and not the time, so that a node
/// which was itself stopped does not blame its peers.
const LOOKS: u32 = 8;

/// Who dialed, which decides what may come.
pub(super) enum Side {
    /// We did: answers come.
    Dialed,
    /// The peer did: questions and news come. As many questions at a time as this permits.
    Accepted(Arc<Semaphore>),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by the peer")]
    Closed,
    #[error("broken: {0}")]
    Broken(io::ErrorKind),
    #[error("the peer fell silent")]
    Silent,
    #[error("the peer does not read")]
    Unread,
    #[error("not understood: {0}")]
    NotUnderstood(#[from] FrameError),
    #[error("closed by this node")]
    Stopped,
}

/// A connection, as those who send over it see it.
pub(super) struct Connection {
    pub(super) peer: NodeRef,
    pub(super) outbox: Outbox,
    pub(super) context: Arc<Context>,
    pending: Pending,
    /// Something came since the last look.
    heard: AtomicBool,
}

impl Connection {
    pub(super) fn new(peer: NodeRef, context: &Arc<Context>) -> (Arc<Self>, mpsc::Receiver<Queued>) {
        let (outbox, queue) = Outbox::new(&context.settings, Arc::clone(&context.counters));
        let connection = Self {
            peer,
            outbox,
            context: Arc::clone(context),
            pending: Pending::default(),
            heard: AtomicBool::new(true),
        };
        (Arc::new(connection), queue)
    }

    /// Sends a question and waits for its answer. The caller ends it at `until`; `stage` then tells how
    /// far it came.
    pub(super) async fn ask(&self, body: Box<RawValue>, until: Instant, stage: &mut Stage) -> Reply {
        let mut ticket = self.pending.register().ok_or(LinkError::Gone { sure: true })?;
        *stage = Stage::Queueing;
        let frame = Frame::Ask { id: ticket.id, left: Duration::ZERO, body };
        self.outbox.send(frame, Some(until)).await.map_err(|_| LinkError::Gone { sure: true })?;
        *stage = Stage::Waiting;
        (&mut ticket.answer).await.unwrap_or(Err(LinkError::Gone { sure: false }))
    }

    /// Carries frames until the connection ends.
    pub(super) async fn run(
        self: &Arc<Self>,
        stream: BoxedStream,
        queue: &mut mpsc::Receiver<Queued>,
        side: &Side,
        stop: &CancellationToken,
    ) -> Ended {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            () = stop.cancelled() => Ended::Stopped,
            ended = self.read(&mut reader, side) => ended,
            ended = self.write(&mut writer, queue) => ended,
            ended = self.look(side) => ended,
        };
        if matches!(ended, Ended::Silent | Ended::Unread) {
            add(&self.context.counters.silent, 1);
        }
        ended
    }

    /// Answers everything that waits, once the connection has ended. What still waits to be written
    /// certainly was not seen; what was written may have been.
    pub(super) fn close(&self, mut queue: mpsc::Receiver<Queued>) {
        queue.close();
        self.outbox.close();
        while let Ok(queued) = queue.try_recv() {
            if let Frame::Ask { id, .. } = queued.frame {
                self.pending.settle(id, Err(LinkError::Gone { sure: true }));
            }
        }
        self.pending.close();
    }

    async fn read(self: &Arc<Self>, reader: &mut (impl AsyncRead + Unpin), side: &Side) -> Ended {
        let counters = &self.context.counters;
        let mut codec = FrameCodec::new(self.context.settings.largest_body);
        let mut buffer = BytesMut::with_capacity(READ_STEP);
        loop {
            loop {
                match codec.decode(&mut buffer) {
                    Ok(Some(received)) => {
                        add(&counters.frames_in, 1);
                        if let Err(error) = self.receive(received, side) {
                            return error.into();
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
            if buffer.capacity() - buffer.len() < READ_STEP / 4 {
                buffer.reserve(READ_STEP);
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return Ended::Closed,
                Ok(count) => {
                    self.heard.store(true, Ordering::Relaxed);
                    add(&counters.bytes_in, count);
                }
                Err(error) => return broken(&error),
            }
        }
    }

    fn receive(self: &Arc<Self>, received: Received, side: &Side) -> Result<(), FrameError> {
        match side {
            Side::Accepted(asks) => requests::receive(self, asks, received),
            Side::Dialed => self.receive_answer(received),
        }
    }

    fn receive_answer(&self, received: Received) -> Result<(), FrameError> {
        let skipped = || add(&self.context.counters.skipped, 1);
        match received {
            Received::Frame(Frame::Answer { id, body }) => self.settle(id, Ok(body)),
            Received::Frame(Frame::Refusal { id, why }) => self.settle(id, Err(LinkError::Refused(why))),
            Received::Frame(Frame::Pong) => {}
            Received::Frame(Frame::Ask { .. }) => return Err(FrameError::OutOfPlace(Kind::Ask)),
            Received::Frame(Frame::Push { .. }) => return Err(FrameError::OutOfPlace(Kind::Push)),
            Received::Frame(Frame::Ping) => return Err(FrameError::OutOfPlace(Kind::Ping)),
            Received::TooLarge { kind: _, id } => {
                skipped();
                self.settle(id, Err(LinkError::Refused(LinkRefusal::TooLarge)));
            }
            Received::Malformed { kind: _, id } => {
                skipped();
                self.settle(id, Err(LinkError::Refused(LinkRefusal::Other("unreadable answer".into()))));
            }
            Received::Unknown => skipped(),
        }
        Ok(())
    }

    fn settle(&self, id: u64, reply: Reply) {
        if !self.pending.settle(id, reply) {
            add(&self.context.counters.late_answers, 1);
        }
    }

    async fn write(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        queue: &mut mpsc::Receiver<Queued>,
    ) -> Ended {
        let mut buffer = BytesMut::with_capacity(READ_STEP);
        let mut rooms = Vec::new();
        loop {
            let first = tokio::select! {
                biased;
                () = self.outbox.woken() => None,
                queued = queue.recv() => queued,
            };
            for sign in self.outbox.signs() {
                self.put(&sign, &mut buffer);
            }
            let mut next = first.or_else(|| queue.try_recv().ok());
            while let Some(queued) = next {
                self.put_queued(queued, &mut buffer, &mut rooms);
                next = if buffer.len() < WRITE_STEP { queue.try_recv().ok() } else { None };
            }
            if let Err(ended) = self.write_out(writer, &mut buffer).await {
                return ended;
            }
            rooms.clear();
        }
    }

    fn put_queued(&self, queued: Queued, buffer: &mut BytesMut, rooms: &mut Vec<Room>) {
        let Queued { mut frame, until, room } = queued;
        if let (Frame::Ask { left, .. }, Some(until)) = (&mut frame, until) {
            *left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return; // who asked has given up
            }
        }
        self.put(&frame, buffer);
        rooms.push(room);
    }

    fn put(&self, frame: &Frame, buffer: &mut BytesMut) {
        let counters = &self.context.counters;
        let before = buffer.len();
        // Only reading can fail in this codec.
        let _ = FrameCodec::new(0).encode(frame, buffer);
        add(&counters.frames_out, 1);
        add(&counters.bytes_out, buffer.len() - before);
    }

    /// Writes and flushes. A large frame on a slow line may take long, as long as it moves.
    async fn write_out(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        buffer: &mut BytesMut,
    ) -> Result<(), Ended> {
        let patience = self.context.settings.silent_after;
        while !buffer.is_empty() {
            match timeout(patience, writer.write(buffer)).await {
                Ok(Ok(0)) => return Err(Ended::Closed),
                Ok(Ok(count)) => buffer.advance(count),
                Ok(Err(error)) => return Err(broken(&error)),
                Err(_) => return Err(Ended::Unread),
            }
        }
        match timeout(patience, writer.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(Ended::Unread),
        }
    }

    /// Looks for signs of life, and on the side that dialed asks for them.
    async fn look(&self, side: &Side) -> Ended {
        let settings = &self.context.settings;
        let every = (settings.silent_after / LOOKS).max(Duration::from_millis(1));
        let looks_per_ping = (settings.ping_every.as_millis() / every.as_millis().max(1)).max(1);
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut since_ping) = (0, 0);
        loop {
            looks.tick().await;
            silent = if self.heard.swap(false, Ordering::Relaxed) { 0 } else { silent + 1 };
            if silent >= LOOKS - 1 {
                return Ended::Silent;
            }
            since_ping += 1;
            if matches!(side, Side::Dialed) && since_ping >= looks_per_ping {
                since_ping = 0;
                self.outbox.ping();
            }
        }
    }
}

/// The end that an error of the socket means.
fn broken(error: &io::Error) -> Ended {
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) {
        Ended::Closed
    } else {
        Ended::Broken(kind)
    }
}
