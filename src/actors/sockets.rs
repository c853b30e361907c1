//! Sockets of this node whose sessions live on another: where their events go, and how a gap is
//! noticed.
//!
//! Events of a session are numbered without gaps. A socket whose next event is not the one that was
//! expected, whose session moved, or whose way to the session broke loses its channel; its connection
//! then opens it again behind the last event it has, and the journal fills the gap.

use std::sync::Arc;

use dashmap::{DashMap, DashSet};
use tokio::sync::mpsc;

use super::agent::AgentEvent;
use super::engine::Engine;
use crate::domain::id::{AgentId, SocketId};
use crate::domain::node::NodeRef;
use crate::domain::placement::shard_of;
use crate::seeded::{self, Bug};

struct Socket {
    agent_id: AgentId,
    session_at: NodeRef,
    outbox: mpsc::Sender<Arc<AgentEvent>>,
    /// Number of the event that must come next, once it is known.
    next: Option<u64>,
}

/// The sockets, by id.
#[derive(Default)]
pub(super) struct FarSockets {
    open: DashMap<SocketId, Socket>,
    /// Sockets of this node that were given up because their clients do not keep up.
    slow: DashSet<SocketId>,
}

impl Engine {
    /// Notes a socket before its session is asked, so that no event is missed.
    pub(super) fn keep_socket(
        &self,
        socket_id: SocketId,
        agent_id: AgentId,
        session_at: NodeRef,
        outbox: mpsc::Sender<Arc<AgentEvent>>,
    ) {
        self.inner().sockets.open.insert(socket_id, Socket { agent_id, session_at, outbox, next: None });
    }

    /// The session has told everything up to this number.
    pub(super) fn expect_events(&self, socket_id: SocketId, after: u64) {
        if let Some(mut socket) = self.inner().sockets.open.get_mut(&socket_id) {
            socket.next.get_or_insert(after + 1);
        }
    }

    /// An event came from the node of the session.
    pub(super) fn event_came(&self, socket_id: SocketId, from: &NodeRef, event: Arc<AgentEvent>) {
        let sockets = &self.inner().sockets.open;
        let Some(mut socket) = sockets.get_mut(&socket_id) else {
            // The socket is gone, and its detaching on the way.
            return;
        };
        if socket.session_at != *from {
            return;
        }
        let is_next = socket.next.is_none_or(|next| next == event.sequence);
        socket.next = Some(event.sequence + 1);
        let keeps_up = !is_next || socket.outbox.try_send(event).is_ok();
        drop(socket);
        if !keeps_up {
            self.give_up(socket_id);
        }
        if !keeps_up || !is_next {
            sockets.remove(&socket_id);
        }
    }

    /// A socket is gone, or must be opened again.
    pub(super) fn forget_socket(&self, socket_id: SocketId) {
        self.inner().sockets.open.remove(&socket_id);
    }

    /// The client of a socket of this node does not keep up.
    pub(super) fn give_up(&self, socket_id: SocketId) {
        tracing::warn!(socket.id = %socket_id, "socket does not keep up and is closed");
        self.metrics().socket_dropped();
        self.inner().sockets.slow.insert(socket_id);
    }

    /// Whether a socket lost its channel because its client does not keep up; said once.
    #[must_use]
    pub fn gave_up(&self, socket_id: SocketId) -> bool {
        self.inner().sockets.slow.remove(&socket_id).is_some()
    }

    /// The way to a node broke: events may be lost.
    pub(super) fn forget_sockets_at(&self, node: &NodeRef) {
        if seeded::has(Bug::ForgetSockets) {
            return;
        }
        self.inner().sockets.open.retain(|_, socket| socket.session_at != *node);
    }

    /// Sessions of these shards are not where they were.
    pub(super) fn forget_sockets_of(&self, moved: &[u16]) {
        if seeded::has(Bug::ForgetSockets) {
            return;
        }
        self.inner().sockets.open.retain(|_, socket| !moved.contains(&shard_of(socket.agent_id.into())));
    }
}
