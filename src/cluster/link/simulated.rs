//! Links within one process, over a network that fails at will.
//!
//! Frames, windows, queues and signs of life are those of [`super::Links`]; only the bytes take another
//! way. They are late, wait behind a partition, or vanish with a node, as they would on TCP: nothing is
//! lost from the middle of a connection, but a connection may break.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::context::{Context, Living};
use super::counters::LinkCounters;
use super::greeting::GreetingError;
use super::links::Core;
use super::settings::LinkSettings;
use super::transport::{Inbound, LinkError, Peer, Transport};
use super::wire::{BoxedStream, DialError, Wire};
use crate::domain::node::NodeRef;

/// What an end of a connection holds of bytes that were not read, as a socket's buffer does.
const BUFFER: usize = 64 * 1024;
/// Chunks on the way in one direction.
const ON_THE_WAY: usize = 64;
/// How much later a chunk arrives that was lost and sent again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// The network between simulated nodes. A cheap handle.
#[derive(Clone)]
pub struct SimulatedNetwork(Arc<Network>);

struct Network {
    state: Mutex<State>,
    /// Rises when a path is cut or healed.
    changed: watch::Sender<u64>,
}

struct State {
    nodes: HashMap<Box<str>, Seat>,
    cut: HashSet<(Box<str>, Box<str>)>,
    delay: (Duration, Duration),
    loss: f64,
    chance: StdRng,
}

struct Seat {
    core: Weak<Core>,
    gone: CancellationToken,
}

impl SimulatedNetwork {
    /// A network that delivers at once. The same seed gives the same delays and losses, as far as the
    /// order of tasks permits.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            nodes: HashMap::new(),
            cut: HashSet::new(),
            delay: (Duration::ZERO, Duration::ZERO),
            loss: 0.0,
            chance: StdRng::seed_from_u64(seed),
        };
        Self(Arc::new(Network { state: Mutex::new(state), changed: watch::Sender::new(0) }))
    }

    /// Starts a node on the current runtime. One of the same name that is still there ends as if killed.
    #[must_use]
    pub fn join(
        &self,
        at: NodeRef,
        settings: LinkSettings,
        inbound: Arc<dyn Inbound>,
        living: Living,
    ) -> SimulatedLinks {
        self.kill(&at.node);
        let context = Context::new(at.clone(), settings, inbound, living);
        let end = Arc::new(context.stop.clone().drop_guard());
        let wire = SimulatedWire {
            network: self.clone(),
            me: at.clone(),
            dial_timeout: context.settings.dial_timeout,
            stop: context.stop.clone(),
        };
        let core = Core::new(context, Arc::new(wire));
        let seat = Seat { core: Arc::downgrade(&core), gone: core.context.stop.clone() };
        self.0.state().nodes.insert(at.node, seat);
        SimulatedLinks { core, _end: end }
    }

    /// Each chunk of bytes takes a time between these.
    pub fn set_delay(&self, shortest: Duration, longest: Duration) {
        self.0.state().delay = (shortest, longest.max(shortest));
    }

    /// This share of chunks is lost and sent again, between 0 and 1.
    pub fn set_loss(&self, share: f64) {
        self.0.state().loss = share.clamp(0.0, 1.0);
    }

    /// Nothing passes from one node to another any more; what is on the way waits.
    pub fn cut(&self, from: &str, to: &str) {
        self.0.state().cut.insert((from.into(), to.into()));
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// What waits passes again.
    pub fn heal(&self, from: &str, to: &str) {
        self.0.state().cut.remove(&(from.into(), to.into()));
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Ends a node as if its process were killed: connections break at once, new ones are refused.
    pub fn kill(&self, node: &str) {
        if let Some(seat) = self.0.state().nodes.remove(node) {
            seat.gone.cancel();
        }
    }
}

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flight(&self) -> Duration {
        let mut state = self.state();
        let (shortest, longest) = state.delay;
        let share: f64 = state.chance.random();
        let mut flight = shortest + longest.saturating_sub(shortest).mul_f64(share);
        let loss = state.loss;
        // Sent again at most a few times, so that a loss of 1 is a slow line and not a cut one.
        for _ in 0..5 {
            if state.chance.random::<f64>() >= loss {
                break;
            }
            flight += RETRANSMISSION;
        }
        flight
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.state().cut.contains(&(from.into(), to.into()))
    }

    /// Waits until the path is open.
    async fn open(&self, from: &str, to: &str) {
        let mut changed = self.changed.subscribe();
        while self.is_cut(from, to) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Links of a simulated node. A cheap handle.
#[derive(Clone)]
pub struct SimulatedLinks {
    core: Arc<Core>,
    _end: Arc<DropGuard>,
}

impl SimulatedLinks {
    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.core.context.counters)
    }

    /// Whether a connection to this peer is up.
    #[must_use]
    pub fn is_up(&self, peer: &NodeRef) -> bool {
        self.core.is_up(peer)
    }

    /// Closes everything, as [`super::Links::shutdown`] does.
    pub async fn shutdown(&self) {
        self.core.context.shutdown().await;
    }
}

