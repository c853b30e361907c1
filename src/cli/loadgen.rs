//! `eml loadgen`: load on a demo node, from both outer sides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::demo::number_plan;
use super::simulated::{Behaviour, Seen, SimulatedAgent};
use super::{Failure, Sample, SampleAgent, span};
use crate::app::KEY_FILE;
use crate::config::Settings;
use crate::domain::id::{AgentId, UserId};
use crate::domain::time::Millis;
use crate::edge::auth::{Authority, Holder, Vault};

/// The number that load comes in on.
const NUMBER: &str = "+12025559000";
/// Name of the queue it leads to.
const QUEUE: &str = "load";
/// Life of tokens.
const TOKEN_LIFE: Millis = Millis::from_secs(24 * 3600);
/// How long agents may take to come up before the load begins.
const WARM_UP: Duration = Duration::from_secs(20);
/// How long the last calls may take to end.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How much load.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the node is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Agents that answer.
    #[arg(long, value_name = "N", default_value_t = 50)]
    agents: usize,
    /// Calls that come in per second.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    calls_per_sec: f64,
    /// How long.
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse, default_value = "30s")]
    length: Duration,
    /// How long callers talk, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    talk_ms: u64,
    /// Prints one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Allows a node that is not on this machine.
    #[arg(long)]
    i_own_this_host: bool,
}

pub(super) async fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    let host = url::Url::parse(&arguments.url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
    let is_loopback = host.as_deref().is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]"));
    if !is_loopback && !arguments.i_own_this_host {
        return Err(Failure::not_permitted(
            "the node is not on this machine; say --i-own-this-host if it is yours",
        ));
    }
    let sample = Sample::read(&settings.node.data_dir)?;
    // The node's first key, which whoever has its file can tell without its store.
    let authority = Vault::load_or_create(&settings.node.data_dir.join(KEY_FILE))
        .and_then(|vault| Authority::new(Arc::new(vault), &settings.auth.issuer, settings.auth.key_life_ms))
        .map_err(|error| Failure::failed(error.to_string()))?;
    let load = Load { http: reqwest::Client::new(), arguments, sample, authority, seen: Arc::default() };
    let report = load.play().await?;
    println!("{}", if load.arguments.json { report.to_string() } else { format!("{report:#}") });
    Ok(())
}

struct Load {
    http: reqwest::Client,
    arguments: Arguments,
    sample: Sample,
    authority: Authority,
    seen: Arc<Seen>,
}

impl Load {
    async fn play(&self) -> Result<Value, Failure> {
        let agents = self.set_up().await?;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        for agent in &agents {
            let agent = SimulatedAgent {
                url: format!("{}/ws", self.arguments.url.replacen("http", "ws", 1)),
                token: self.token(agent)?,
                behaviour: Behaviour { accept_after_ms: (0, 0), wrap_up_ms: (0, 0), hold: 0.0, reject: 0.0 },
                seen: self.seen.clone(),
                stop: stop.clone(),
            };
            tracker.spawn(agent.run());
        }
        self.await_ready(agents.len()).await?;
        self.carrier(Method::POST, "stats/reset", &Value::Null).await?;
        self.seen.reset_latencies();
        let (started, failed) = self.call_in().await;
        let stats = self.await_quiet().await?;
        stop.cancel();
        tracker.close();
        let _ = tokio::time::timeout(COOL_DOWN, tracker.wait()).await;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Ok(json!({
            "calls_started": started,
            "calls_answered": stats["calls_bridged"],
            "calls_ended": stats["calls_completed"],
            "calls_per_second": self.arguments.calls_per_sec,
            "offers": count(&self.seen.offers),
            "offer_p50_ms": self.seen.offer_percentile(50.0),
            "offer_p99_ms": self.seen.offer_percentile(99.0),
            "webhooks": stats["webhooks_sent"],
            "webhook_p50_ms": stats["webhook_p50_ms"],
            "webhook_p99_ms": stats["webhook_p99_ms"],
            "webhooks_failed": stats["webhooks_failed"],
            "errors": count(&self.seen.errors) + failed,
            "lost_events": count(&self.seen.lost),
            "duplicate_events": count(&self.seen.duplicates),
            "agents": agents.len(),
            "seconds": self.arguments.length.as_secs_f64(),
        }))
    }

    fn token(&self, agent: &SampleAgent) -> Result<String, Failure> {
        self.mint(&Holder::agent(agent.user_id, agent.agent_id))
    }

    fn mint(&self, holder: &Holder) -> Result<String, Failure> {
        let token = self.authority.token_for(holder, TOKEN_LIFE);
        token.map_err(|error| Failure::failed(format!("token: {:?}", error.code())))
    }

