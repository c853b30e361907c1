//! How sessions and queues of one node stand, told to the others now and then, so that lists and
//! wallboards show all of them wherever they are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::agent::AgentEvent;
use super::engine::{Engine, Presence};
use super::letter::Push;
use super::queue::QueueStats;
use crate::domain::agent::AgentSnapshot;
use crate::domain::id::{AgentId, QueueId, SocketId};
use crate::domain::node::NodeRef;
use crate::domain::placement::{shard_of, shard_of_id};

/// How often changes are told.
const TELL: Duration = Duration::from_millis(500);
/// After how many rounds everything is told, changed or not.
const TELL_ALL: u32 = 20;
/// Sessions in one message, which keeps it far below what a link carries.
const PART: usize = 200;
/// How long a socket of another node is tried to be told that it missed something.
const TRIES: u32 = 50;

/// Tells the other nodes until the engine is stopped.
pub(super) async fn tell(engine: Engine) {
    let mut told: HashMap<AgentId, (u64, bool)> = HashMap::new();
    let mut figures: HashMap<QueueId, QueueStats> = HashMap::new();
    let mut round = 0_u32;
    loop {
        tokio::time::sleep(TELL).await;
        let Some(cluster) = engine.cluster() else { return };
        if cluster.lease.is_ended() {
            return;
        }
        if round.is_multiple_of(TELL_ALL) {
            told.clear();
            figures.clear();
        }
        round += 1;
        let agents = engine.fresh_sessions(&mut told);
        let queues = engine.fresh_figures(&mut figures);
        let peers = cluster.peers();
        let mut parts: Vec<_> = agents.chunks(PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() && !queues.is_empty() {
            parts.push(Vec::new());
        }
        for (number, agents) in parts.into_iter().enumerate() {
            let queues = if number == 0 { queues.clone() } else { Vec::new() };
            let push = Push::Standing { queues, agents };
            for peer in &peers {
                // Lost figures come again.
                let _ = engine.push(peer, &push);
            }
        }
    }
}

impl Engine {
    fn fresh_sessions(&self, told: &mut HashMap<AgentId, (u64, bool)>) -> Vec<(AgentId, AgentSnapshot)> {
        let mut fresh = Vec::new();
        for entry in &self.inner().presence {
            let (id, snapshot) = (*entry.key(), &entry.value().snapshot);
            let mark = (snapshot.sequence, snapshot.connected);
            if self.owns(shard_of(id.into())) && told.insert(id, mark) != Some(mark) {
                fresh.push((id, snapshot.clone()));
            }
        }
        fresh
    }

    fn fresh_figures(&self, told: &mut HashMap<QueueId, QueueStats>) -> Vec<(QueueId, QueueStats)> {
        let mut fresh = Vec::new();
        for entry in &self.inner().queue_stats {
            let (id, stats) = (*entry.key(), *entry.value());
            if self.owns(shard_of_id(id.uuid())) && told.insert(id, stats) != Some(stats) {
                fresh.push((id, stats));
            }
        }
        fresh
    }

    /// How things of another node stand.
    pub(super) fn hear_standing(
        &self,
        queues: Vec<(QueueId, QueueStats)>,
        agents: Vec<(AgentId, AgentSnapshot)>,
    ) {
        for (id, stats) in queues {
            if !self.owns(shard_of_id(id.uuid())) {
                self.inner().queue_stats.insert(id, stats);
            }
        }
        for (id, snapshot) in agents {
            if !self.owns(shard_of(id.into())) {
                self.note_far_session(id, snapshot);
            }
        }
    }

    /// How a session of another node stands.
    pub(super) fn note_far_session(&self, id: AgentId, snapshot: AgentSnapshot) {
        self.inner().presence.insert(id, Presence { snapshot, readiness: None });
    }

    /// Sends an event to a socket of another node; answers whether it is on its way.
    pub(super) fn push_event(&self, node: &NodeRef, socket_id: SocketId, event: &Arc<AgentEvent>) -> bool {
        let is_sent = self.push(node, &Push::Event { socket_id, event: event.clone() }).is_ok();
        if !is_sent {
            self.tell_behind(node.clone(), socket_id);
        }
        is_sent
    }

    /// The other node would not notice that an event was dropped unless another one followed.
    fn tell_behind(&self, node: NodeRef, socket_id: SocketId) {
        let engine = self.clone();
        self.tracker().spawn(async move {
            for _ in 0..TRIES {
                if engine.push(&node, &Push::Behind { socket_id }).is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
}
