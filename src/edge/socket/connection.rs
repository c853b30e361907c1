//! One open socket: frames in, events out, pings, limits.
//!
//! One task per connection, and nothing in it but the connection. What the agent is lives in the
//! session's actor; when this task ends the session is told, and nothing is lost with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::super::auth::{Caller, Watch};
use super::super::error::{ApiError, Code};
use super::super::router::{Departure, EdgeState};
use super::commands::{Done, carry_out};
use super::protocol::{self, ClientFrame, Reply};
use crate::actors::AgentEvent;
use crate::domain::id::{QueueId, SocketId};
use crate::domain::time::Timestamp;

/// How long a client may take to greet before it counts as new.
const GREETING: Duration = Duration::from_secs(1);
/// Replies that are kept for repeated commands.
const REMEMBERED_REPLIES: usize = 32;
/// How often figures of subscribed queues are sent.
const FIGURES: Duration = Duration::from_secs(1);
/// Spread of the reconnects that a draining node asks for, in milliseconds.
const RECONNECT_SPREAD: u64 = 5_000;

/// Close codes, as in the protocol's description.
mod close {
    pub(super) const RESTART: u16 = 1012;
    pub(super) const OVERLOAD: u16 = 1013;
    pub(super) const SIGNED_OUT: u16 = 4401;
    pub(super) const SILENT: u16 = 4408;
    pub(super) const TOO_FAST: u16 = 4429;
}

/// Why a connection ends.
enum End {
    /// The client or the network closed it.
    Gone,
    /// We close it.
    Close(u16, &'static str),
}

struct Connection {
    state: EdgeState,
    caller: Caller,
    watch: Watch,
    socket: WebSocket,
    id: SocketId,
    replies: VecDeque<(String, String)>,
    topics: Vec<QueueId>,
    last_heard: Instant,
    window: (Instant, u32),
    /// Number of the last event that was sent.
    last_sequence: Option<u64>,
    /// Whether the client knows that the node is being stopped.
    is_told: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Greeting {
    last_sequence: Option<u64>,
}

/// Serves a socket until it ends.
pub(super) async fn serve(state: EdgeState, (caller, watch): (Caller, Watch), socket: WebSocket) {
    let now = Instant::now();
    let mut connection = Box::new(Connection {
        state,
        caller,
        watch,
        socket,
        id: SocketId::fresh(),
        replies: VecDeque::new(),
        topics: Vec::new(),
        last_heard: now,
        window: (now, 0),
        last_sequence: None,
        is_told: false,
    });
    connection.state.engine.metrics().socket_opened();
    let end = connection.run().await;
    if let Some(agent_id) = connection.caller.agent_id {
        connection.state.engine.detach(agent_id, connection.id);
    }
    if let End::Close(code, reason) = end {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = connection.socket.send(Message::Close(Some(frame))).await;
    }
    connection.state.engine.metrics().socket_closed();
}

impl Connection {
    async fn run(&mut self) -> End {
        let (first, greeting) = match self.greeting().await {
            Ok(greeted) => greeted,
            Err(end) => return end,
        };
        let (outbox, inbox) = mpsc::channel(self.state.settings.socket.send_queue);
        if let Err(end) = Box::pin(self.attach(outbox, greeting)).await {
            return end;
        }
        if let Some(frame) = first
            && let Err(end) = self.take(frame).await
        {
            return end;
        }
        self.serve(inbox).await
    }

    /// The client's greeting, if it sends one at once; otherwise its first command.
    async fn greeting(&mut self) -> Result<(Option<ClientFrame>, Greeting), End> {
        let Ok(first) = timeout(GREETING, self.socket.recv()).await else {
            return Ok((None, Greeting::default()));
        };
        match self.read(first)? {
            Some(frame) if frame.kind == "hello" => {
                let greeting = serde_json::from_value(frame.data).unwrap_or_default();
                Ok((None, greeting))
            }
            other => Ok((other, Greeting::default())),
        }
    }

    /// Opens the session's stream of events and sends what the client needs to begin.
    async fn attach(&mut self, outbox: mpsc::Sender<Arc<AgentEvent>>, greeting: Greeting) -> Result<(), End> {
        let now = self.now();
        let Some(agent_id) = self.caller.agent_id else {
            return self.send(protocol::hello("hello", self.id, false, None, now)).await;
        };
        let attached = self.state.engine.attach(agent_id, self.id, outbox, greeting.last_sequence).await;
        let Ok(attached) = attached else {
            return Err(End::Close(close::OVERLOAD, "session is not available"));
        };
        let is_lost = greeting.last_sequence.is_some() && !attached.resumed;
        let hello = protocol::hello("hello", self.id, attached.resumed, Some(&attached.snapshot), now);
        self.send(hello).await?;
        if is_lost {
            self.send(protocol::hello("resync", self.id, false, Some(&attached.snapshot), now)).await?;
        }
        self.last_sequence = Some(attached.snapshot.sequence - attached.missed.len() as u64);
        self.catch_up(attached.missed).await
    }

