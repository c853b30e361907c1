//! The shipped configurations of HAProxy and nginx, in front of three real nodes.
//!
//! Each is taken as it is; only addresses are replaced, as the head of each file says.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eml::edge::providers::twilio::signature;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::chaos::cluster::{Cluster, NUMBER, PUBLIC, Plan, credentials, is_built};
use crate::chaos::network::Network;
use crate::chaos::node::Program;
use crate::support::form;
use crate::support::services::not_run;

/// How long a balancer may take to see how a node is.
const NOTICE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Product {
    Haproxy,
    Nginx,
}

impl Product {
    const fn program(self) -> &'static str {
        match self {
            Self::Haproxy => "/usr/sbin/haproxy",
            Self::Nginx => "/usr/sbin/nginx",
        }
    }

    fn shipped(self) -> PathBuf {
        let path = match self {
            Self::Haproxy => "deploy/haproxy/haproxy.cfg",
            Self::Nginx => "deploy/nginx/nginx.conf",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// A command on a configuration. nginx keeps its process number and first complaints in files, for
    /// which the tests name places of their own.
    fn command(self, configuration: &Path, folder: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Haproxy => command.arg("-f").arg(configuration),
            Self::Nginx => {
                let own = format!("pid {};", folder.join("pid").display());
                command.arg("-c").arg(configuration).arg("-g").arg(own).arg("-e").arg(folder.join("errors"))
            }
        };
        command
    }

    /// Whether it can run here; says so when not.
    pub(crate) fn is_there(self) -> bool {
        let root = Command::new("sh").args(["-c", "test $(id -u) = 0"]).status().unwrap().success();
        if !Path::new(self.program()).exists() {
            return not_run::<()>(&format!("no {self:?}; ./scripts/services install gets it")).is_some();
        }
        root || not_run::<()>(&format!("{self:?} gives up the rights of root, and needs them first"))
            .is_some()
    }
}

