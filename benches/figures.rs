//! The figures of `docs/benchmarks.md`: `cargo bench --bench figures [-- NAME…]`.
//!
//! Names: `router offers logins lives sessions calls parked start`; all of them without a name. Each prints
//! lines for the table. Servers run as processes of their own on loopback and are ended by handle.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made should stop")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures are far below 2^52"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eml::actors::{self, AgentLimits, Engine, EngineSettings, WriterSettings};
use eml::cli::{Sample, SampleAgent};
use eml::domain::address::Address;
use eml::domain::agent::Readiness;
use eml::domain::call::{
    Arrival, CallBrief, CallCommand, Direction, Overflow, QueueEntry, RawEvent, Routing,
};
use eml::domain::directory::{Queue, QueueOverflow};
use eml::domain::id::{AgentId, CallId, QueueId, SkillId};
use eml::domain::queue::{QueueIndex, QueueSettings, Strategy};
use eml::domain::time::{Clock, Millis, Timestamp};
use eml::edge::auth::{Authority, Holder, Vault};
use eml::store::records::{RecordKind, StoredRecord};
use eml::telemetry::Metrics;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json, value::RawValue};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EML: &str = env!("CARGO_BIN_EXE_eml");
const NAMES: [&str; 8] = ["router", "offers", "logins", "lives", "sessions", "calls", "parked", "start"];

fn main() {
    let given: Vec<_> = std::env::args().skip(1).filter(|name| NAMES.contains(&name.as_str())).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in NAMES {
        if !given.is_empty() && !given.iter().any(|given| given == name) {
            continue;
        }
        match name {
            "router" => router(),
            "offers" => offers(),
            "logins" => logins(),
            "lives" => lives(),
            "sessions" => runtime.block_on(sessions()),
            "calls" => runtime.block_on(calls()),
            // A process of its own: memory that the calls before it left behind would not count.
            "parked" if given == ["parked"] => runtime.block_on(parked()),
            "parked" => {
                Command::new(std::env::current_exe().unwrap()).arg("parked").status().unwrap();
            }
            _ => start(),
        }
    }
}

fn percentile(times: &mut [f64], percent: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * percent / 100.0).round() as usize]
}

fn rss_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A node of its own, ended when dropped.
struct Server {
    child: Child,
    base: String,
    telemetry: String,
}

impl Server {
    fn demo(data_dir: &Path, port: u16, more: &[&str]) -> Self {
        Self::demo_with(data_dir, port, more, &[("EML__AUTH__BCRYPT_COST", "4")])
    }

