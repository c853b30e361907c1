//! Keeps a connection to one peer, and sends over it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Ended, Side};
use super::context::Context;
use super::counters::{Raised, add};
use super::frame::Frame;
use super::transport::{LinkError, Peer};
use super::window::{Reply, Window};
use super::wire::{BoxedStream, DialError, Wire};
use crate::domain::backoff::Backoff;
use crate::domain::time::Millis;

/// Between tries to connect.
const BACKOFF: Backoff = Backoff { first: Millis(20), factor: 2, longest: Millis(1_000) };
/// A connection that lasted this long is dialed anew at once when it breaks. One that broke sooner waits
/// like a failed try, so that two nodes which disagree do not keep each other busy.
const STEADY: Duration = Duration::from_millis(500);

/// How far a question has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for a place in the window.
    Entering,
    /// It waits for the connection to be made.
    Connecting,
    /// It waits for room in the queue.
    Queueing,
    /// It waits for its answer.
    Waiting,
}

impl Stage {
    /// What the end of the deadline means at this point.
    const fn expired(self) -> LinkError {
        match self {
            Self::Entering | Self::Queueing => LinkError::Full,
            Self::Connecting => LinkError::Gone { sure: true },
            Self::Waiting => LinkError::Timeout,
        }
    }
}

/// Where the connection stands.
enum LinkState {
    Connecting,
    Up(Arc<Connection>),
    /// The last try failed, the next one comes.
    Down,
    /// The peer is not one any more.
    Ended,
}

/// One peer, as those who send to it see it.
pub(super) struct PeerLink {
    pub(super) peer: Peer,
    context: Arc<Context>,
    window: Window,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
}

impl PeerLink {
    /// Starts to keep a connection.
    pub(super) fn start(peer: Peer, context: &Arc<Context>, wire: Arc<dyn Wire>) -> Arc<Self> {
        let link = Arc::new(Self {
            peer,
            context: Arc::clone(context),
            window: Window::new(&context.settings),
            state: watch::Sender::new(LinkState::Connecting),
            stop: context.stop.child_token(),
        });
        context.spawn(keep(Arc::clone(&link), wire));
        link
    }

    /// Closes the connection for good.
    pub(super) fn end(&self) {
        self.stop.cancel();
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), LinkState::Up(_))
    }

    pub(super) async fn ask(&self, body: Box<RawValue>, deadline: Duration) -> Reply {
        self.check_size(&body)?;
        let counters = &self.context.counters;
        let _raised = Raised::new(&counters.asks_in_flight);
        let until = Instant::now() + deadline.min(self.context.settings.longest_ask);
        let mut stage = Stage::Entering;
        let reply = match timeout_at(until, self.carry(body, until, &mut stage)).await {
            Ok(reply) => reply,
            Err(_) => Err(stage.expired()),
        };
        match &reply {
            Err(LinkError::Full) => add(&counters.full, 1),
            Err(LinkError::Timeout) => add(&counters.timeouts, 1),
            Ok(_) | Err(LinkError::Gone { .. } | LinkError::Refused(_) | LinkError::TooLarge { .. }) => {}
        }
        reply
    }

    async fn carry(&self, body: Box<RawValue>, until: Instant, stage: &mut Stage) -> Reply {
        let _place = self.window.enter().await?;
        *stage = Stage::Connecting;
        let connection = self.connected().await?;
        connection.ask(body, until, stage).await
    }

    /// The connection, if it is up or about to be.
    async fn connected(&self) -> Result<Arc<Connection>, LinkError> {
        if let LinkState::Up(connection) = &*self.state.borrow() {
            return Ok(Arc::clone(connection));
        }
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                LinkState::Up(connection) => return Ok(Arc::clone(connection)),
                LinkState::Down | LinkState::Ended => return Err(LinkError::Gone { sure: true }),
                LinkState::Connecting => {}
            }
            state.changed().await.map_err(|_| LinkError::Gone { sure: true })?;
        }
    }

    pub(super) fn push(&self, body: Box<RawValue>) -> Result<(), LinkError> {
        self.check_size(&body)?;
        match &*self.state.borrow() {
            LinkState::Up(connection) => connection.outbox.try_send(Frame::Push { body }),
            LinkState::Connecting | LinkState::Down | LinkState::Ended => Err(LinkError::Gone { sure: true }),
        }
    }

    fn check_size(&self, body: &RawValue) -> Result<(), LinkError> {
        let (bytes, limit) = (body.get().len(), self.context.settings.largest_body);
        if bytes > limit { Err(LinkError::TooLarge { bytes, limit }) } else { Ok(()) }
    }
}

/// Dials, carries frames while the connection lasts, and dials again.
async fn keep(link: Arc<PeerLink>, wire: Arc<dyn Wire>) {
    let (mut tries, mut was_up) = (0, false);
    while let Some(dialed) = link.stop.run_until_cancelled(wire.dial(&link.peer)).await {
        match dialed {
            Ok(stream) => {
                let lasted = hold(&link, stream, was_up).await;
                was_up = true;
                if lasted >= STEADY && !link.stop.is_cancelled() {
                    tries = 0;
                    continue;
                }
            }
            Err(error) => report(&link, &error, was_up),
        }
        link.state.send_replace(LinkState::Down);
        let pause = BACKOFF.jittered(tries, rand::random()).duration();
        if link.stop.run_until_cancelled(sleep(pause)).await.is_none() {
            break;
        }
        tries += 1;
        link.state.send_replace(LinkState::Connecting);
    }
    link.state.send_replace(LinkState::Ended);
}

/// Carries frames until the connection ends; tells how long it lasted.
async fn hold(link: &PeerLink, stream: BoxedStream, was_up: bool) -> Duration {
    let context = &link.context;
    add(&context.counters.connects, 1);
    add(&context.counters.reconnects, usize::from(was_up));
    let (connection, mut queue) = Connection::new(link.peer.at.clone(), context);
    link.state.send_replace(LinkState::Up(Arc::clone(&connection)));
    tracing::info!(peer.id = %link.peer.at, "link to peer is up");
    let since = Instant::now();
    let ended = connection.run(stream, &mut queue, &Side::Dialed, &link.stop).await;
    // Who asks again at once must find the next connection, not this one.
    link.state.send_replace(LinkState::Connecting);
    connection.close(queue);
    context.inbound.lost(link.peer.at.clone());
    if !matches!(ended, Ended::Stopped) {
        tracing::warn!(peer.id = %link.peer.at, why = %ended, "link to peer broke");
    }
    since.elapsed()
}

fn report(link: &PeerLink, error: &DialError, was_up: bool) {
    let context = &link.context;
    match error {
        DialError::Refused => {
            add(&context.counters.refused, 1);
            if was_up {
                context.tell_refused(&link.peer.at);
            }
        }
        DialError::Greeting(_) => add(&context.counters.rejected, 1),
        DialError::TimedOut | DialError::Io(_) | DialError::Name(_) => {}
    }
    if context.complaints.is_due(&link.peer.address) {
        tracing::warn!(peer.id = %link.peer.at, why = %error, "peer cannot be reached");
    }
}
