//! The figures of a cluster: `cargo bench --bench cluster [-- NAME…]`.
//!
//! Names: `links`; all of them without a name. `links` measures two nodes in one process, connected
//! over loopback with TLS: what both sides need together. Medians of several rounds are told.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made should stop")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "figures are far below 2^52"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eml::cluster::link::{
    Authority, Identity, Inbound, LinkError, LinkRefusal, LinkSettings, Links, Peer, Transport as _,
};
use eml::domain::node::NodeRef;
use eml::domain::time::Clock;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: [&str; 1] = ["links"];
/// Rounds of a measurement, whose median counts, and how long each lasts.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// News of the measurement of their rate.
const NEWS: u64 = 300_000;

fn main() {
    let named: Vec<_> = std::env::args().skip(1).filter(|name| NAMES.contains(&name.as_str())).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in NAMES {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        runtime.block_on(async {
            match name {
                "links" => links().await,
                other => unreachable!("{other} is not in NAMES"),
            }
        });
    }
}

/// Answers with the question, and counts news.
#[derive(Default)]
struct Echo {
    news: AtomicU64,
}

#[async_trait]
impl Inbound for Echo {
    async fn ask(&self, _from: NodeRef, body: Box<RawValue>) -> Result<Box<RawValue>, LinkRefusal> {
        Ok(body)
    }

    fn push(&self, _from: NodeRef, _body: Box<RawValue>) {
        self.news.fetch_add(1, Ordering::Relaxed);
    }

    fn lost(&self, _peer: NodeRef) {}
}

struct Node {
    at: NodeRef,
    links: Links,
    echo: Arc<Echo>,
}

impl Node {
    async fn start(name: &str, authority: &Authority, silent_after: Duration) -> Self {
        let at = NodeRef { node: name.into(), incarnation: Uuid::now_v7() };
        let settings =
            LinkSettings { listen: "127.0.0.1:0".to_owned(), silent_after, ..LinkSettings::default() };
        let identity = Identity::issued(at.clone(), authority, Identity::wall_clock()).unwrap();
        let echo = Arc::new(Echo::default());
        let links = Links::start(settings, identity, echo.clone(), Arc::new(|_| true)).await.unwrap();
        Self { at, links, echo }
    }

    async fn connect(&self, to: &Self, address: String) {
        self.links.set_peers(&[Peer { at: to.at.clone(), address: address.into() }]);
        while !self.links.is_up(&to.at) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn bytes_queued(&self) -> u64 {
        self.links.counters().bytes_queued.load(Ordering::Relaxed)
    }
}

fn body(bytes: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this process in microseconds, to the 10 ms that the system tells.
fn cpu_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 * 10_000.0
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn links() {
    let authority = Authority::generate(Clock.now()).unwrap();
    let a = Node::start("a", &authority, Duration::from_secs(5)).await;
    let b = Node::start("b", &authority, Duration::from_secs(5)).await;
    a.connect(&b, b.links.address().to_string()).await;
    for in_flight in [1, 16, 256] {
        asks(&a, &b, in_flight).await;
    }
    pushes(&a, &b).await;
    a.links.shutdown().await;
    b.links.shutdown().await;
    for bytes in [200, 10_000] {
        full_queue(&authority, bytes).await;
    }
}

/// Questions of 200 bytes, answered with the same.
async fn asks(a: &Node, b: &Node, in_flight: usize) {
    let (mut rates, mut costs, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (cpu, started) = (cpu_micros(), Instant::now());
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let (links, to) = (a.links.clone(), b.at.clone());
            askers.spawn(async move {
                let mut waits = Vec::new();
                while started.elapsed() < ROUND {
                    let asked = Instant::now();
                    links.ask(&to, body(200), Duration::from_secs(10)).await.unwrap();
                    waits.push(asked.elapsed().as_nanos() as u64);
                }
                waits
            });
        }
        let seen: Vec<u64> = askers.join_all().await.into_iter().flatten().collect();
        // The first round warms up.
        if round > 0 {
            rates.push(seen.len() as f64 / started.elapsed().as_secs_f64());
            costs.push((cpu_micros() - cpu) / seen.len() as f64);
            waits.extend(seen);
        }
    }
    waits.sort_unstable();
    let micros = |share: usize| waits[waits.len() * share / 100] as f64 / 1_000.0;
    println!(
        "links: {in_flight} in flight: {:.0} asks/s, p50 {:.0} µs, p99 {:.0} µs, {:.1} µs of CPU per ask, both sides",
        median(&mut rates),
        micros(50),
        micros(99),
        median(&mut costs),
    );
}

/// News of 200 bytes, as fast as the queue takes them.
async fn pushes(a: &Node, b: &Node) {
    let (mut rates, mut costs, mut most) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let before = b.echo.news.load(Ordering::Relaxed);
        let (cpu, started) = (cpu_micros(), Instant::now());
        let mut sent = 0;
        while sent < NEWS {
            match a.links.push(&b.at, body(200)) {
                Ok(()) => sent += 1,
                Err(LinkError::Full) => {
                    most = most.max(a.bytes_queued());
                    tokio::task::yield_now().await;
                }
                Err(error) => unreachable!("{error}"),
            }
        }
        while b.echo.news.load(Ordering::Relaxed) < before + NEWS {
            tokio::task::yield_now().await;
        }
        rates.push(NEWS as f64 / started.elapsed().as_secs_f64());
        costs.push((cpu_micros() - cpu) / NEWS as f64);
    }
    println!(
        "links: {:.0} pushes/s, {:.1} µs of CPU per push, both sides and the sender's waiting; at most {} KB queued",
        median(&mut rates),
        median(&mut costs),
        most / 1_000,
    );
}

/// Memory of a queue that nobody reads, filled until it refuses.
async fn full_queue(authority: &Authority, bytes: usize) {
    let a = Node::start("a", authority, Duration::from_mins(1)).await;
    let b = Node::start("b", authority, Duration::from_mins(1)).await;
    let (address, flows) = line(b.links.address().to_string()).await;
    a.connect(&b, address).await;
    flows.send_replace(false);
    let before = rss_kib();
    let mut pushed = 0_u64;
    let mut refused = 0;
    // The sockets take some before the queue fills.
    while refused < 100 {
        match a.links.push(&b.at, body(bytes)) {
            Ok(()) => pushed += 1,
            Err(LinkError::Full) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => unreachable!("{error}"),
        }
    }
    println!(
        "links: a full queue of {bytes} B bodies: {} KB by its own count, {} KB more resident; {pushed} taken before it refused",
        a.bytes_queued() / 1_000,
        rss_kib().saturating_sub(before) * 1_024 / 1_000,
    );
    flows.send_replace(true);
    a.links.shutdown().await;
    b.links.shutdown().await;
}

/// A relay that may stop to read.
async fn line(target: String) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let flows = watch::Sender::new(true);
    let state = flows.subscribe();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&target).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                let mut state = state.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16 * 1024];
                    while state.wait_for(|flows| *flows).await.is_ok()
                        && let Ok(count @ 1..) = from.read(&mut buffer).await
                    {
                        if to.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (address, flows)
}