    /// The session moved to another node, or the way to it broke: opens it again behind the last event
    /// that was sent. The client never notices, unless it was too slow.
    async fn attach_again(&mut self) -> Result<mpsc::Receiver<Arc<AgentEvent>>, End> {
        let unavailable = End::Close(close::OVERLOAD, "session is not available");
        let Some(agent_id) = self.caller.agent_id else { return Err(unavailable) };
        if self.state.engine.gave_up(self.id) {
            return Err(End::Close(close::OVERLOAD, "client does not keep up"));
        }
        let (outbox, inbox) = mpsc::channel(self.state.settings.socket.send_queue);
        let attached = self.state.engine.attach(agent_id, self.id, outbox, self.last_sequence).await;
        let Ok(attached) = attached else { return Err(unavailable) };
        if !attached.resumed {
            let now = self.now();
            self.last_sequence = Some(attached.snapshot.sequence);
            self.send(protocol::hello("resync", self.id, false, Some(&attached.snapshot), now)).await?;
        }
        self.catch_up(attached.missed).await?;
        Ok(inbox)
    }

    async fn catch_up(&mut self, missed: Vec<Arc<AgentEvent>>) -> Result<(), End> {
        for event in missed {
            self.push(&event).await?;
        }
        Ok(())
    }

    async fn serve(&mut self, mut inbox: mpsc::Receiver<Arc<AgentEvent>>) -> End {
        let settings = self.state.settings.clone();
        let mut pings = every(settings.socket.ping_interval);
        let mut figures = every(FIGURES);
        let mut drain = self.state.drain.clone();
        let is_agent = self.caller.agent_id.is_some();
        loop {
            let step = tokio::select! {
                () = self.watch.revoked() => Err(End::Close(close::SIGNED_OUT, "signed out")),
                event = inbox.recv(), if is_agent => match event {
                    // Opened twice on its way to the session, a socket may be told twice.
                    Some(event) if self.has_sent(&event) => Ok(()),
                    Some(event) if self.is_next(&event) => self.push(&event).await,
                    // The channel was closed, or something is missing.
                    Some(_) | None => match Box::pin(self.attach_again()).await {
                        Ok(again) => {
                            inbox = again;
                            Ok(())
                        }
                        Err(end) => Err(end),
                    },
                },
                message = self.socket.recv() => match self.read(message) {
                    Ok(Some(frame)) => self.take(frame).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                _ = pings.tick() => self.ping(settings.socket.silent_after).await,
                _ = figures.tick(), if !self.topics.is_empty() => self.send_figures().await,
                _ = drain.changed() => {
                    let departure = *drain.borrow_and_update();
                    self.depart(departure).await
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn has_sent(&self, event: &AgentEvent) -> bool {
        self.last_sequence.is_some_and(|last| event.sequence <= last)
    }

    fn is_next(&self, event: &AgentEvent) -> bool {
        self.last_sequence.is_none_or(|last| event.sequence == last + 1)
    }

    async fn push(&mut self, event: &AgentEvent) -> Result<(), End> {
        self.send(protocol::event(event)).await?;
        self.last_sequence = Some(event.sequence);
        if &*event.kind == "offer.created" {
            self.measure_offer(event);
        }
        Ok(())
    }

    fn measure_offer(&self, event: &AgentEvent) {
        #[derive(Deserialize)]
        struct Offer {
            call: Call,
        }
        #[derive(Deserialize)]
        struct Call {
            queued_at: Option<Timestamp>,
        }
        let offer: Result<Offer, _> = serde_json::from_str(event.data.get());
        if let Some(queued_at) = offer.ok().and_then(|offer| offer.call.queued_at) {
            self.state.engine.metrics().offer_written(self.now().since(queued_at));
        }
    }

    fn now(&self) -> Timestamp {
        self.state.engine.clock().now()
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.socket.send(Message::Text(text.into())).await.map_err(|_| End::Gone)
    }

    /// Reads one message; control frames are dealt with by the library.
    fn read(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<Option<ClientFrame>, End> {
        self.last_heard = Instant::now();
        match message {
            None | Some(Err(_) | Ok(Message::Close(_))) => Err(End::Gone),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Text(text))) => {
                self.count()?;
                let unreadable =
                    ClientFrame { id: String::new(), kind: String::new(), data: serde_json::Value::Null };
                Ok(Some(serde_json::from_str(&text).unwrap_or(unreadable)))
            }
            Some(Ok(Message::Binary(_))) => Err(End::Close(1003, "text frames only")),
        }
    }

    /// Counts commands by the second.
    fn count(&mut self) -> Result<(), End> {
        let (since, count) = self.window;
        self.window =
            if since.elapsed() >= Duration::from_secs(1) { (Instant::now(), 1) } else { (since, count + 1) };
        if self.window.1 > self.state.settings.socket.commands_per_second {
            return Err(End::Close(close::TOO_FAST, "too many commands"));
        }
        Ok(())
    }

    async fn take(&mut self, frame: ClientFrame) -> Result<(), End> {
        if let Some((_, reply)) = self.replies.iter().find(|(id, _)| !id.is_empty() && *id == frame.id) {
            let reply = reply.clone();
            return self.send(reply).await;
        }
        let id = frame.id.clone();
        // Boxed: an idle connection would hold room for the largest command otherwise.
        let reply = Box::pin(self.answer(frame)).await;
        if self.replies.len() == REMEMBERED_REPLIES {
            self.replies.pop_front();
        }
        self.replies.push_back((id, reply.clone()));
        self.send(reply).await
    }

    async fn answer(&mut self, frame: ClientFrame) -> String {
        let id = frame.id.clone();
        let done = if frame.kind.is_empty() {
            Err(ApiError::new(Code::MalformedBody).detail("a frame is {\"id\",\"type\",\"data\"}"))
        } else {
            carry_out(&self.state, &self.caller, frame).await
        };
        let done = match done {
            Ok(Done::Subscribed(topics)) => self.subscribe(&topics).map(|()| None),
            Ok(Done::Answer(data)) => Ok(Some(data)),
            Ok(Done::Acknowledged) => Ok(None),
            Err(error) => Err(error),
        };
        let reply = match done {
            Ok(data) => Reply { re: &id, kind: "ack", data, problem: None },
            Err(error) => Reply { re: &id, kind: "error", data: None, problem: Some(error.problem()) },
        };
        serde_json::to_string(&reply).unwrap_or_default()
    }

    /// `queue:que_…` for one queue, `wallboard` for all of them.
    fn subscribe(&mut self, topics: &[String]) -> Result<(), ApiError> {
        let directory = self.state.engine.directory();
        let mut queues = Vec::new();
        for topic in topics {
            let named = topic.strip_prefix("queue:").and_then(|id| id.parse().ok());
            match named {
                Some(id) if directory.queues.contains_key(&id) => queues.push(id),
                None if topic == "wallboard" => queues.extend(directory.queues.keys()),
                Some(_) | None => {
                    return Err(
                        ApiError::new(Code::Validation).detail(format!("there is no topic `{topic}`"))
                    );
                }
            }
        }
        self.topics = queues;
        Ok(())
    }

    async fn send_figures(&mut self) -> Result<(), End> {
        for queue_id in self.topics.clone() {
            if let Some(stats) = self.state.engine.queue_stats(queue_id) {
                let now = self.now();
                self.send(protocol::notice("queue.stats", Some(queue_id.to_string()), &stats, now)).await?;
            }
        }
        Ok(())
    }

    async fn ping(&mut self, silent_after: Duration) -> Result<(), End> {
        if self.last_heard.elapsed() > silent_after {
            return Err(End::Close(close::SILENT, "nothing heard"));
        }
        self.socket.send(Message::Ping(Vec::new().into())).await.map_err(|_| End::Gone)
    }

    /// The node is being stopped: clients come back elsewhere, not all at once. What they have open
    /// here goes on until the node closes.
    async fn depart(&mut self, departure: Departure) -> Result<(), End> {
        let is_told = std::mem::replace(&mut self.is_told, departure != Departure::No);
        if !is_told && departure != Departure::No {
            let delay = rand::random_range(0..RECONNECT_SPREAD);
            let data = serde_json::json!({ "reconnect_after_ms": delay });
            let now = self.now();
            self.send(protocol::notice("server.draining", None, &data, now)).await?;
        }
        match departure {
            Departure::No | Departure::Leaving => Ok(()),
            Departure::Closing => Err(End::Close(close::RESTART, "node is being stopped")),
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}