/// A balancer that runs, and ends with the test.
pub(crate) struct Balancer {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx's workers end with their master only when it is asked, not killed.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let began = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if began.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Balancer {
    pub(crate) async fn start(product: Product, cluster: &Cluster) -> Self {
        let folder = tempfile::Builder::new().prefix("eml-balancer").tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut text = std::fs::read_to_string(product.shipped()).unwrap();
        let listens = match product {
            Product::Haproxy => ("    bind *:80\n".to_owned(), format!("    bind {address}\n")),
            Product::Nginx => ("        listen 80;\n".to_owned(), format!("        listen {address};\n")),
        };
        assert!(text.contains(&listens.0), "the place of the address is as documented");
        text = text.replacen(&listens.0, &listens.1, 1);
        for place in 1..=3 {
            let shipped = format!("10.0.0.1{place}:8080");
            assert!(text.contains(&shipped), "{shipped} is as documented");
            text = text.replace(&shipped, &cluster.network.api(place).to_string());
        }
        let configuration = folder.path().join("configuration");
        std::fs::write(&configuration, text).unwrap();
        let mut command = product.command(&configuration, folder.path());
        match product {
            Product::Haproxy => command.arg("-db"),
            Product::Nginx => {
                let own = format!("daemon off; pid {};", folder.path().join("pid").display());
                command = Command::new(product.program());
                command.arg("-c").arg(&configuration).arg("-g").arg(own);
                command.arg("-e").arg(folder.path().join("errors"))
            }
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let balancer = Self { child, address, _folder: folder };
        balancer.await_nodes(3).await;
        balancer
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Which nodes answer a row of requests, and how many each.
    async fn spread(&self, requests: usize) -> BTreeMap<String, usize> {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let mut nodes = BTreeMap::new();
        for _ in 0..requests {
            let Ok(answer) = http.get(self.url("/health")).send().await else { continue };
            if let Ok(health) = answer.json::<Value>().await {
                let name = health["node"].as_str().unwrap_or_default().to_owned();
                *nodes.entry(name).or_default() += 1;
            }
        }
        nodes
    }

    /// Waits until just so many nodes get requests.
    pub(crate) async fn await_nodes(&self, wanted: usize) {
        let began = Instant::now();
        loop {
            let spread = self.spread(12).await;
            if spread.len() == wanted {
                return;
            }
            assert!(began.elapsed() < NOTICE, "{wanted} nodes should answer: {spread:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn socket(&self, token: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", "eml.v1.json".parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let greeting = json!({ "id": "hello", "type": "hello", "data": {} });
        socket.send(Message::Text(greeting.to_string().into())).await.unwrap();
        let hello = tokio::time::timeout(NOTICE, socket.next()).await.unwrap().unwrap().unwrap();
        assert!(hello.to_text().unwrap().contains("\"hello\""), "{hello}");
        socket
    }

    /// Posts the signed webhook of a new call.
    pub(crate) async fn call_in(&self, sid: &str) -> reqwest::Result<StatusCode> {
        let fields = form(&[
            ("CallSid", sid),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+12025550143"),
            ("To", NUMBER),
        ]);
        let target = "/webhooks/loopback/voice";
        let signed = signature::sign(credentials().1, &format!("{PUBLIC}{target}"), &fields);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
        let request = http.post(self.url(target)).header("x-twilio-signature", signed).form(&fields);
        Ok(request.send().await?.status())
    }
}

/// How many sockets lead to each node: connections to its listener as the kernel counts them.
fn sockets_at(cluster: &Cluster) -> Vec<usize> {
    let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let count = |place: usize| {
        let SocketAddr::V4(api) = cluster.network.api(place) else { unreachable!("nodes have IPv4") };
        let [a, b, c, d] = api.ip().octets();
        // Address and port in hex, the address as the machine writes a number; 01 is an open connection.
        let local = format!("{d:02X}{c:02X}{b:02X}{a:02X}:{:04X}", api.port());
        let rows = tcp.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|fields| fields.get(1) == Some(&&*local) && fields.get(3) == Some(&"01")).count()
    };
    (1..=3).map(count).collect()
}

async fn three_nodes() -> Option<Cluster> {
    let is_cluster = is_built(&Program::default());
    // Until nodes know of each other each has a world of its own, which is enough for a balancer.
    let plan = Plan { is_cluster, has_own_stores: !is_cluster, ..Plan::default() };
    Cluster::start(Network::loopback(3), plan).await
}

fn accepts_as_it_is(product: Product) {
    if !product.is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = product.command(&product.shipped(), folder.path());
    let checked = command.arg(if product == Product::Haproxy { "-c" } else { "-t" }).output().unwrap();
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{words}");
    assert!(!words.to_lowercase().contains("warn"), "{words}");
}

#[test]
fn haproxy_accepts_its_configuration_as_it_is() {
    accepts_as_it_is(Product::Haproxy);
}

#[test]
fn nginx_accepts_its_configuration_as_it_is() {
    accepts_as_it_is(Product::Nginx);
}

/// Sockets go where the fewest are: with all of them on three nodes, none has two more than another.
async fn check_sockets(balancer: &Balancer, cluster: &Cluster) {
    let token = cluster.token(&cluster.admin());
    let before = sockets_at(cluster);
    let mut sockets = Vec::new();
    for _ in 0..12 {
        sockets.push(balancer.socket(&token).await);
    }
    let now: Vec<usize> =
        sockets_at(cluster).iter().zip(&before).map(|(now, before)| now - before.min(now)).collect();
    assert!(now.iter().all(|count| (3..=5).contains(count)), "{now:?}");
}

/// A node is killed while webhooks come in: not one fails.
async fn check_webhooks(balancer: &Balancer, cluster: &mut Cluster) {
    let mut longest = Duration::ZERO;
    for turn in 0..60 {
        if turn == 20 {
            cluster.node(2).kill();
        }
        let began = Instant::now();
        let status = balancer.call_in(&format!("CAbalanced{turn}")).await.unwrap();
        longest = longest.max(began.elapsed());
        assert_eq!(status, StatusCode::OK, "webhook {turn} while a node is killed");
    }
    assert!(longest < Duration::from_secs(5), "the longest took {longest:?}");
    balancer.await_nodes(2).await;
    cluster.start_node(2).await;
    balancer.await_nodes(3).await;
}

/// A webhook is at a node that freezes and is killed: another node answers it.
async fn check_taken_over(balancer: &Balancer, cluster: &mut Cluster) {
    cluster.node(3).signal("STOP");
    let calls = (0..6).map(|turn| async move { balancer.call_in(&format!("CAfrozen{turn}")).await });
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Command::new("kill").args(["-KILL", &cluster.nodes[2].pid().unwrap().to_string()]).status().unwrap();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), ending);
    for answer in answers {
        assert_eq!(answer.unwrap(), StatusCode::OK, "a webhook at a node that dies");
    }
    cluster.node(3).kill();
    cluster.start_node(3).await;
    balancer.await_nodes(3).await;
}

/// A node that is asked to stop gets nothing new, and no request fails meanwhile.
async fn check_draining(balancer: &Balancer, cluster: &mut Cluster) {
    cluster.node(1).signal("TERM");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut nodes, began) = (Vec::new(), Instant::now());
    while cluster.node(1).is_running() && began.elapsed() < Duration::from_secs(8) {
        let answer = http.get(balancer.url("/health")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        nodes.push(answer.json::<Value>().await.unwrap()["node"].as_str().unwrap().to_owned());
        let status = balancer.call_in(&format!("CAdraining{}", nodes.len())).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        cluster.node(1).look();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if cluster.node(1).is_running() {
        cluster.node(1).await_end().await;
    }
    balancer.await_nodes(2).await;
    let token = cluster.token(&cluster.admin());
    let _sockets =
        [balancer.socket(&token).await, balancer.socket(&token).await, balancer.socket(&token).await];
    cluster.start_node(1).await;
    balancer.await_nodes(3).await;
}

async fn balances(product: Product) {
    if !product.is_there() {
        return;
    }
    let Some(mut cluster) = three_nodes().await else { return };
    let balancer = Balancer::start(product, &cluster).await;
    let spread = balancer.spread(60).await;
    assert!(spread.len() == 3 && spread.values().all(|count| *count >= 15), "{spread:?}");
    check_sockets(&balancer, &cluster).await;
    check_webhooks(&balancer, &mut cluster).await;
    check_taken_over(&balancer, &mut cluster).await;
    check_draining(&balancer, &mut cluster).await;
    drop(balancer);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_balances_three_nodes_and_hides_the_death_of_one() {
    balances(Product::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_balances_three_nodes_and_hides_the_death_of_one() {
    balances(Product::Nginx).await;
}
