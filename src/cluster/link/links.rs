//! The handle on a node's links.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::admission::Admission;
use super::context::{Context, Living};
use super::counters::LinkCounters;
use super::dialer::PeerLink;
use super::identity::Identity;
use super::listener::{self, Listener};
use super::settings::LinkSettings;
use super::transport::{Inbound, LinkError, Peer, Transport};
use super::wire::{TlsWire, Wire};
use crate::domain::node::NodeRef;

/// Why the links cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// The address cannot be listened on.
    #[error("cluster.listen {address}: {why}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        why: io::Error,
    },
}

/// Links over TCP with mutual TLS. A cheap handle; when the last one is dropped, everything is closed.
#[derive(Clone)]
pub struct Links {
    core: Arc<Core>,
    address: SocketAddr,
    _end: Arc<DropGuard>,
}

impl Links {
    /// Listens, and dials whoever [`Transport::set_peers`] names. `living` tells whether the last view
    /// knows a run; `inbound` gets what peers ask and tell. Connections run on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        settings: LinkSettings,
        identity: Identity,
        inbound: Arc<dyn Inbound>,
        living: Living,
    ) -> Result<Self, LinkStartError> {
        let wrong = |why| LinkStartError::Listen { address: settings.listen.clone(), why };
        let socket = TcpListener::bind(&settings.listen).await.map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        let identity = Arc::new(identity);
        let context = Context::new(identity.at().clone(), settings.clone(), inbound, living);
        let wire = TlsWire { identity: Arc::clone(&identity), settings };
        let core = Core::new(Arc::clone(&context), Arc::new(wire));
        let admission = Arc::clone(&core.admission);
        let end = Arc::new(context.stop.clone().drop_guard());
        let listener = Listener { socket, identity, context, admission };
        core.context.spawn(listener::serve(listener));
        Ok(Self { core, address, _end: end })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

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

    /// Closes everything: whoever waits for an answer gets [`LinkError::Gone`], and work on questions of
    /// peers is dropped.
    pub async fn shutdown(&self) {
        self.core.context.shutdown().await;
    }
}

#[async_trait]
impl Transport for Links {
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

/// The links of a node, whatever carries them.
pub(super) struct Core {
    pub(super) context: Arc<Context>,
    pub(super) admission: Arc<Admission>,
    wire: Arc<dyn Wire>,
    peers: RwLock<HashMap<NodeRef, Arc<PeerLink>>>,
}

impl Core {
    pub(super) fn new(context: Arc<Context>, wire: Arc<dyn Wire>) -> Arc<Self> {
        let admission = Arc::new(Admission::new(Arc::clone(&context)));
        Arc::new(Self { context, admission, wire, peers: RwLock::default() })
    }

    fn link(&self, to: &NodeRef) -> Result<Arc<PeerLink>, LinkError> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(to).cloned().ok_or(LinkError::Gone { sure: true })
    }

    pub(super) async fn ask(
        &self,
        to: &NodeRef,
        body: Box<RawValue>,
        deadline: Duration,
    ) -> Result<Box<RawValue>, LinkError> {
        self.link(to)?.ask(body, deadline).await
    }

    pub(super) fn push(&self, to: &NodeRef, body: Box<RawValue>) -> Result<(), LinkError> {
        self.link(to)?.push(body)
    }

    pub(super) fn is_up(&self, to: &NodeRef) -> bool {
        self.link(to).is_ok_and(|link| link.is_up())
    }

    pub(super) fn set_peers(&self, wanted: &[Peer]) {
        if self.context.stop.is_cancelled() {
            return;
        }
        let wanted: HashMap<&NodeRef, &Peer> = wanted
            .iter()
            .filter(|peer| peer.at.node != self.context.me.node && !peer.address.is_empty())
            .map(|peer| (&peer.at, peer))
            .collect();
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|at, link| {
            let stays = wanted.get(at).is_some_and(|peer| peer.address == link.peer.address);
            if !stays {
                link.end();
            }
            stays
        });
        for (at, peer) in wanted {
            if !peers.contains_key(at) {
                let link = PeerLink::start(peer.clone(), &self.context, Arc::clone(&self.wire));
                peers.insert(at.clone(), link);
            }
        }
        drop(peers);
        self.admission.recheck();
    }
}