#[async_trait]
impl Transport for SimulatedLinks {
    async fn ask(
        &self,
        to: &NodeRef,
        body: Box<RawValue>,
        deadline: Duration,
    ) -> Result<Box<RawValue>, LinkError> {
        self.core.ask(to, body, deadline).await
    }

    fn push(&self, to: &NodeRef, body: Box<RawValue>) -> Result<(), LinkError> {
        self.core.push(to, body)
    }

    fn set_peers(&self, peers: &[Peer]) {
        self.core.set_peers(peers);
    }

    fn refused(&self) -> mpsc::Receiver<NodeRef> {
        self.core.context.refused()
    }
}

/// Makes connections between simulated nodes. Addresses do not matter, names do.
struct SimulatedWire {
    network: SimulatedNetwork,
    me: NodeRef,
    dial_timeout: Duration,
    stop: CancellationToken,
}

#[async_trait]
impl Wire for SimulatedWire {
    async fn dial(&self, peer: &Peer) -> Result<BoxedStream, DialError> {
        let network = &self.network.0;
        let (here, there) = (&self.me.node, &peer.at.node);
        if network.is_cut(here, there) || network.is_cut(there, here) {
            sleep(self.dial_timeout).await;
            return Err(DialError::TimedOut);
        }
        sleep(network.flight()).await;
        sleep(network.flight()).await;
        let (core, gone) = {
            let state = network.state();
            let seat = state.nodes.get(there).ok_or(DialError::Refused)?;
            (seat.core.upgrade().ok_or(DialError::Refused)?, seat.gone.clone())
        };
        if gone.is_cancelled() {
            return Err(DialError::Refused);
        }
        let found = &core.context.me;
        if *found != peer.at {
            let (expected, found) = (peer.at.clone(), found.clone());
            return Err(GreetingError::OtherRun { expected, found }.into());
        }
        if !(core.context.living)(&self.me) {
            return Err(GreetingError::Rejected("not in the node table".into()).into());
        }
        let (near, far) = self.connect(there, &gone);
        let from = self.me.clone();
        let admission = Arc::clone(&core.admission);
        core.context.spawn(async move { admission.admit(from, Box::new(far)).await });
        Ok(Box::new(near))
    }
}

impl SimulatedWire {
    /// Lays a path in each direction.
    fn connect(&self, there: &str, gone: &CancellationToken) -> (DuplexStream, DuplexStream) {
        let (near, near_end) = duplex(BUFFER);
        let (far, far_end) = duplex(BUFFER);
        let (from_near, to_near) = split(near_end);
        let (from_far, to_far) = split(far_end);
        let path = |from: &str, to: &str| Path {
            network: Arc::clone(&self.network.0),
            from: from.into(),
            to: to.into(),
        };
        let ends = [self.stop.clone(), gone.clone()];
        let there_path = path(&self.me.node, there);
        let back_path = path(there, &self.me.node);
        tokio::spawn(async move {
            let [here_ends, there_ends] = ends;
            tokio::select! {
                () = here_ends.cancelled() => {}
                () = there_ends.cancelled() => {}
                _ = async { tokio::join!(there_path.carry(from_near, to_far), back_path.carry(from_far, to_near)) } => {}
            }
        });
        (near, far)
    }
}

/// One direction of a connection.
struct Path {
    network: Arc<Network>,
    from: Box<str>,
    to: Box<str>,
}

impl Path {
    /// Carries bytes until one of the ends is closed.
    async fn carry(self, reader: ReadHalf<DuplexStream>, mut writer: WriteHalf<DuplexStream>) {
        let (sender, mut chunks) = mpsc::channel(ON_THE_WAY);
        let deliver = async {
            while let Some((arrival, chunk)) = chunks.recv().await {
                sleep_until(arrival).await;
                self.network.open(&self.from, &self.to).await;
                let chunk: Bytes = chunk;
                if writer.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            self.network.open(&self.from, &self.to).await;
            // The other end may be closed already.
            let _ = writer.shutdown().await;
        };
        tokio::select! {
            () = deliver => {}
            () = async { self.take(reader, sender).await; pending().await } => {}
        }
    }

    /// Takes up what is sent, and says when it arrives; never before what was sent earlier.
    async fn take(&self, mut reader: ReadHalf<DuplexStream>, sender: mpsc::Sender<(Instant, Bytes)>) {
        let mut last = Instant::now();
        loop {
            let mut chunk = BytesMut::with_capacity(16 * 1024);
            match reader.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    last = last.max(Instant::now() + self.network.flight());
                    if sender.send((last, chunk.freeze())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
