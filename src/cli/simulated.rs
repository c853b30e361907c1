//! Simulated agents: real WebSocket clients that answer what is offered to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::domain::time::{Clock, Timestamp};

/// Pause before a lost connection is opened again.
const COME_BACK: Duration = Duration::from_millis(500);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How an agent behaves; spans are drawn between the two numbers, in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Behaviour {
    /// How long it looks at an offer.
    pub(super) accept_after_ms: (u64, u64),
    /// How long it takes for after-call work.
    pub(super) wrap_up_ms: (u64, u64),
    /// How often it puts a customer on hold, between 0 and 1.
    pub(super) hold: f64,
    /// How often it lets an offer pass, between 0 and 1.
    pub(super) reject: f64,
}

/// What all agents together have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) offers: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) duplicates: AtomicU64,
    latencies: Mutex<Vec<f64>>,
}

impl Seen {
    /// A percentile of the time from queueing to the offer on the socket, in milliseconds.
    pub(super) fn offer_percentile(&self, percent: f64) -> f64 {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if latencies.is_empty() {
            return 0.0;
        }
        latencies.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index into a list of at most some millions"
        )]
        let place = ((latencies.len() - 1) as f64 * percent / 100.0).round() as usize;
        latencies[place]
    }

    /// Forgets the latencies so far, as after a warm-up.
    pub(super) fn reset_latencies(&self) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// One agent.
pub(super) struct SimulatedAgent {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) behaviour: Behaviour,
    pub(super) seen: Arc<Seen>,
    pub(super) stop: CancellationToken,
}

/// What the agent wants to do next, and when.
struct Plan {
    at: tokio::time::Instant,
    kind: &'static str,
    data: Value,
}

#[derive(Default)]
struct Progress {
    last_sequence: Option<u64>,
    command: u64,
    plans: Vec<Plan>,
}

impl SimulatedAgent {
    /// Works until told to stop, over as many connections as it takes.
    pub(super) async fn run(self) {
        let mut progress = Progress::default();
        while !self.stop.is_cancelled() {
            if let Err(error) = self.connected(&mut progress).await {
                tracing::debug!(%error, "simulated agent lost its connection");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(COME_BACK) => {}
            }
        }
    }

    async fn connected(&self, progress: &mut Progress) -> anyhow::Result<()> {
        let mut request = self.url.as_str().into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        request.headers_mut().insert("sec-websocket-protocol", "eml.v1.json".parse()?);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
        progress.send(&mut socket, "hello", json!({ "last_sequence": progress.last_sequence })).await?;
        progress.send(&mut socket, "agent.set_activity", json!({ "activity": "available" })).await?;
        loop {
            let next = progress.plans.iter().map(|plan| plan.at).min();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {
                    let _ = socket.close(None).await;
                    return Ok(());
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.take(progress, &text),
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                },
                () = due => progress.carry_out(&mut socket).await?,
            }
        }
    }

    fn take(&self, progress: &mut Progress, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "hello" || kind == "resync" {
            if frame["data"]["resumed"] == json!(false) {
                progress.last_sequence = frame["sequence"].as_u64();
            }
            return;
        }
        if frame["re"].is_string() {
            // An offer that ended while we looked at it is no fault.
            let code = frame["problem"]["code"].as_str();
            if code.is_some_and(|code| !matches!(code, "EML-3004" | "EML-3001" | "EML-3002" | "EML-3003")) {
                tracing::warn!(%frame, "simulated agent was refused");
                self.seen.errors.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        if let Some(sequence) = frame["sequence"].as_u64() {
            self.count(progress, sequence);
        }
        self.react(progress, kind, &frame["data"]);
    }

    fn count(&self, progress: &mut Progress, sequence: u64) {
        if let Some(last) = progress.last_sequence {
            if sequence <= last {
                self.seen.duplicates.fetch_add(1, Ordering::Relaxed);
            } else {
                self.seen.lost.fetch_add(sequence - last - 1, Ordering::Relaxed);
            }
        }
        progress.last_sequence = Some(sequence);
    }

    fn react(&self, progress: &mut Progress, kind: &str, data: &Value) {
        let behaviour = &self.behaviour;
        match kind {
            "offer.created" => {
                self.seen.offers.fetch_add(1, Ordering::Relaxed);
                self.measure(data);
                let offer = json!({ "offer_id": data["offer_id"] });
                let rejects = rand::rng().random_bool(behaviour.reject);
                let kind = if rejects { "offer.reject" } else { "offer.accept" };
                progress.plan(behaviour.accept_after_ms, kind, offer);
            }
            "call.connected" => {
                self.seen.connected.fetch_add(1, Ordering::Relaxed);
                if rand::rng().random_bool(behaviour.hold) {
                    let call = json!({ "call_id": data["call_id"] });
                    progress.plan((1_000, 2_000), "call.hold", call.clone());
                    progress.plan((3_000, 5_000), "call.resume", call);
                }
            }
            "call.ended" => {
                self.seen.ended.fetch_add(1, Ordering::Relaxed);
                if data["wrap_up_until"].is_string() {
                    progress.plan(
                        behaviour.wrap_up_ms,
                        "wrap_up.complete",
                        json!({ "call_id": data["call_id"] }),
                    );
                }
            }
            "agent.state_changed" if data["reason"] == "missed_offers" => {
                progress.plan((1_000, 2_000), "agent.set_activity", json!({ "activity": "available" }));
            }
            _ => {}
        }
    }

    fn measure(&self, data: &Value) {
        let queued: Option<Timestamp> = data["call"]["queued_at"].as_str().and_then(|text| text.parse().ok());
        if let Some(queued) = queued {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
            let waited = Clock.now().since(queued).0 as f64;
            self.seen.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(waited);
        }
    }
}

impl Progress {
    fn plan(&mut self, (least, most): (u64, u64), kind: &'static str, data: Value) {
        let delay = Duration::from_millis(rand::rng().random_range(least..=most.max(least)));
        self.plans.push(Plan { at: tokio::time::Instant::now() + delay, kind, data });
    }

    async fn carry_out(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let now = tokio::time::Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.plans.drain(..).partition(|plan| plan.at <= now);
        self.plans = later;
        for Plan { kind, data, .. } in due {
            self.send(socket, kind, data).await?;
        }
        Ok(())
    }

    async fn send(&mut self, socket: &mut Socket, kind: &str, data: Value) -> anyhow::Result<()> {
        self.command += 1;
        let frame = json!({ "id": format!("c{}", self.command), "type": kind, "data": data });
        socket.send(Message::Text(frame.to_string().into())).await?;
        Ok(())
    }
}