    async fn api(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let admin = Holder::admin(self.sample.admin_id);
        let request = self.http.request(method, format!("{}{path}", self.arguments.url));
        let request = request.bearer_auth(self.mint(&admin)?);
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    async fn carrier(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let Sample { account_sid, auth_token, carrier, .. } = &self.sample;
        let request = self.http.request(method, format!("{carrier}/loopback/{path}"));
        let request = request.basic_auth(account_sid, Some(auth_token));
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Makes the queue, its number, and the agents that are missing.
    async fn set_up(&self) -> Result<Vec<SampleAgent>, Failure> {
        let queues = self.api(Method::GET, "/queues", &Value::Null).await?;
        let known = queues["data"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == QUEUE));
        let queue_id = if let Some(queue) = known {
            queue["id"].clone()
        } else {
            let queue = json!({ "name": QUEUE, "wrap_up_ms": 5_000 });
            let made = self.api(Method::POST, "/queues", &queue).await?;
            let number = json!({ "address": NUMBER, "queue_id": made["id"] });
            self.api(Method::POST, "/numbers", &number).await?;
            made["id"].clone()
        };
        let plan = serde_json::to_value(number_plan(NUMBER, &self.arguments.url)).unwrap_or_default();
        self.carrier(Method::POST, "numbers", &plan).await?;
        let rows = self.api(Method::GET, "/agents", &Value::Null).await?;
        let rows = rows["data"].as_array().cloned().unwrap_or_default();
        let mut agents: Vec<_> =
            rows.iter().filter(|row| row["queue_ids"] == json!([queue_id])).filter_map(agent).collect();
        for i in agents.len()..self.arguments.agents {
            let name = format!("load-{:05}", i + 1);
            let body = json!({
                "name": name, "address": format!("client:{name}"), "queue_ids": [queue_id], "user_id": UserId::fresh(),
            });
            let made = self.api(Method::POST, "/agents", &body).await?;
            agents.extend(agent(&made));
        }
        agents.truncate(self.arguments.agents);
        Ok(agents)
    }

    async fn await_ready(&self, wanted: usize) -> Result<(), Failure> {
        let queues = self.api(Method::GET, "/queues", &Value::Null).await?;
        let queue =
            queues["data"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == QUEUE)).cloned();
        let id = queue.as_ref().and_then(|queue| queue["id"].as_str()).unwrap_or_default().to_owned();
        let deadline = Instant::now() + WARM_UP;
        while Instant::now() < deadline {
            let stats = self.api(Method::GET, &format!("/queues/{id}/stats"), &Value::Null).await?;
            if stats["agents_ready"].as_u64().unwrap_or_default() >= wanted as u64 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(Failure::failed("agents did not become ready"))
    }

    /// Places calls at an even rate; answers how many were placed and how many could not be.
    async fn call_in(&self) -> (u64, u64) {
        let mut ticks =
            tokio::time::interval(Duration::from_secs_f64(1.0 / self.arguments.calls_per_sec.max(0.01)));
        let end = Instant::now() + self.arguments.length;
        let (mut started, mut failed) = (0, 0);
        while Instant::now() < end {
            ticks.tick().await;
            let plan = json!({
                "from": format!("+1202556{:04}", started % 10_000),
                "to": NUMBER,
                "talk_ms": self.arguments.talk_ms,
                "patience_ms": 60_000,
            });
            match self.carrier(Method::POST, "calls", &plan).await {
                Ok(_) => started += 1,
                Err(_) => failed += 1,
            }
        }
        (started, failed)
    }

    async fn await_quiet(&self) -> Result<Value, Failure> {
        let deadline = Instant::now() + COOL_DOWN + Duration::from_millis(self.arguments.talk_ms);
        loop {
            let stats = self.carrier(Method::GET, "stats", &Value::Null).await?;
            if stats["calls_active"] == 0 || Instant::now() > deadline {
                return Ok(stats);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn agent(row: &Value) -> Option<SampleAgent> {
    let agent_id: AgentId = row["id"].as_str()?.parse().ok()?;
    let user_id: UserId = row["user_id"].as_str()?.parse().ok()?;
    Some(SampleAgent { agent_id, user_id, name: row["name"].as_str()?.to_owned() })
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Value, Failure> {
    let response = request.send().await.map_err(|error| Failure::dependency(format!("{error:#}")))?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    if !status.is_success() {
        return Err(Failure::failed(format!("{status}: {body}")));
    }
    if status == StatusCode::NO_CONTENT || body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&body).map_err(|error| Failure::failed(error.to_string()))
}