    fn demo_with(data_dir: &Path, port: u16, more: &[&str], settings: &[(&str, &str)]) -> Self {
        let base = format!("http://127.0.0.1:{port}");
        let telemetry = format!("127.0.0.1:{}", port + 1_000);
        let mut command = Command::new(EML);
        command.args(["demo", "--data-dir", data_dir.to_str().unwrap(), "--calls-per-min", "0"]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(more);
        command.env("EML__TELEMETRY__LISTEN", &telemetry).envs(settings.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().contains("Ctrl-C") {}
        std::thread::spawn(move || for _ in lines {});
        Self { child, base, telemetry }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn loadgen(server: &Server, data_dir: &Path, [agents, rate, seconds, talk_ms]: [u32; 4]) -> Value {
    let output = Command::new(EML)
        .args(["loadgen", "--json", "--url", &server.base, "--data-dir", data_dir.to_str().unwrap()])
        .args(["--agents", &agents.to_string(), "--calls-per-sec", &rate.to_string()])
        .args(["--for", &format!("{seconds}s"), "--talk-ms", &talk_ms.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(last).unwrap()
}

/// Offer latency at 200 calls per second.
fn offers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::demo(folder.path(), 18_081, &["--agents", "0"]);
    loadgen(&server, folder.path(), [300, 20, 3, 500]);
    let before = written_offers(&server);
    let report = loadgen(&server, folder.path(), [300, 200, 20, 500]);
    let counts: Vec<_> =
        written_offers(&server).iter().zip(before).map(|(now, then)| now.1 - then.1).collect();
    let all = *counts.last().unwrap();
    let bound = |share: f64| {
        let bounds = written_offers(&server);
        let at = counts.iter().position(|count| *count >= all * share).unwrap();
        bounds[at].0 * 1_000.0
    };
    println!("offers: 200 calls/s, 300 agents, 20 s, at the client: {report}");
    println!(
        "offers: at the node, queued to written to the socket: p50 <= {} ms, p99 <= {} ms of {all}",
        bound(0.5),
        bound(0.99)
    );
}

/// How many offers were written to their socket within each bound in seconds.
fn written_offers(server: &Server) -> Vec<(f64, f64)> {
    let text = get(&server.telemetry, "/metrics");
    let buckets = text.lines().filter_map(|line| line.strip_prefix("eml_offer_latency_seconds_bucket{"));
    buckets
        .map(|line| {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let (_, bound) = labels.split_once("le=\"").unwrap();
            let bound = bound.split('"').next().unwrap();
            (bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap())
        })
        .collect()
}

/// Calls beside a flood of sign-ins, 200/s of them, against the same calls alone, in turns. `EML_FIGURE_RATE` is
/// how many calls a second (200). Each run has a node of its own: one that was overloaded leaves calls behind.
fn logins() {
    const ROUNDS: usize = 5;
    let rate = std::env::var("EML_FIGURE_RATE").map_or(200, |rate| rate.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let names = ["offer_p50_ms", "offer_p99_ms", "webhook_p50_ms", "webhook_p99_ms"];
    let (mut calm, mut beside) = (vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]);
    let mut answers: BTreeMap<u16, Vec<f64>> = BTreeMap::new();
    let note = |report: &Value, into: &mut [Vec<f64>]| {
        for (name, times) in names.iter().zip(into) {
            times.push(report[name].as_f64().unwrap());
        }
    };
    for round in 0..ROUNDS {
        note(&Run::of(rate, |_| {}).report, &mut calm);
        let stop = Arc::new(AtomicBool::new(false));
        let mut flood = None;
        let run = Run::of(rate, |base| {
            flood = Some(runtime.spawn(sign_ins(base.to_owned(), round, stop.clone())));
        });
        note(&run.report, &mut beside);
        stop.store(true, Ordering::Relaxed);
        for (status, took) in runtime.block_on(flood.unwrap()).unwrap() {
            answers.entry(status).or_default().push(took);
        }
    }
    for (name, (calm, beside)) in names.iter().zip(calm.iter_mut().zip(&mut beside)) {
        let (alone, with) = (percentile(calm, 50.0), percentile(beside, 50.0));
        println!(
            "logins: {rate} calls/s, {name}, median of {ROUNDS} rounds: {alone} alone, {with} beside, {:.2} x",
            with / alone
        );
    }
    for (status, mut times) in answers {
        let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
        println!("logins: answered {status}: {} times, p50 {p50:.1} ms, p99 {p99:.1} ms", times.len());
    }
}

/// Ten seconds of calls on a node of its own, which hashes as it does in service.
struct Run {
    report: Value,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Run {
    /// `begin` gets the node's address before the calls come.
    fn of(rate: u32, begin: impl FnOnce(&str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Every try comes from one address here; what an address may is not what this measures.
        let settings = [("EML__AUTH__LOGIN_TRIES_PER_MINUTE", "1000000")];
        let server = Server::demo_with(folder.path(), 18_087, &["--agents", "0"], &settings);
        loadgen(&server, folder.path(), [300, 20, 3, 500]);
        begin(&server.base);
        let report = loadgen(&server, folder.path(), [300, rate, 10, 500]);
        Self { report, _server: server, _folder: folder }
    }
}

/// Tries to sign in 200 times a second, each time somebody else; answers status and ms of each.
async fn sign_ins(base: String, round: usize, stop: Arc<AtomicBool>) -> Vec<(u16, f64)> {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(64).build().unwrap();
    let mut beats = tokio::time::interval(Duration::from_millis(5));
    let mut tries = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        beats.tick().await;
        let body =
            json!({ "login": format!("r{round}-{}", tries.len()), "password": "a violet tram in the fog" });
        let request = http.post(format!("{base}/auth/login")).json(&body);
        tries.spawn(async move {
            let asked = Instant::now();
            let status = request.send().await.unwrap().status().as_u16();
            (status, asked.elapsed().as_secs_f64() * 1_000.0)
        });
    }
    tries.join_all().await
}

/// Full call lives per second: the highest rate that is served without a growing queue.
fn lives() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::demo(folder.path(), 18_082, &["--agents", "0"]);
    loadgen(&server, folder.path(), [600, 20, 3, 200]);
    for rate in [200, 300, 400, 500, 600] {
        let report = loadgen(&server, folder.path(), [600, rate, 10, 200]);
        let started = report["calls_started"].as_f64().unwrap() / 10.0;
        let answered = report["calls_answered"].as_f64().unwrap() / 10.0;
        println!("lives: asked {rate}/s, placed {started:.0}/s, answered {answered:.0}/s: {report}");
        if started < f64::from(rate) * 0.95 || report["offer_p99_ms"].as_f64().unwrap() > 1_000.0 {
            break;
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn socket(base: &str, token: &str, is_agent: bool) -> Socket {
    let mut request = format!("{}/ws", base.replacen("http", "ws", 1)).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let hello = json!({ "id": "1", "type": "hello", "data": {} });
    socket.send(Message::Text(hello.to_string().into())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    if is_agent {
        let ready = json!({ "id": "2", "type": "agent.set_activity", "data": { "activity": "available" } });
        socket.send(Message::Text(ready.to_string().into())).await.unwrap();
        socket.next().await.unwrap().unwrap();
    }
    socket
}

/// Bytes per idle socket, without and with the session's actor behind it.
async fn sessions() {
    const COUNT: usize = 5_000;
    let folder = tempfile::tempdir().unwrap();
    // The first run makes the agents; the second is measured fresh.
    drop(Server::demo(folder.path(), 18_083, &["--agents", &COUNT.to_string(), "--for", "1s"]));
    let server = Server::demo(folder.path(), 18_084, &["--agents", "0"]);
    let sample = Sample::read(folder.path()).map_err(|_| ()).unwrap();
    let vault = Vault::load_or_create(&folder.path().join(eml::app::KEY_FILE)).unwrap();
    let authority = Authority::new(Arc::new(vault), "eml", Millis::from_secs(3600)).unwrap();
    let life = Millis::from_secs(3600);
    let admin = Holder::admin(sample.admin_id);
    let token = authority.token_for(&admin, life).map_err(|_| ()).unwrap();
    let mut warm = Vec::new();
    for _ in 0..50 {
        warm.push(socket(&server.base, &token, false).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rss_kib(server.child.id());
    let mut open = Vec::new();
    for _ in 0..COUNT {
        open.push(socket(&server.base, &token, false).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let bare = rss_kib(server.child.id());
    println!("sessions: {COUNT} sockets without a session: {:.2} KB each", kb(bare - before, COUNT));
    drop(open);
    drop(server);
    let server = Server::demo(folder.path(), 18_085, &["--agents", "0"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rss_kib(server.child.id());
    let mut open = Vec::new();
    for agent in sample.agents.iter().take(COUNT) {
        let SampleAgent { agent_id, user_id, .. } = agent;
        let caller = Holder::agent(*user_id, *agent_id);
        let token = authority.token_for(&caller, life).map_err(|_| ()).unwrap();
        open.push(socket(&server.base, &token, true).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = rss_kib(server.child.id());
    println!(
        "sessions: {} agents, socket and session actor: {:.2} KB each",
        open.len(),
        kb(after - before, open.len())
    );
}

fn kb(kib: u64, count: usize) -> f64 {
    kib as f64 * 1.024 / count as f64
}

async fn engine(folder: &Path, park_after: Millis) -> (Engine, Routing) {
    let stores = eml::store::open(&format!("sqlite://{}/eml.db", folder.display())).await.unwrap();
    let queue = Queue {
        id: QueueId::fresh(),
        name: "bench".to_owned(),
        strategy: Strategy::LongestIdle,
        priority: 0,
        skills: BTreeMap::new(),
        relax_after_ms: Vec::new(),
        ring_timeout_ms: Millis::from_secs(15),
        max_wait_ms: Millis::from_secs(3600),
        max_waiting: 0,
        overflow: QueueOverflow::Hangup,
        wrap_up_ms: Millis(0),
    };
    let now = Clock.now();
    let record = StoredRecord {
        id: queue.id.uuid(),
        key: queue.name.clone(),
        body: serde_json::to_value(&queue).unwrap(),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    stores.records.insert(RecordKind::Queue, record).await.unwrap();
    let settings = EngineSettings {
        node: "bench".to_owned(),
        writer: WriterSettings { flush_rows: 1024, flush_after: Millis(0), queue_rows: 20_000 },
        park_after,
        max_active_calls: 1_000_000,
        replay_events: 1_000,
        agents: AgentLimits {
            grace: Millis(0),
            missed_limit: 0,
            reject_backoff: Millis(0),
            busy_backoff: Millis(0),
        },
    };
    let engine = actors::start(settings, stores, Metrics::new(), None).await.unwrap();
    let routing = Routing {
        queue_id: queue.id,
        queue_name: "bench".into(),
        priority: 0,
        skills: BTreeMap::new(),
        ring: Millis::from_secs(15),
        max_wait: Millis::from_secs(3600),
        overflow: Overflow::Hangup,
        wrap_up: Millis(0),
    };
    (engine, routing)
}

async fn arrive(engine: &Engine, routing: &Routing, numbers: std::ops::Range<usize>) {
    let arrivals = numbers.map(|n| {
        let sid = format!("CA{n:032x}");
        let arrival = Arrival {
            provider: "bench".into(),
            provider_call_id: sid.as_str().into(),
            from: Address::reported("+12025550143"),
            to: Address::reported("+12025550100"),
            routing: Some(routing.clone()),
            fallback: None,
            raw: RawEvent {
                key: n as u64,
                name: "voice:ringing".into(),
                fields: RawValue::from_string(format!(r#"{{"CallSid":"{sid}"}}"#)).unwrap(),
            },
        };
        let (engine, id) = (engine.clone(), CallId::derived("bench", &sid));
        async move { engine.call(id, CallCommand::Arrive(Box::new(arrival))).await.map(|_| ()).unwrap() }
    });
    futures_util::stream::iter(arrivals).buffer_unordered(512).collect::<Vec<_>>().await;
}

/// Bytes per live call, its actor in memory, waiting in a queue.
async fn calls() {
    const COUNT: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let (engine, routing) = engine(folder.path(), Millis::from_secs(3_600)).await;
    arrive(&engine, &routing, 0..2_000).await;
    let before = rss_kib(std::process::id());
    let started = Instant::now();
    arrive(&engine, &routing, 2_000..COUNT).await;
    let rate = (COUNT - 2_000) as f64 / started.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = rss_kib(std::process::id());
    println!(
        "calls: {COUNT} live calls: {:.2} KB each; arrivals {rate:.0}/s, each durable",
        kb(after - before, COUNT - 2_000)
    );
}

/// Bytes per call whose actor has left memory while it waits.
async fn parked() {
    const COUNT: usize = 100_000;
    const PART: usize = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let (engine, routing) = engine(folder.path(), Millis(500)).await;
    arrive(&engine, &routing, 0..PART).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = rss_kib(std::process::id());
    for start in (PART..COUNT).step_by(PART) {
        arrive(&engine, &routing, start..start + PART).await;
        tokio::time::sleep(Duration::from_millis(2_800)).await;
    }
    let after = rss_kib(std::process::id());
    let text = engine.metrics().encode();
    let alive = text
        .lines()
        .find(|line| line.starts_with("eml_actors{") && line.contains("\"call\""))
        .unwrap_or("none");
    println!(
        "parked: {COUNT} waiting calls: {:.0} bytes each; {alive}",
        kb(after - before, COUNT - PART) * 1000.0
    );
}

fn entry(n: u64, since: Timestamp, skills: &BTreeMap<SkillId, u8>) -> QueueEntry {
    let id = CallId::derived("bench", &n.to_string());
    QueueEntry {
        call_id: id,
        queue_id: QueueId::derived("bench", "q"),
        priority: i32::try_from(n % 3).unwrap(),
        since,
        skills: skills.clone(),
        ring: Millis::from_secs(15),
        passed_by: Vec::new(),
        brief: CallBrief {
            id,
            direction: Direction::Inbound,
            from: Address::reported("anonymous"),
            to: Address::reported("anonymous"),
            queue_id: None,
            queue_name: None,
            queued_at: Some(since),
            context: None,
        },
    }
}

/// One decision: an agent becomes ready and gets the call it should have. 10,000 agents of 60
/// profiles, calls of 12 classes, a new call for each one taken.
fn router() {
    const AGENTS: u64 = 10_000;
    const DECISIONS: usize = 50_000;
    let skills: Vec<_> = (0..6).map(|n| SkillId::derived("bench", &n.to_string())).collect();
    for waiting in [100_u64, 1_000, 10_000, 50_000] {
        let mut random = StdRng::seed_from_u64(7);
        let mut index =
            QueueIndex::new(QueueSettings { strategy: Strategy::LongestIdle, ..QueueSettings::default() });
        let profile = |n: u64| {
            BTreeMap::from([(skills[(n % 6) as usize], (n % 5) as u8 + 1), (skills[(n / 6 % 6) as usize], 5)])
        };
        let asked = |n: u64| BTreeMap::from([(skills[(n % 6) as usize], (n % 2) as u8 + 2)]);
        let mut next_call = 0;
        let now = |n: u64| Timestamp::from_millis(i64::try_from(n).unwrap());
        while next_call < waiting {
            index.enter(entry(next_call, now(next_call), &asked(next_call)), now(next_call));
            next_call += 1;
        }
        let mut times = Vec::with_capacity(DECISIONS);
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let n = random.random_range(0..AGENTS);
            let agent_id = AgentId::derived("bench", &n.to_string());
            let readiness =
                Readiness { ready: true, idle_since: now(n), last_offer_at: None, calls_taken: 0 };
            let skills = profile(n);
            let decision = Instant::now();
            index.agent_ready(agent_id, &skills, readiness);
            let found = index.next_match(now(next_call));
            times.push(decision.elapsed().as_secs_f64() * 1e6);
            if let Some(proposal) = found {
                index.leave(proposal.entry.call_id);
                index.enter(entry(next_call, now(next_call), &asked(next_call)), now(next_call));
                next_call += 1;
            }
        }
        let rate = DECISIONS as f64 / started.elapsed().as_secs_f64();
        let (p50, p99) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
        println!(
            "router: {waiting} waiting, {AGENTS} agents: p50 {p50:.2} µs, p99 {p99:.2} µs, {rate:.0} decisions/s with upkeep"
        );
    }
}

/// Memory and start of an idle node.
fn start() {
    let folder = tempfile::tempdir().unwrap();
    let mut times = Vec::new();
    let mut rss = 0;
    for _ in 0..5 {
        let started = Instant::now();
        let mut child = Command::new(EML)
            .args(["serve", "--listen", "127.0.0.1:18086", "--data-dir", folder.path().to_str().unwrap()])
            .env("EML__TELEMETRY__LISTEN", "")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !is_ready("127.0.0.1:18086") {
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_secs(2));
        rss = rss_kib(child.id());
        let _ = child.kill();
        let _ = child.wait();
    }
    println!(
        "start: ready after {:.0} ms (median of 5), idle RSS {:.1} MB",
        percentile(&mut times, 50.0),
        rss as f64 * 1.024 / 1000.0
    );
}

fn is_ready(address: &str) -> bool {
    get(address, "/health/ready").starts_with("HTTP/1.1 200")
}

/// The answer to a request, head and body; empty when nobody answers.
fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut answer = String::new();
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return answer };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_ok() {
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}
