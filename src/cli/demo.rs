//! `eml demo`: a node with everything around it, on one machine, with nothing to install.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sample::NUMBERS;
use super::simulated::{Behaviour, Seen, SimulatedAgent};
use super::{Failure, Sample, serve, span};
use crate::app::{self, Node};
use crate::config::{Provider, Settings, without_secret};
use crate::domain::time::Millis;
use crate::edge::auth::Holder;
use crate::edge::loopback::{CallPlan, Carrier, CarrierSettings, NumberPlan};
use crate::telemetry::logs;

/// Name of the provider section that the demo adds.
pub(super) const PROVIDER: &str = "loopback";
/// How long callers talk, in milliseconds.
const TALK: (u64, u64) = (8_000, 40_000);
/// How long callers wait, in milliseconds.
const PATIENCE: (u64, u64) = (30_000, 90_000);
/// Life of the tokens of simulated agents.
const TOKEN_LIFE: Millis = Millis::from_secs(7 * 24 * 3600);
/// How long the parts may take to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Address and port of API, `WebSockets` and webhooks.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    /// Calls that come in per minute; 0 = none by itself.
    #[arg(long, value_name = "N", default_value_t = 12)]
    calls_per_min: u32,
    /// Simulated agents; 0 = none.
    #[arg(long, value_name = "N", default_value_t = 3)]
    agents: usize,
    /// Ends after this time, as in 60s; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    length: Option<Duration>,
}

pub(super) async fn run(arguments: Arguments, mut settings: Settings) -> Result<(), Failure> {
    // The live table and the log share the terminal; the log keeps to what matters.
    let level = if std::io::stdout().is_terminal() { "error" } else { settings.telemetry.log_level.as_str() };
    logs::init(&settings.telemetry.log_format, level);
    std::fs::create_dir_all(&settings.node.data_dir)
        .map_err(|error| Failure::failed(format!("{}: {error}", settings.node.data_dir.display())))?;
    let mut sample = Sample::read_or_new(&settings.node.data_dir)?;
    settings.server.listen = with_port(&settings.server.listen)?;
    let carrier = start_carrier(&settings, &sample).await?;
    settings.providers.insert(PROVIDER.to_owned(), section(&sample, carrier.local_addr()));
    let node = app::start(&settings).await?;
    sample.carrier = format!("http://{}", carrier.local_addr());
    sample.api = format!("http://{}", node.address);
    sample.set_up(&node.engine, arguments.agents.max(1), settings.auth.bcrypt_cost).await?;
    sample.write(&settings.node.data_dir)?;
    let demo = Demo {
        node,
        carrier: Arc::new(carrier),
        sample,
        seen: Arc::default(),
        stop: CancellationToken::new(),
    };
    demo.greet(&settings);
    demo.play(&arguments).await
}

/// A port must be known before the carrier can be told where to send webhooks.
fn with_port(listen: &str) -> Result<String, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("server.listen: cannot listen on {listen}: {error}"));
    if !listen.ends_with(":0") {
        return Ok(listen.to_owned());
    }
    let address = TcpListener::bind(listen).and_then(|listener| listener.local_addr()).map_err(failed)?;
    Ok(address.to_string())
}

async fn start_carrier(settings: &Settings, sample: &Sample) -> Result<Carrier, Failure> {
    let known = settings.providers.get(PROVIDER).map(|provider| provider.listen.as_str()).unwrap_or_default();
    let listen = known.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    let base = format!("http://{}", settings.server.listen);
    let mut plan = CarrierSettings::new(listen, &sample.account_sid, &sample.auth_token, &base);
    plan.public_url = if settings.server.public_url.is_empty() { base } else { settings.public_url() };
    let public_url = plan.public_url.clone();
    plan.numbers = NUMBERS.iter().map(|number| number_plan(number, &public_url)).collect();
    Carrier::start(plan).await.map_err(|error| Failure::failed(error.to_string()))
}

/// What a number of the loopback carrier asks.
pub(super) fn number_plan(number: &str, public_url: &str) -> NumberPlan {
    let path = |path: &str| format!("{public_url}/webhooks/{PROVIDER}/{path}");
    NumberPlan {
        number: number.to_owned(),
        voice_url: path("voice"),
        fallback_url: Some(path("voice/fallback")),
        status_callback: Some(path("status")),
    }
}

fn section(sample: &Sample, carrier: SocketAddr) -> Provider {
    Provider {
        kind: "loopback".to_owned(),
        account_sid: sample.account_sid.clone(),
        auth_token: sample.auth_token.clone(),
        api_base: format!("http://{carrier}"),
        ..Provider::default()
    }
}

struct Demo {
    node: Node,
    carrier: Arc<Carrier>,
    sample: Sample,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

impl Demo {
    fn greet(&self, settings: &Settings) {
        let Sample { api, login, password, .. } = &self.sample;
        println!("EML {} demo, data in {}", env!("CARGO_PKG_VERSION"), settings.node.data_dir.display());
        println!("  store       {}", without_secret(&settings.store_url()));
        println!("  API         {api}/docs");
        println!("  WebSocket   {}/ws", api.replacen("http", "ws", 1));
        if let Some(address) = self.node.telemetry_address {
            println!("  figures     http://{address}/metrics");
        }
        println!("  sign in     {login} / {password}   (agents: ana, ben, … with the same password)");
        println!("  events      eml tail --data-dir {}", settings.node.data_dir.display());
        println!("  stop        Ctrl-C");
        let _ = std::io::stdout().flush();
    }

