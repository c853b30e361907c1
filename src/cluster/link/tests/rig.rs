//! Nodes for tests, over TLS on loopback or over the simulated network.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cluster::link::{
    Authority, Identity, Inbound, LinkCounters, LinkRefusal, LinkSettings, Links, Living, Peer,
    SimulatedLinks, SimulatedNetwork, Transport,
};
use crate::domain::node::NodeRef;
use crate::domain::time::Clock;

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Long enough for a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub(super) fn at(name: &str) -> NodeRef {
    NodeRef { node: name.into(), incarnation: Uuid::now_v7() }
}

/// Waits until something holds.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What a node was asked and told. It does what a question says.
pub(super) struct Seen {
    pub(super) pushes: Mutex<Vec<(NodeRef, String)>>,
    pub(super) lost: Mutex<Vec<NodeRef>>,
    pub(super) asks: AtomicUsize,
    /// Lets held questions go.
    pub(super) gate: Semaphore,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            pushes: Mutex::default(),
            lost: Mutex::default(),
            asks: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        }
    }
}

impl Seen {
    pub(super) fn pushed(&self) -> usize {
        self.pushes.lock().unwrap().len()
    }

    pub(super) fn losses(&self, of: &NodeRef) -> usize {
        self.lost.lock().unwrap().iter().filter(|lost| *lost == of).count()
    }
}

#[async_trait]
impl Inbound for Seen {
    async fn ask(&self, from: NodeRef, body: Box<RawValue>) -> Result<Box<RawValue>, LinkRefusal> {
        self.asks.fetch_add(1, Ordering::SeqCst);
        let question: Value = serde_json::from_str(body.get()).unwrap();
        match question["do"].as_str() {
            Some("who") => Ok(serde_json::value::to_raw_value(&from).unwrap()),
            Some("hold") => {
                self.gate.acquire().await.unwrap().forget();
                Ok(body)
            }
            Some("panic") => panic!("as asked"),
            Some("no") => Err(LinkRefusal::Other("because".into())),
            Some("large") => {
                let bytes = usize::try_from(question["bytes"].as_u64().unwrap()).unwrap();
                Ok(raw(&format!("\"{}\"", "x".repeat(bytes - 2))))
            }
            _ => Ok(body),
        }
    }

    fn push(&self, from: NodeRef, body: Box<RawValue>) {
        self.pushes.lock().unwrap().push((from, body.get().to_owned()));
    }

    fn lost(&self, peer: NodeRef) {
        self.lost.lock().unwrap().push(peer);
    }
}

pub(super) enum Handle {
    Tls(Links),
    Simulated(SimulatedLinks),
}

/// A running node.
pub(super) struct Node {
    pub(super) at: NodeRef,
    pub(super) seen: Arc<Seen>,
    pub(super) links: Handle,
    line: Option<Line>,
}

impl Node {
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        match &self.links {
            Handle::Tls(links) => Arc::new(links.clone()),
            Handle::Simulated(links) => Arc::new(links.clone()),
        }
    }

    pub(super) fn counters(&self) -> Arc<LinkCounters> {
        match &self.links {
            Handle::Tls(links) => links.counters(),
            Handle::Simulated(links) => links.counters(),
        }
    }

    pub(super) fn count(&self, which: impl Fn(&LinkCounters) -> &AtomicU64) -> u64 {
        which(&self.counters()).load(Ordering::Relaxed)
    }

    pub(super) fn is_up(&self, peer: &NodeRef) -> bool {
        match &self.links {
            Handle::Tls(links) => links.is_up(peer),
            Handle::Simulated(links) => links.is_up(peer),
        }
    }

    pub(super) async fn shutdown(&self) {
        match &self.links {
            Handle::Tls(links) => links.shutdown().await,
            Handle::Simulated(links) => links.shutdown().await,
        }
    }

    pub(super) fn address(&self) -> String {
        match &self.links {
            Handle::Tls(links) => links.address().to_string(),
            Handle::Simulated(_) => "simulated:1".to_owned(),
        }
    }

    /// As the node table shows it.
    pub(super) fn peer(&self) -> Peer {
        Peer { at: self.at.clone(), address: self.address().into() }
    }

    /// The same behind a line that may freeze.
    pub(super) fn peer_on_line(&self) -> Peer {
        let address = self.line.as_ref().map_or_else(|| self.address(), |line| line.address.clone());
        Peer { at: self.at.clone(), address: address.into() }
    }
}

enum Carrier {
    Tls(Authority),
    Simulated(SimulatedNetwork),
}

