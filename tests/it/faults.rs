//! Every server may fail while calls come in: nothing that was acknowledged is lost, and everything
//! reaches bus and archive.
//!
//! The short form runs with the tests: two restarts and two kills of the journal, outages of seconds.
//! The long one by command, with the report in `docs/faults.md`:
//! `EML_FAULT_ROUNDS=20 EML_FAULT_OUTAGES_S=30,300 ./scripts/test faults`.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eml::domain::id::{CallId, FactId};
use eml::domain::record::EntityKind;
use eml::store::{StoreUrls, Stores};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use tempfile::TempDir;

use crate::kill_nine::{check_journal, post_one_call};
use crate::support::canary;
use crate::support::servers::Servers;

/// Resident memory that the node may take, whatever is away; an idle one takes 40 MB.
const MEMORY_KIB: u64 = 400 * 1024;
/// An outage so short is all start-up; a recovery may take this long however short it was.
const AT_LEAST: Duration = Duration::from_secs(3);
/// How long the relays may take to bring what waited.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Queue of the test on the bus: durable, so that it misses nothing.
const WITNESS: &str = "faults.witness";

/// A list of numbers from the environment.
fn numbers(variable: &str, default: &[u64]) -> Vec<u64> {
    let given = std::env::var(variable).ok();
    given.map_or(default.to_vec(), |text| text.split(',').map(|number| number.parse().unwrap()).collect())
}

