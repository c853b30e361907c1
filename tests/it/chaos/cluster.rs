//! A whole installation for a test: nodes, their network, their servers, a carrier, agents.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use eml::app::KEY_FILE;
use eml::domain::id::{AgentId, UserId};
use eml::domain::time::Millis;
use eml::edge::auth::{Authority, Holder, Vault};
use eml::edge::loopback::{Carrier, CarrierSettings, NumberPlan};
use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agents::Agent;
use super::front::{PROVIDER, Passed, choose, open_door};
use super::history::{AgentLog, Seen};
use super::journal::Database;
use super::network::{CLUSTER, Network};
use super::node::{Node, Program};
use super::wire::Wires;
use crate::support::servers::Servers;

/// The number that leads into the queue.
pub const NUMBER: &str = "+12025550100";
/// How long a change to the set-up may take to be known by all nodes.
const HEARD_OF: Duration = Duration::from_secs(2);
/// How the outside reaches the cluster: what is signed.
pub const PUBLIC: &str = "http://eml.example";
/// How long an agent without a socket keeps its place, in milliseconds.
pub const GRACE_MS: i64 = 4_000;
const ACCOUNT: &str = "AC00000000000000000000000000000001";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What a cluster is made of.
pub struct Plan {
    pub program: Program,
    /// What the last node runs, if that is another build.
    pub other: Option<Program>,
    /// Whether the nodes know of each other; one node may stand alone.
    pub is_cluster: bool,
    /// Whether a judge reads what was written; figures are taken without.
    pub is_judged: bool,
    /// Whether each node has a store of its own, in memory: nodes that do not know of each other.
    pub has_own_stores: bool,
    /// More lines for the configuration of every node.
    pub more: &'static str,
    /// How long the carrier plays to who waits before it asks again, in milliseconds.
    pub music_ms: u64,
    /// How long after-call work may take, in milliseconds.
    pub wrap_up_ms: u64,
    /// How long an offer rings, in milliseconds.
    pub ring_ms: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            program: Program::default(),
            other: None,
            is_cluster: true,
            is_judged: true,
            has_own_stores: false,
            music_ms: 10_000,
            more: "",
            wrap_up_ms: 3_000,
            ring_ms: 2_000,
        }
    }
}

/// A running installation.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Network,
    pub wires: Wires,
    pub carrier: Carrier,
    pub passed: Arc<Passed>,
    pub database: Database,
    pub database_port: u16,
    /// Whether shards have owners.
    pub has_owners: bool,
    pub servers: Servers,
    pub logs: Vec<Arc<Mutex<AgentLog>>>,
    pub stop: CancellationToken,
    /// Lets no agent leave for a while any more.
    pub stay: CancellationToken,
    pub queue_id: String,
    authority: Authority,
    tracker: TaskTracker,
    folder: TempDir,
    plan: Plan,
    /// Held for as long as it lives.
    _alone: File,
    /// The carrier's door and the servers, as nodes see them.
    doors: Vec<SocketAddr>,
    store: SocketAddr,
    cache: SocketAddr,
}

fn host_of(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).unwrap();
    let host: IpAddr = url.host_str().unwrap().parse().unwrap();
    SocketAddr::new(host, url.port().unwrap())
}

