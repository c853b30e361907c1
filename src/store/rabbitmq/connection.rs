//! The way to the broker: found at the start, and found again after each outage.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event as ConnectionEvent};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::errors;
use super::session::Session;
use crate::domain::backoff::Backoff;
use crate::domain::time::Millis;
use crate::store::error::StoreError;

/// Pauses between tries to connect. The longest is short: one try is cheap for a broker, and what
/// was not published piles up meanwhile.
const TRIES: Backoff = Backoff { first: Millis(100), factor: 2, longest: Millis(1_000) };
/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one try may take. A thread of the client stays behind when it takes longer, until the
/// socket is closed; so this is not short.
const TRY_LIMIT: Duration = Duration::from_secs(30);
/// Seconds between signs of life, unless the URL says otherwise; after two without one the
/// connection counts as lost.
const HEARTBEAT: u16 = 10;
/// How often the state of the connection is looked at, should it end without an event.
const LOOK: Duration = Duration::from_secs(1);
/// After how many failed tries the log says again that there is no broker: about each minute.
const TRIES_PER_WARNING: usize = 60;

/// What is known of the connection.
#[derive(Clone)]
enum State {
    /// The first try is under way.
    Trying,
    Up(Arc<Session>),
    Down(StoreError),
}

/// The way to the broker. Clones share it; the first one holds it open.
pub(super) struct Link {
    state: watch::Receiver<State>,
    tasks: TaskTracker,
    closing: CancellationToken,
    /// Only in the first one.
    _closes: Option<DropGuard>,
}

impl Clone for Link {
    fn clone(&self) -> Self {
        let (state, tasks, closing) = (self.state.clone(), self.tasks.clone(), self.closing.clone());
        Self { state, tasks, closing, _closes: None }
    }
}

impl Link {
    /// Begins to look for the broker, and waits a while for the first result.
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let broker = broker(url)?;
        let (sender, state) = watch::channel(State::Trying);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(keep(broker, sender, closing.clone()));
        tasks.close();
        let closes = Some(closing.clone().drop_guard());
        let link = Self { state, tasks, closing, _closes: closes };
        match link.first_result().await {
            State::Down(StoreError::Refused(reason)) => Err(StoreError::Refused(reason)),
            State::Down(_) | State::Trying | State::Up(_) => Ok(link),
        }
    }

    async fn first_result(&self) -> State {
        let mut state = self.state.clone();
        let tried = timeout(PATIENCE, state.wait_for(|state| !matches!(state, State::Trying))).await;
        match tried {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => State::Trying,
        }
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }

    /// The connection as it stands; does not wait.
    pub(super) fn session_now(&self) -> Result<Arc<Session>, StoreError> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(session.clone()),
            State::Trying => Err(StoreError::Unavailable("broker does not answer yet".to_owned())),
            State::Down(StoreError::Refused(reason)) => Err(StoreError::Unavailable(reason.clone())),
            State::Down(error) => Err(error.clone()),
        }
    }

    /// The connection; waits for it a while.
    pub(super) async fn session(&self) -> Result<Arc<Session>, StoreError> {
        match timeout(PATIENCE, self.next_session()).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(StoreError::Unavailable("bus is closed".to_owned())),
            Err(_) => self.session_now(),
        }
    }

    /// The connection; waits for it however long that takes. `None` when the bus was closed.
    pub(super) async fn next_session(&self) -> Option<Arc<Session>> {
        let mut state = self.state.clone();
        loop {
            if self.closing.is_cancelled() {
                return None;
            }
            if let State::Up(session) = &*state.borrow_and_update() {
                return Some(session.clone());
            }
            state.changed().await.ok()?;
        }
    }
}

/// Reads the URL, and fills in what it leaves open.
fn broker(url: &str) -> Result<AMQPUri, StoreError> {
    let malformed = |reason: String| {
        StoreError::Refused(format!("bus URL must be `amqp://USER:PASSWORD@HOST:PORT/VHOST`: {reason}"))
    };
    let mut broker: AMQPUri = url.parse().map_err(malformed)?;
    // `amqp://host/` would name the virtual host without a name, which nobody has.
    if broker.vhost.is_empty() {
        "/".clone_into(&mut broker.vhost);
    }
    broker.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(broker)
}

/// Holds a connection until the bus is closed.
async fn keep(broker: AMQPUri, state: watch::Sender<State>, closing: CancellationToken) {
    closing.run_until_cancelled(hold(&broker, &state)).await;
    let last = state.send_replace(State::Down(StoreError::Unavailable("bus is closed".to_owned())));
    if let State::Up(session) = last {
        session.close().await;
    }
}

async fn hold(broker: &AMQPUri, state: &watch::Sender<State>) {
    let mut failures = 0;
    loop {
        match connect(broker).await {
            Ok(session) => {
                info!(bus.host = %broker.authority.host, bus.port = broker.authority.port, "connected to the broker");
                let session = Arc::new(session);
                state.send_replace(State::Up(session.clone()));
                failures = 0;
                let reason = until_lost(&session).await;
                warn!(reason, "the connection to the broker is lost");
                state.send_replace(State::Down(StoreError::Unavailable(reason)));
                session.lose();
            }
            Err(error) => {
                if failures % TRIES_PER_WARNING == 0 {
                    warn!(%error, tries.failed = failures, "cannot connect to the broker; trying on");
                } else {
                    debug!(%error, "cannot connect to the broker");
                }
                state.send_replace(State::Down(error));
                failures += 1;
            }
        }
        sleep(TRIES.jittered(failures, rand::random()).duration()).await;
    }
}

async fn connect(broker: &AMQPUri) -> Result<Session, StoreError> {
    let properties = ConnectionProperties::default().with_connection_name("eml".into());
    let opening = async {
        let connection = Connection::connect_uri(broker.clone(), properties).await;
        Session::open(connection.map_err(|error| errors::from(&error))?).await
    };
    let late = |_| Err(StoreError::Unavailable("broker does not answer".to_owned()));
    timeout(TRY_LIMIT, opening).await.unwrap_or_else(late)
}

/// Waits until a connection has ended; gives the reason.
async fn until_lost(session: &Session) -> String {
    let mut events = Box::pin(session.connection().events_listener());
    loop {
        let event = timeout(LOOK, events.next()).await;
        match &event {
            Ok(Some(ConnectionEvent::ConnectionBlocked(reason))) => {
                warn!(reason, "the broker takes nothing for now");
            }
            Ok(Some(ConnectionEvent::ConnectionUnblocked)) => info!("the broker takes messages again"),
            Ok(_) | Err(_) => {}
        }
        if !session.is_up() {
            return match event {
                Ok(Some(ConnectionEvent::Error(error))) => format!("broker: {error}"),
                Ok(_) | Err(_) => "broker: connection ended".to_owned(),
            };
        }
        if matches!(event, Ok(None)) {
            sleep(LOOK).await;
        }
    }
}