struct Node {
    child: Child,
    base: String,
    token: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(servers: &Servers, folder: &TempDir) -> Node {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_eml"))
        .args(["demo", "--data-dir", folder.path().to_str().unwrap(), "--listen", &listen])
        .args(["--agents", "10", "--calls-per-min", "120"])
        .env("EML__TELEMETRY__LISTEN", "")
        .env("EML__AUTH__BCRYPT_COST", "4")
        .env("EML__STORE__URL", servers.url("postgres"))
        .env("EML__ARCHIVE__URL", servers.url("mongo"))
        .env("EML__CACHE__URL", servers.url("redis"))
        .env("EML__BUS__URL", servers.url("rabbit"))
        .stdout(Stdio::piped())
        .env("EML_LOG", canary::LEVEL)
        .stderr(canary::log())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("the demo says how to stop it").unwrap().contains("Ctrl-C") {}
    std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
    let sample = std::fs::read_to_string(folder.path().join("demo.json")).unwrap();
    let sample: serde_json::Value = serde_json::from_str(&sample).unwrap();
    let token = sample["auth_token"].as_str().unwrap().to_owned();
    Node { child, base: format!("http://{listen}"), token }
}

impl Node {
    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// What the load has seen.
#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<(String, String)>>,
    /// When a webhook was last accepted.
    accepted_at: Mutex<Option<Instant>>,
    refused: Mutex<HashMap<u16, u64>>,
}

/// Calls one after the other until told to stop; each answer is noted.
async fn load(base: String, token: String, prefix: String, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let sid = format!("CA{prefix}{n}");
        for (sequence, status) in post_one_call(&http, &base, &token, &sid, n % 3 != 0).await {
            if status.is_success() {
                seen.acknowledged.lock().unwrap().push((sid.clone(), sequence.to_owned()));
                *seen.accepted_at.lock().unwrap() = Some(Instant::now());
            } else {
                *seen.refused.lock().unwrap().entry(status.as_u16()).or_default() += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Binds a durable queue to the events and collects the ids of all that come.
async fn witness(url: String, ids: Arc<Mutex<HashSet<String>>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let _ = tokio::time::timeout(Duration::from_secs(600), watch(&url, &ids)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn watch(url: &str, ids: &Arc<Mutex<HashSet<String>>>) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = "eml.events".into();
    channel.exchange_declare(exchange, ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let kept = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(WITNESS.into(), kept, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(WITNESS.into(), "eml.events".into(), "#".into(), bind, FieldTable::default()).await?;
    let consume = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(WITNESS.into(), "".into(), consume, FieldTable::default()).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let id = delivery.properties.message_id().as_ref().unwrap().to_string();
        ids.lock().unwrap().insert(id);
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// What was done to the servers, and how the node took it.
struct Trial<'a> {
    servers: &'a Servers,
    node: &'a Node,
    seen: &'a Arc<Seen>,
}

impl Trial<'_> {
    /// Ends a server, leaves it away for a while, and starts it again; answers how long it was away
    /// and how long webhooks were refused after it was back.
    async fn outage(&self, verb: &str, name: &str, away: Duration) {
        let began = Instant::now();
        self.servers.run(verb, name);
        let until = Instant::now() + away;
        while Instant::now() < until {
            self.check_memory();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.servers.run("start", name);
        let (back, outage) = (Instant::now(), began.elapsed());
        // Accepted again after the server was back.
        loop {
            if self.seen.accepted_at.lock().unwrap().is_some_and(|at| at > back) {
                break;
            }
            assert!(
                back.elapsed() < 2 * outage.max(AT_LEAST),
                "no recovery from {verb} {name} in twice {outage:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.check_memory();
        let memory = self.node.memory_kib() / 1024;
        println!(
            "{verb} {name}: away {outage:.1?}, accepted again after {:.1?}, {memory} MB",
            back.elapsed()
        );
    }

    fn check_memory(&self) {
        let kib = self.node.memory_kib();
        assert!(kib < MEMORY_KIB, "the node takes {kib} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_may_fail_under_load_and_nothing_is_lost() {
    let Some(servers) = Servers::up() else { return };
    let rounds = numbers("EML_FAULT_ROUNDS", &[2])[0];
    let outages = numbers("EML_FAULT_OUTAGES_S", &[3]);
    let folder = tempfile::tempdir().unwrap();
    let (told, stop) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicBool::new(false)));
    let watching = tokio::spawn(witness(servers.url("rabbit").to_owned(), told.clone(), stop.clone()));
    // The queue must be bound before the first event.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = start(&servers, &folder);
    let (seen, enough) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let loads: Vec<_> = (0..4)
        .map(|i| {
            let (base, token) = (node.base.clone(), node.token.clone());
            tokio::spawn(load(base, token, format!("f{i}n"), seen.clone(), enough.clone()))
        })
        .collect();
    let trial = Trial { servers: &servers, node: &node, seen: &seen };
    for _ in 0..rounds {
        for verb in ["stop", "kill"] {
            trial.outage(verb, "postgres", Duration::ZERO).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    for seconds in outages {
        for name in ["rabbit", "mongo", "redis"] {
            trial.outage("stop", name, Duration::from_secs(seconds)).await;
        }
    }
    enough.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    let stores = stores(&servers).await;
    await_relays(&stores).await;
    drop(node);
    check(&stores, &seen, &told).await;
    stop.store(true, Ordering::Relaxed);
    watching.abort();
}

async fn stores(servers: &Servers) -> Stores {
    let urls = StoreUrls {
        store: servers.url("postgres"),
        archive: servers.url("mongo"),
        cache: "memory:",
        bus: "memory:",
    };
    eml::store::open_all(urls).await.unwrap()
}

/// Waits until both relays have brought what was stored when the load ended.
async fn await_relays(stores: &Stores) {
    let last = stores.journal.last_position().await.unwrap();
    let began = Instant::now();
    for reader in ["bus", "archive"] {
        loop {
            let cursors = stores.journal.cursors(reader).await.unwrap();
            if cursors.len() == 256 && cursors.iter().all(|(_, position)| *position >= last) {
                break;
            }
            assert!(began.elapsed() < CATCH_UP, "{reader} is behind {last}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn check(stores: &Stores, seen: &Seen, told: &Arc<Mutex<HashSet<String>>>) {
    let acknowledged = seen.acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 100, "there was load: {}", acknowledged.len());
    let facts = check_journal(stores, &acknowledged).await;
    let relayed: Vec<&(FactId, _, u64)> = {
        let last: HashMap<u16, u64> = stores.journal.cursors("archive").await.unwrap().into_iter().collect();
        let lowest = last.values().min().copied().unwrap();
        facts.iter().filter(|(_, _, position)| *position <= lowest).collect()
    };
    let told = told.lock().unwrap().clone();
    let missing = relayed.iter().filter(|(id, _, _)| !told.contains(&id.to_string())).count();
    assert_eq!(missing, 0, "of {} facts the bus has seen all", relayed.len());
    let mut by_entity: HashMap<_, Vec<FactId>> = HashMap::new();
    for (id, entity, _) in &relayed {
        by_entity.entry(*entity).or_default().push(*id);
    }
    for (entity, ids) in &by_entity {
        let archived = stores.archive.facts(*entity, 0, usize::MAX).await.unwrap();
        let archived: Vec<_> = archived.iter().map(|fact| fact.id).collect();
        let unique: HashSet<_> = archived.iter().collect();
        assert_eq!(unique.len(), archived.len(), "{entity} is archived once");
        assert!(ids.iter().all(|id| unique.contains(id)), "{entity} is archived whole");
    }
    let over = by_entity.keys().filter(|entity| entity.kind == EntityKind::Call);
    let mut checked = 0;
    for entity in over.take(50) {
        let call = stores.history.call(CallId::from_uuid(entity.id)).await.unwrap().unwrap();
        checked += usize::from(!call.is_open);
    }
    println!(
        "{} acknowledged webhooks, none lost; {} facts, each on the bus and once in the archive; \
         refused: {:?}; {checked} of 50 calls over",
        acknowledged.len(),
        relayed.len(),
        seen.refused.lock().unwrap()
    );
}