impl Cluster {
    /// Starts everything and waits until all nodes are ready; `None` (said aloud) without servers.
    pub async fn start(network: Network, plan: Plan) -> Option<Self> {
        let alone = tokio::task::block_in_place(alone);
        let servers = Servers::up_only(&["postgres", "redis"])?;
        let folder = tempfile::Builder::new().prefix("eml-chaos").tempdir().unwrap();
        let mut wires = Wires::between(&network).await;
        let here = network.harness();
        let store = wires.lay_to(host_of(servers.url("postgres")), &network).await;
        let cache = wires.lay_to(host_of(servers.url("redis")), &network).await;
        let database = Database::fresh(servers.url("postgres")).await;
        let passed = Arc::new(Passed::default());
        let count = network.nodes();
        let apis: Vec<SocketAddr> = (1..=count).map(|node| network.api(node)).collect();
        let carrier = carrier((here, plan.music_ms), apis, &passed).await;
        let (mut nodes, mut doors) = (Vec::new(), Vec::new());
        for place in 1..=count {
            let name = format!("n{place}");
            let near = SocketAddr::new(here, 0);
            doors.push(open_door(near, name.clone(), carrier.local_addr(), passed.clone()).await);
            let other = plan.other.clone().filter(|_| place == count);
            let program = other.unwrap_or_else(|| plan.program.clone());
            nodes.push(Node::new(place, name.clone(), folder.path().join(name), program));
        }
        let key = folder.path().join("n1/data").join(KEY_FILE);
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        let authority = authority(Vault::load_or_create(&key).unwrap());
        let mut cluster = Self {
            nodes,
            network,
            wires,
            carrier,
            passed,
            database,
            database_port: store.port(),
            has_owners: false,
            servers,
            logs: Vec::new(),
            stop: CancellationToken::new(),
            stay: CancellationToken::new(),
            queue_id: String::new(),
            authority,
            tracker: TaskTracker::new(),
            folder,
            plan,
            _alone: alone,
            doors,
            store,
            cache,
        };
        cluster.set_up().await;
        Some(cluster)
    }

    async fn set_up(&mut self) {
        for place in 1..=self.nodes.len() {
            self.configure(place);
        }
        // The first one makes the tables; the triggers must hang before anything happens.
        self.start_node(1).await;
        if !self.plan.has_own_stores {
            self.has_owners = self.database.watch(self.plan.is_judged).await && self.plan.is_cluster;
        }
        if self.plan.is_cluster {
            self.authority = authority_of(&self.database.secret().await);
        }
        for place in 2..=self.nodes.len() {
            self.nodes[place - 1].start(&self.network);
        }
        for node in &mut self.nodes {
            node.await_ready(&self.network).await;
        }
        if !self.plan.has_own_stores {
            self.make_queue().await;
        }
    }

    async fn make_queue(&mut self) {
        let queue = json!({
            "name": "support", "wrap_up_ms": self.plan.wrap_up_ms, "ring_timeout_ms": self.plan.ring_ms,
        });
        let queue = self.post("/queues", &queue).await;
        self.queue_id = queue["id"].as_str().unwrap().to_owned();
        self.post("/numbers", &json!({ "address": NUMBER, "queue_id": self.queue_id })).await;
        // The other nodes hear of it a moment later; until then the number leads nowhere there.
        tokio::time::sleep(HEARD_OF).await;
    }

    /// Writes the configuration of a node.
    pub fn configure(&self, place: usize) {
        let (network, node) = (&self.network, &self.nodes[place - 1]);
        let data = node.folder().join("data");
        std::fs::create_dir_all(&data).unwrap();
        if place > 1 {
            std::fs::copy(self.folder.path().join("n1/data").join(KEY_FILE), data.join(KEY_FILE)).unwrap();
        }
        let cluster = if self.plan.is_cluster {
            let listen = SocketAddr::new(network.node(place), CLUSTER);
            let address = SocketAddr::new(network.seen(place), CLUSTER);
            format!("[cluster]\nenabled = true\nlisten = \"{listen}\"\nadvertise = \"{address}\"\n")
        } else {
            String::new()
        };
        let text = format!(
            "[node]\nname = \"{name}\"\ndata_dir = \"{data}\"\n\
             [server]\nlisten = \"{api}\"\npublic_url = \"{PUBLIC}\"\n\
             [store]\nurl = \"{store}\"\n[cache]\nurl = \"redis://{cache}/\"\n{cluster}\
             [auth]\nbcrypt_cost = 4\nissuer = \"eml\"\n\
             [routing]\nreject_backoff_ms = 1000\nbusy_backoff_ms = 1000\ndisconnect_grace_ms = {GRACE_MS}\n\
             [websocket]\nping_interval_ms = 1000\nsilent_after_ms = 4000\ncommands_per_second = 500\n\
             [telemetry]\nlisten = \"\"\nlog_format = \"pretty\"\n\
             [providers.{PROVIDER}]\nkind = \"loopback\"\naccount_sid = \"{ACCOUNT}\"\n\
             auth_token = \"{SECRET}\"\napi_base = \"http://{door}\"\n{more}",
            name = node.name,
            data = data.display(),
            api = network.api(place),
            store = if self.plan.has_own_stores {
                "memory:".to_owned()
            } else {
                self.database.url_for(&node.name, self.store)
            },
            cache = self.cache,
            door = self.doors[place - 1],
            more = self.plan.more,
        );
        std::fs::write(node.folder().join("eml.toml"), text).unwrap();
    }