/// Starts nodes of one cluster.
pub(super) struct Rig {
    carrier: Carrier,
    pub(super) settings: LinkSettings,
    /// The runs that the view knows, by name. Nodes that start are added.
    pub(super) view: Arc<Mutex<HashMap<Box<str>, NodeRef>>>,
}

pub(super) fn settings() -> LinkSettings {
    LinkSettings { listen: "127.0.0.1:0".to_owned(), ..LinkSettings::default() }
}

impl Rig {
    pub(super) fn tls() -> Self {
        Self::over(Carrier::Tls(Authority::generate(Clock.now()).unwrap()))
    }

    pub(super) fn simulated() -> Self {
        Self::over(Carrier::Simulated(SimulatedNetwork::new(1)))
    }

    fn over(carrier: Carrier) -> Self {
        Self { carrier, settings: settings(), view: Arc::default() }
    }

    pub(super) fn authority(&self) -> &Authority {
        match &self.carrier {
            Carrier::Tls(authority) => authority,
            Carrier::Simulated(_) => panic!("a simulated cluster has no authority"),
        }
    }

    pub(super) fn replace_authority(&mut self, authority: Authority) {
        self.carrier = Carrier::Tls(authority);
    }

    pub(super) fn identity(&self, at: &NodeRef) -> Identity {
        Identity::issued(at.clone(), self.authority(), Identity::wall_clock()).unwrap()
    }

    pub(super) fn living(&self) -> Living {
        let view = Arc::clone(&self.view);
        Arc::new(move |run| view.lock().unwrap().get(&run.node) == Some(run))
    }

    pub(super) async fn start(&self, name: &str) -> Node {
        self.start_at(at(name), "127.0.0.1:0").await
    }

    pub(super) async fn start_at(&self, at: NodeRef, listen: &str) -> Node {
        let seen = Arc::new(Seen::default());
        self.view.lock().unwrap().insert(at.node.clone(), at.clone());
        let inbound: Arc<dyn Inbound> = seen.clone();
        let settings = LinkSettings { listen: listen.to_owned(), ..self.settings.clone() };
        let (links, line) = match &self.carrier {
            Carrier::Tls(_) => {
                let identity = self.identity(&at);
                let links = Links::start(settings, identity, inbound, self.living()).await.unwrap();
                let line = Line::to(links.address().to_string()).await;
                (Handle::Tls(links), Some(line))
            }
            Carrier::Simulated(network) => {
                let links = network.join(at.clone(), settings, inbound, self.living());
                (Handle::Simulated(links), None)
            }
        };
        Node { at, seen, links, line }
    }

    /// Two nodes that know each other and are connected both ways.
    pub(super) async fn pair(&self) -> (Node, Node) {
        let (a, b) = (self.start("a").await, self.start("b").await);
        a.transport().set_peers(&[b.peer_on_line()]);
        b.transport().set_peers(&[a.peer()]);
        eventually("both are connected", || a.is_up(&b.at) && b.is_up(&a.at)).await;
        (a, b)
    }

    /// The process of a node vanishes.
    pub(super) async fn kill(&self, node: &Node) {
        match &self.carrier {
            Carrier::Tls(_) => node.shutdown().await,
            Carrier::Simulated(network) => network.kill(&node.at.node),
        }
    }

    /// Nothing passes between two nodes, on the line to the second.
    pub(super) fn freeze(&self, from: &Node, to: &Node) {
        match &self.carrier {
            Carrier::Tls(_) => to.line.as_ref().unwrap().flows.send_replace(false),
            Carrier::Simulated(network) => {
                network.cut(&from.at.node, &to.at.node);
                network.cut(&to.at.node, &from.at.node);
                true
            }
        };
    }

    pub(super) fn thaw(&self, from: &Node, to: &Node) {
        match &self.carrier {
            Carrier::Tls(_) => to.line.as_ref().unwrap().flows.send_replace(true),
            Carrier::Simulated(network) => {
                network.heal(&from.at.node, &to.at.node);
                network.heal(&to.at.node, &from.at.node);
                true
            }
        };
    }
}

/// A TCP relay in front of a node, which may stop to carry anything.
struct Line {
    address: String,
    flows: watch::Sender<bool>,
}

impl Line {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let flows = watch::Sender::new(true);
        let state = flows.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (state, target) = (state.clone(), target.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = flow(near_in, far_out, state.clone()) => {}
                        () = flow(far_in, near_out, state) => {}
                    }
                });
            }
        });
        Self { address, flows }
    }
}

async fn flow(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if state.wait_for(|flows| *flows).await.is_err() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|flows| *flows).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
