//! Agents of the harness: real sockets that accept, talk, wrap up, let things pass, lose their
//! connection, come back on any node and resume by sequence. Each writes down what it sees.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::front::now;
use super::history::{AgentLog, Seen};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long an agent stays away when it leaves for a while, in milliseconds: longer than the grace
/// period, so that it has to be taken off and comes back as new.
const AWAY: std::ops::Range<u64> = 5_000..8_000;
/// How long it stays before, in milliseconds.
const AT_WORK: std::ops::Range<u64> = 3_000..25_000;
/// Pause before a lost connection is opened again, in milliseconds.
const COME_BACK: std::ops::Range<u64> = 50..300;
/// How long a connection may take to greet.
const GREETING: Duration = Duration::from_secs(3);
/// A client pings so often; a server that is silent for three of them is given up, as a frozen or
/// lost one closes nothing.
const PING: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(3);

/// An agent of the harness.
pub struct Agent {
    pub token: String,
    /// Where the nodes are.
    pub nodes: Arc<Vec<SocketAddr>>,
    pub seed: u64,
    /// The node of its first connection, by its place from 0; any when absent.
    pub home: Option<usize>,
    pub log: Arc<Mutex<AgentLog>>,
    pub stop: CancellationToken,
    /// Keeps it from leaving for a while.
    pub stay: CancellationToken,
}

/// A command that waits for its time or its answer.
#[derive(Debug, Clone)]
struct Command {
    at: Instant,
    id: String,
    kind: &'static str,
    data: Value,
}

struct Client {
    agent: Agent,
    random: StdRng,
    last: Option<u64>,
    commands: u64,
    planned: Vec<Command>,
    /// Sent and not answered: sent again with the same id on the next connection.
    unanswered: HashMap<String, Command>,
    heard: Instant,
}

impl Agent {
    /// Works until told to stop.
    pub async fn work(self) {
        let random = StdRng::seed_from_u64(self.seed);
        let mut client = Client {
            agent: self,
            random,
            last: None,
            commands: 0,
            planned: Vec::new(),
            unanswered: HashMap::new(),
            heard: Instant::now(),
        };
        while !client.agent.stop.is_cancelled() {
            let leaves = client.visit().await;
            let pause = client.random.random_range(if leaves { AWAY } else { COME_BACK });
            let stay = client.agent.stay.clone();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                () = stay.cancelled(), if leaves => {}
            }
        }
    }
}

impl Client {
    fn note(&self, seen: Seen) {
        self.agent.log.lock().unwrap().seen.push((now(), seen));
    }

    /// One connection from its beginning to its end; answers whether the agent leaves for a while.
    async fn visit(&mut self) -> bool {
        let node = self.random.random_range(0..self.agent.nodes.len());
        let node = self.agent.home.take().unwrap_or(node);
        let connecting = tokio::time::timeout(GREETING, self.connect(node));
        let Ok(Ok(mut socket)) = connecting.await else { return false };
        let until = Instant::now() + Duration::from_millis(self.random.random_range(AT_WORK));
        let stay = self.agent.stay.clone();
        let mut is_greeted = false;
        self.heard = Instant::now();
        let mut pings = tokio::time::interval(PING);
        loop {
            let next = self.planned.iter().map(|command| command.at).min();
            let due = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let stop = self.agent.stop.clone();
            let goes_on = tokio::select! {
                () = stop.cancelled() => {
                    let _ = socket.close(None).await;
                    return false;
                }
                () = tokio::time::sleep_until(until), if !stay.is_cancelled() => {
                    let _ = socket.close(None).await;
                    self.note(Seen::Gone);
                    return true;
                }
                message = socket.next() => self.take(node + 1, message, &mut is_greeted, &mut socket).await,
                () = tokio::time::sleep_until(due) => self.carry_out(&mut socket).await,
                _ = pings.tick() => {
                    self.heard.elapsed() < SILENT && socket.send(Message::Ping(Vec::new().into())).await.is_ok()
                }
            };
            if !goes_on {
                break;
            }
        }
        self.note(Seen::Gone);
        false
    }

