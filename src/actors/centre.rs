//! The call centre as the engine knows it: how it is set up, and how agents and queues stand.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::engine::{Engine, Presence};
use super::queue::{QueueNote, QueueStats};
use super::root::RootMessage;
use crate::domain::agent::{AgentCommand, AgentSession, AgentSettings, AgentSnapshot, Readiness};
use crate::domain::directory::Directory;
use crate::domain::id::{AgentId, QueueId};
use crate::store::StoreError;

impl Engine {
    /// The limits of an agent's session; `None` when there is no such agent.
    #[must_use]
    pub fn agent_settings(&self, agent_id: AgentId) -> Option<AgentSettings> {
        let directory = self.directory();
        let agent = directory.agents.get(&agent_id)?;
        let limits = self.inner().settings.agents;
        Some(AgentSettings {
            address: agent.address.clone(),
            voice_capacity: agent.voice_capacity,
            grace: limits.grace,
            missed_limit: limits.missed_limit,
            reject_backoff: limits.reject_backoff,
            busy_backoff: limits.busy_backoff,
        })
    }

    /// The call centre as it is set up.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        self.inner().directory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the call centre's set-up again and lets queues and sessions know.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn reload_directory(&self) -> Result<(), StoreError> {
        self.inner().readings.again(async || self.read_directory().await).await
    }

    async fn read_directory(&self) -> Result<(), StoreError> {
        let directory = Arc::new(super::directory::read(self.inner().stores.records.as_ref()).await?);
        let before = {
            let mut place = self.inner().directory.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, directory.clone())
        };
        let root = self.inner().root.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(root) = root {
            let (reply, done) = oneshot::channel();
            let _ = root.cast(RootMessage::Queues(directory.clone(), reply));
            let _ = done.await;
        }
        self.reconfigure_agents(&before, &directory);
        Ok(())
    }

    fn reconfigure_agents(&self, before: &Directory, after: &Directory) {
        let known: Vec<(AgentId, Option<Readiness>)> =
            self.inner().presence.iter().map(|entry| (*entry.key(), entry.value().readiness)).collect();
        let here = known.into_iter().filter_map(|(agent_id, readiness)| Some((agent_id, readiness?)));
        for (agent_id, readiness) in here {
            let (old, new) = (before.agents.get(&agent_id), after.agents.get(&agent_id));
            if old == new {
                continue;
            }
            if let Some(settings) = self.agent_settings(agent_id) {
                self.tell_agent(agent_id, AgentCommand::Configure { settings });
            }
            let left = old.map(|agent| agent.queue_ids.clone()).unwrap_or_default();
            for queue_id in left {
                let gone = QueueNote::Agent { agent_id, skills: BTreeMap::default(), readiness: None };
                self.tell_queue(queue_id, gone);
            }
            self.announce(agent_id, readiness);
        }
    }

    /// Tells the queues of an agent whether it is ready.
    pub(super) fn announce(&self, agent_id: AgentId, readiness: Readiness) {
        let directory = self.directory();
        let Some(agent) = directory.agents.get(&agent_id) else { return };
        for queue_id in &agent.queue_ids {
            let skills = agent.skills.clone();
            self.tell_queue(*queue_id, QueueNote::Agent { agent_id, skills, readiness: Some(readiness) });
        }
    }

    pub(super) fn show_agent(&self, session: &AgentSession) {
        let presence = Presence { snapshot: session.snapshot(), readiness: Some(session.readiness()) };
        let status = presence.snapshot.routing_status;
        let before = self.inner().presence.insert(session.id, presence);
        let before = before.filter(|known| known.readiness.is_some());
        self.inner().metrics.agent_moved(before.map(|known| known.snapshot.routing_status), status);
    }

    /// An agent session as last known, from memory; `None` when it never connected here.
    #[must_use]
    pub fn agent_snapshot(&self, id: AgentId) -> Option<AgentSnapshot> {
        self.inner().presence.get(&id).map(|presence| presence.snapshot.clone())
    }

    pub(super) fn show_queue(&self, id: QueueId, stats: QueueStats) {
        let before = self.inner().queue_stats.insert(id, stats);
        if before != Some(stats) {
            let directory = self.directory();
            if let Some(queue) = directory.queues.get(&id) {
                self.inner().metrics.queue(
                    &queue.name,
                    stats.waiting,
                    stats.oldest_wait_ms.unwrap_or_default(),
                );
            }
        }
    }

    /// The figures of a queue.
    #[must_use]
    pub fn queue_stats(&self, id: QueueId) -> Option<QueueStats> {
        self.inner().queue_stats.get(&id).map(|stats| *stats)
    }
}