    /// Starts a node and waits until it is ready; answers how long that took.
    pub async fn start_node(&mut self, place: usize) -> Duration {
        let node = &mut self.nodes[place - 1];
        node.start(&self.network);
        node.await_ready(&self.network).await
    }

    pub fn node(&mut self, place: usize) -> &mut Node {
        &mut self.nodes[place - 1]
    }

    /// Where configuration and logs are; they stay when this is called.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    pub fn token(&self, caller: &Holder) -> String {
        self.authority.token_for(caller, Millis::from_secs(24 * 3600)).unwrap()
    }

    pub fn admin(&self) -> Holder {
        Holder::admin(UserId::derived("chaos", "admin"))
    }

    /// Asks one node as an admin.
    pub async fn ask(
        &self,
        place: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let request = http.request(method, format!("http://{}{path}", self.network.api(place)));
        let request = request.bearer_auth(self.token(&self.admin()));
        let answer = if body.is_null() { request } else { request.json(body) }.send().await?;
        let status = answer.status();
        Ok((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// Makes something through the first node.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(1, Method::POST, path, body).await.unwrap();
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// Makes agents of the queue; answers with their callers.
    pub async fn hire(&self, count: usize) -> Vec<Holder> {
        let made = futures_util::stream::iter(0..count).map(|i| async move {
            let user_id = UserId::fresh();
            let body = json!({
                "name": format!("agent{i}"), "address": format!("client:agent{i}"),
                "queue_ids": [self.queue_id], "user_id": user_id,
            });
            let made = self.post("/agents", &body).await;
            let agent_id: AgentId = made["id"].as_str().unwrap().parse().unwrap();
            Holder::agent(user_id, agent_id)
        });
        made.buffered(16).collect().await
    }

    /// Lets agents work, each with its own part of the seed.
    pub async fn set_to_work(&mut self, count: usize, seed: u64) {
        self.set_to_work_at(count, seed, None).await;
    }

    /// The same, all of them first at one node.
    pub async fn set_to_work_at(&mut self, count: usize, seed: u64, home: Option<usize>) {
        let nodes: Vec<SocketAddr> = (1..=self.nodes.len()).map(|node| self.network.api(node)).collect();
        let nodes = Arc::new(nodes);
        for (i, caller) in self.hire(count).await.into_iter().enumerate() {
            let agent = caller.agent_id.unwrap().uuid();
            let log = Arc::new(Mutex::new(AgentLog { agent, seen: Vec::new() }));
            self.logs.push(log.clone());
            let (token, seed, stop) = (self.token(&caller), seed + i as u64, self.stop.clone());
            let (home, stay) = (home.map(|place| place - 1), self.stay.clone());
            let agent = Agent { token, nodes: nodes.clone(), seed, home, log, stop, stay };
            self.tracker.spawn(agent.work());
            // A node takes in sockets as fast as it can greet them, not as fast as we can knock.
            if i % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Starts a node without waiting for it.
    pub fn launch(&mut self, place: usize) {
        self.nodes[place - 1].start(&self.network);
    }

    /// Calls that have got into the queue so far.
    pub async fn queued(&self) -> u64 {
        self.database.queued().await
    }

    /// Waits until so many nodes own shards.
    pub async fn await_owners(&self, wanted: usize) {
        self.await_shares(|shares| shares.iter().filter(|share| **share > 0).count() == wanted).await;
    }

    /// Waits until all shards are owned, by all nodes that run, and none has far more than its part.
    pub async fn await_even(&self) {
        let running = self.nodes.iter().filter(|node| node.is_running()).count();
        let fair = 256 / i64::try_from(running).unwrap();
        self.await_shares(|shares| {
            shares.iter().sum::<i64>() == 256
                && shares.len() == running
                && shares.iter().all(|share| (fair / 2..=fair * 2).contains(share))
        })
        .await;
    }

    async fn await_shares(&self, is_so: impl Fn(&[i64]) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let owners = self.database.owners().await;
            let shares: Vec<i64> = owners.iter().map(|(_, shards)| *shards).collect();
            if is_so(&shares) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "shards do not come to rest: {owners:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no call is open and every agent's client has what the journal has, for two seconds;
    /// what does not come to rest is for the judge. Answers whether it did.
    pub async fn settle(&self, limit: Duration) -> bool {
        let (began, mut calm_since) = (std::time::Instant::now(), None);
        while began.elapsed() < limit {
            let is_calm = self.database.open_calls().await.is_empty() && self.has_all_events().await;
            calm_since = is_calm.then(|| calm_since.unwrap_or_else(std::time::Instant::now));
            if calm_since.is_some_and(|since| since.elapsed() > Duration::from_secs(2)) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        println!("chaos: it has not come to rest");
        false
    }

    async fn has_all_events(&self) -> bool {
        let heads: HashMap<_, _> = self.database.agent_heads().await.into_iter().collect();
        self.logs.iter().all(|log| {
            let log = log.lock().unwrap();
            let last = log.seen.iter().rev().find_map(|(_, seen)| match seen {
                Seen::Event { sequence, .. } | Seen::Hello { resumed: false, sequence, .. } => {
                    Some(*sequence)
                }
                _ => None,
            });
            heads.get(&log.agent).copied() == last
        })
    }

    /// Sends the agents home and waits for them.
    pub async fn send_home(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends everything.
    pub async fn end(mut self) {
        self.stop.cancel();
        for node in &mut self.nodes {
            node.kill();
        }
        self.carrier.shutdown(Duration::from_secs(5)).await;
        self.database.remove().await;
    }
}

/// Holds off the other runs on this machine: two of them would see each other's load as faults.
fn alone() -> File {
    let file = File::create(std::env::temp_dir().join("eml-chaos.lock")).unwrap();
    file.lock().unwrap();
    file
}

/// A carrier in this process, whose webhooks go to the nodes by the chooser.
async fn carrier((here, music_ms): (IpAddr, u64), apis: Vec<SocketAddr>, passed: &Arc<Passed>) -> Carrier {
    let chooser = choose(SocketAddr::new(here, 0), apis, passed.clone()).await;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = CarrierSettings::new(listen, ACCOUNT, SECRET, &format!("http://{chooser}"));
    settings.public_url = PUBLIC.to_owned();
    settings.phones.answer_after_ms = 100;
    settings.timing.music_ms = music_ms;
    // The addresses of a number are the customer's to set up, with repeats as we recommend them.
    let path = |path: &str| format!("{PUBLIC}/webhooks/{PROVIDER}/{path}#rc=3&rp=all");
    settings.numbers = vec![NumberPlan {
        number: NUMBER.to_owned(),
        voice_url: path("voice"),
        fallback_url: Some(path("voice/fallback")),
        status_callback: Some(path("status")),
    }];
    Carrier::start(settings).await.unwrap()
}

/// Signs tokens as the nodes of a cluster do: by a key that follows from the secret in their store.
fn authority_of(secret: &str) -> Authority {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let seed = hmac::sign(&key, b"eml token signing key");
    authority(Vault::of_seed(seed.as_ref().try_into().unwrap()))
}

fn authority(vault: Vault) -> Authority {
    Authority::new(Arc::new(vault), "eml", Millis::from_secs(3600)).unwrap()
}

/// Whether the program knows clusters at all.
pub fn is_built(program: &Program) -> bool {
    let path = program.path.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_eml")));
    let help = std::process::Command::new(path).args(["node", "--help"]).output().unwrap();
    help.status.success()
}

/// Account and secret at the carrier.
pub const fn credentials() -> (&'static str, &'static str) {
    (ACCOUNT, SECRET)
}