    async fn play(self, arguments: &Arguments) -> Result<(), Failure> {
        let tracker = TaskTracker::new();
        for agent in self.sample.agents.iter().take(arguments.agents) {
            let holder = Holder::agent(agent.user_id, agent.agent_id);
            let token = self.node.authority.token_for(&holder, TOKEN_LIFE);
            let token = token.map_err(|error| Failure::failed(format!("{:?}", error.code())))?;
            let agent = SimulatedAgent {
                url: format!("ws://{}/ws", self.node.address),
                token,
                behaviour: Behaviour {
                    accept_after_ms: (500, 2_500),
                    wrap_up_ms: (2_000, 6_000),
                    hold: 0.2,
                    reject: 0.03,
                },
                seen: self.seen.clone(),
                stop: self.stop.clone(),
            };
            tracker.spawn(agent.run());
        }
        if arguments.calls_per_min > 0 {
            tracker.spawn(call_in(self.carrier.clone(), arguments.calls_per_min, self.stop.clone()));
        }
        self.show(arguments.length).await;
        self.end(tracker).await
    }

    async fn end(self, tracker: TaskTracker) -> Result<(), Failure> {
        println!("\nstopping: no new calls, sockets are closed, facts are stored");
        self.stop.cancel();
        tracker.close();
        let _ = tokio::time::timeout(LAST_WORDS, tracker.wait()).await;
        let summary = self.summary();
        self.node.stop().await;
        if let Ok(carrier) = Arc::try_unwrap(self.carrier) {
            carrier.shutdown(LAST_WORDS).await;
        }
        println!("{summary}");
        Ok(())
    }

    /// The live table on a terminal, a line now and then elsewhere.
    async fn show(&self, length: Option<Duration>) {
        let is_terminal = std::io::stdout().is_terminal();
        let period = Duration::from_secs(if is_terminal { 1 } else { 10 });
        let mut ticks = tokio::time::interval(period);
        let end = async {
            match length {
                Some(length) => tokio::time::sleep(length).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let stopped = serve::stopped();
        tokio::pin!(stopped);
        let mut height = 0;
        loop {
            tokio::select! {
                () = &mut end => return,
                () = &mut stopped => return,
                _ = self.node.ended() => return,
                _ = ticks.tick() => {
                    if is_terminal {
                        let table = self.table();
                        let up = if height > 0 { format!("\x1b[{height}A\x1b[J") } else { String::new() };
                        height = table.lines().count();
                        print!("{up}{table}");
                    } else {
                        println!("{}", self.summary());
                    }
                    let _ = std::io::stdout().flush();
                }
            }
        }
    }

    fn table(&self) -> String {
        let directory = self.node.engine.directory();
        let mut out = String::from("\n  queue            waiting   oldest    ready  offers\n");
        let mut queues: Vec<_> = directory.queues.values().collect();
        queues.sort_by(|one, other| one.name.cmp(&other.name));
        for queue in queues {
            let stats = self.node.engine.queue_stats(queue.id).unwrap_or_default();
            let oldest = stats.oldest_wait_ms.map_or(0, |wait| wait.0 / 1000);
            let _ = writeln!(
                out,
                "  {:<16} {:>7} {:>7}s {:>8} {:>7}",
                queue.name, stats.waiting, oldest, stats.agents_ready, stats.offers_pending
            );
        }
        out.push_str("\n  agent            doing\n");
        for agent in self.sample.agents.iter().take(12) {
            let snapshot = self.node.engine.agent_snapshot(agent.agent_id);
            let doing = snapshot.map_or_else(
                || "offline".to_owned(),
                |known| {
                    format!("{} ({})", known.routing_status.as_str().replace('_', " "), known.activity.name)
                },
            );
            let _ = writeln!(out, "  {:<16} {doing}", agent.name);
        }
        let _ = writeln!(out, "\n  {}", self.summary());
        out
    }

    fn summary(&self) -> String {
        let stats = self.carrier.stats();
        format!(
            "calls {} · active {} · answered {} · gave up {} · offers {} · webhooks {} (p99 {:.1} ms, failed {})",
            stats.calls_placed,
            stats.calls_active,
            stats.calls_bridged,
            stats.calls_gave_up,
            self.seen.offers.load(Ordering::Relaxed),
            stats.webhooks_sent,
            stats.webhook_p99_ms,
            stats.webhooks_failed,
        )
    }
}

/// Lets calls come in at random moments, so many per minute.
async fn call_in(carrier: Arc<Carrier>, per_minute: u32, stop: CancellationToken) {
    loop {
        let mean = 60_000 / u64::from(per_minute);
        let pause = rand::rng().random_range(mean / 2..=mean + mean / 2);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
        let plan = {
            let mut random = rand::rng();
            CallPlan {
                from: format!("+1202555{:04}", random.random_range(200..9_999)),
                to: NUMBERS[random.random_range(0..NUMBERS.len())].to_owned(),
                talk_ms: Some(random.random_range(TALK.0..TALK.1)),
                patience_ms: Some(random.random_range(PATIENCE.0..PATIENCE.1)),
                ..CallPlan::default()
            }
        };
        if let Err(error) = carrier.place_call(plan) {
            tracing::error!(%error, "call cannot be placed");
        }
    }
}