    async fn connect(&mut self, node: usize) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{}/ws", self.agent.nodes[node]).into_client_request()?;
        let bearer = format!("Bearer {}", self.agent.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        request.headers_mut().insert("sec-websocket-protocol", "eml.v1.json".parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
        let hello = json!({ "id": "hello", "type": "hello", "data": { "last_sequence": self.last } });
        socket.send(Message::Text(hello.to_string().into())).await?;
        Ok(socket)
    }

    /// Takes one message; answers whether the connection goes on.
    async fn take(
        &mut self,
        node: usize,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
        is_greeted: &mut bool,
        socket: &mut Socket,
    ) -> bool {
        self.heard = Instant::now();
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return true,
            _ => return false,
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "hello" || kind == "resync" {
            self.greet(node, &frame);
            if !std::mem::replace(is_greeted, true) {
                return self.repeat(socket).await;
            }
        } else if let Some(id) = frame["re"].as_str() {
            if let Some(Command { kind, data, .. }) = self.unanswered.remove(id) {
                let is_ack = frame["type"] == "ack";
                self.note(Seen::Answer { kind: kind.to_owned(), data, is_ack });
            }
        } else if let Some(sequence) = frame["sequence"].as_u64() {
            self.last = Some(sequence);
            let data = frame["data"].clone();
            self.react(kind, &data);
            self.note(Seen::Event { sequence, kind: kind.to_owned(), data });
        }
        true
    }

    fn greet(&mut self, node: usize, frame: &Value) {
        let resumed = frame["data"]["resumed"] == true;
        let sequence = frame["sequence"].as_u64().unwrap_or_default();
        self.note(Seen::Hello { node, resumed, sequence });
        let snapshot = &frame["data"]["snapshot"];
        if !resumed {
            self.last = Some(sequence);
            for offer in snapshot["offers"].as_array().into_iter().flatten() {
                self.react("offer.created", &offer.clone());
            }
            for call in snapshot["calls"].as_array().into_iter().flatten() {
                if call["state"] == "wrapping_up" {
                    let ended =
                        json!({ "call_id": call["call"]["id"], "wrap_up_until": call["wrap_up_until"] });
                    self.react("call.ended", &ended);
                }
            }
        }
        if snapshot["activity"]["available"] != true {
            self.plan((0, 50), "agent.set_activity", json!({ "activity": "available" }));
        }
    }

    fn react(&mut self, kind: &str, data: &Value) {
        match kind {
            "offer.created" => {
                let offer = json!({ "offer_id": data["offer_id"] });
                match self.random.random_range(0..100) {
                    // It does not look at all: the offer has to end by itself.
                    0..8 => {}
                    8..12 => self.plan((100, 500), "offer.reject", offer),
                    _ => self.plan((50, 500), "offer.accept", offer),
                }
            }
            "call.connected" => {
                let call = json!({ "call_id": data["call_id"] });
                if self.random.random_bool(0.1) {
                    self.plan((100, 300), "call.hold", call.clone());
                    self.plan((500, 900), "call.resume", call.clone());
                }
                if self.random.random_bool(0.6) {
                    let note = json!({ "call_id": data["call_id"], "note": "called back" });
                    self.plan((50, 300), "call.disposition", note);
                }
            }
            "call.ended" if data["wrap_up_until"].is_string() => self.wrap_up(data),
            "agent.state_changed" if data["available"] == false => {
                self.plan((100, 400), "agent.set_activity", json!({ "activity": "available" }));
            }
            _ => {}
        }
    }

    /// One in five lets its after-call work run out. Some want more time first: of all commands this is
    /// the one that does more when it is done twice.
    fn wrap_up(&mut self, data: &Value) {
        if self.random.random_bool(0.4) {
            let more = json!({ "call_id": data["call_id"], "by_ms": 300 });
            self.plan((0, 100), "wrap_up.extend", more);
        }
        if self.random.random_bool(0.8) {
            self.plan((150, 800), "wrap_up.complete", json!({ "call_id": data["call_id"] }));
        }
    }

    fn plan(&mut self, (least, most): (u64, u64), kind: &'static str, data: Value) {
        self.commands += 1;
        let at = Instant::now() + Duration::from_millis(self.random.random_range(least..=most));
        self.planned.push(Command { at, id: format!("c{}", self.commands), kind, data });
    }

    async fn carry_out(&mut self, socket: &mut Socket) -> bool {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.planned.drain(..).partition(|command| command.at <= now);
        self.planned = later;
        for command in due {
            self.unanswered.insert(command.id.clone(), command.clone());
            if !send(socket, &command).await {
                return false;
            }
        }
        true
    }

    async fn repeat(&mut self, socket: &mut Socket) -> bool {
        for command in self.unanswered.values() {
            if !send(socket, command).await {
                return false;
            }
        }
        true
    }
}

async fn send(socket: &mut Socket, command: &Command) -> bool {
    let frame = json!({ "id": command.id, "type": command.kind, "data": command.data });
    socket.send(Message::Text(frame.to_string().into())).await.is_ok()
}
