//! Bringing back what was under way: after a restart, after a take-over, and when a queue is started
//! anew.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::engine::Engine;
use super::queue::QueueMessage;
use super::shard::ShardMessage;
use crate::domain::agent::AgentCommand;
use crate::domain::call::CallCommand;
use crate::domain::id::{AgentId, QueueId};
use crate::domain::placement::shard_of;
use crate::domain::record::{EntityKind, EntityRef, FactRecord};
use crate::domain::time::Millis;
use crate::seeded::{self, Bug};
use crate::store::StoreError;
use crate::store::history::{CallCursor, CallFilter};

/// Delay before the store is read again when it was not there.
const STORE_RETRY: Millis = Millis(100);
/// Entities whose facts are read at once, when nobody waits for any of them.
const PART: usize = 500;
/// Such reads at a time.
const AT_A_TIME: usize = 3;
/// The same when shards are taken over from another node, and the pause after each. Whoever is asked for
/// meanwhile is read at once and alone, so what is brought back must leave room for those who ask: with
/// thousands of calls it would hold both cores and all connections for seconds.
const SMALL_PART: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Waiting calls that one read brings.
const PAGE: usize = 500;
/// Pause after letting a page of waiting calls announce themselves, for the same reason.
const PAGE_PAUSE: Duration = Duration::from_millis(40);
/// For taking over beside the node's own work.
const HASTE_BESIDE_WORK: Haste = Haste { part: SMALL_PART, at_a_time: 1, pause: PAUSE };
/// For a start, when nobody is served yet.
const HASTE_AT_START: Haste = Haste { part: PART, at_a_time: AT_A_TIME, pause: Duration::ZERO };
/// How long sockets of other nodes have to open again before they count as gone.
const SOCKETS_RETURN: Duration = Duration::from_secs(3);

/// Takes up every open session and call from the journal. Providers must be known by then, since
/// calls ask them at once which of their legs live. Sessions come first, so that calls find them.
///
/// # Errors
/// When the store cannot be read.
pub async fn take_up(engine: &Engine) -> Result<(), StoreError> {
    let calls = take_up_shards(engine, &[], HASTE_AT_START).await?;
    engine.metrics().calls_taken_up(calls);
    Ok(())
}

/// How fast entities are brought back.
#[derive(Clone, Copy)]
struct Haste {
    /// Entities whose facts are read at once.
    part: usize,
    /// Such reads at a time.
    at_a_time: usize,
    /// Pause after each.
    pause: Duration,
}

/// The same for some shards, none means all; answers how many calls there are.
async fn take_up_shards(engine: &Engine, shards: &[u16], haste: Haste) -> Result<u64, StoreError> {
    let journal = &engine.stores().journal;
    let mut calls = 0;
    for kind in [EntityKind::Agent, EntityKind::Call] {
        let open = journal.open_entities(kind, shards).await?;
        if !open.is_empty() {
            tracing::info!(count = open.len(), ?kind, "taking up open entities");
        }
        if kind == EntityKind::Call {
            calls = open.len() as u64;
        }
        let read = |part: &[EntityRef]| {
            let (journal, part) = (journal.clone(), part.to_vec());
            async move { journal.facts_of(&part).await.map(|facts| by_shard(&part, facts)) }
        };
        let mut parts = stream::iter(open.chunks(haste.part).map(read)).buffered(haste.at_a_time);
        while let Some(part) = parts.next().await {
            for (shard, entities) in part? {
                engine.send(shard, ShardMessage::Resume(entities));
            }
            tokio::time::sleep(haste.pause).await;
        }
    }
    Ok(calls)
}

type Entities = Vec<(EntityRef, Option<Vec<FactRecord>>)>;

/// Entities with their facts, by shard.
fn by_shard(entities: &[EntityRef], facts: Vec<FactRecord>) -> BTreeMap<u16, Entities> {
    let mut of_entity: BTreeMap<EntityRef, Vec<FactRecord>> = BTreeMap::new();
    for fact in facts {
        of_entity.entry(fact.entity).or_default().push(fact);
    }
    let mut shards: BTreeMap<u16, Entities> = BTreeMap::new();
    for entity in entities {
        shards.entry(shard_of(*entity)).or_default().push((*entity, of_entity.remove(entity)));
    }
    shards
}

impl Engine {
    /// Lets shards take up their open entities; waits for the store if it must. Answers how many
    /// calls there are.
    pub(super) async fn resume_shards(&self, shards: &[u16]) -> u64 {
        loop {
            match take_up_shards(self, shards, HASTE_BESIDE_WORK).await {
                Ok(calls) => return calls,
                Err(error) => tracing::warn!(%error, "open entities cannot be read yet"),
            }
            tokio::time::sleep(STORE_RETRY.duration()).await;
        }
    }

    /// Lets everybody who waits in a queue or is ready for it announce itself.
    pub(super) fn gather(&self, queue_id: QueueId) {
        if seeded::has(Bug::ForgetQueue) {
            return;
        }
        let engine = self.clone();
        self.tracker().spawn(async move {
            while let Err(error) = engine.gather_once(queue_id).await {
                tracing::warn!(%error, "waiting calls cannot be read yet");
                tokio::time::sleep(STORE_RETRY.duration()).await;
            }
        });
    }

    async fn gather_once(&self, queue_id: QueueId) -> Result<(), StoreError> {
        let filter = CallFilter {
            open: Some(true),
            status: vec!["queued".to_owned()],
            queue: vec![queue_id],
            ..CallFilter::default()
        };
        let (mut waiting, mut behind) = (Vec::new(), None);
        loop {
            let page = self.stores().history.calls(&filter, behind, true, PAGE).await?;
            behind = page.last().map(|last| CallCursor { started_at: last.started_at, id: last.id });
            waiting.extend(page.iter().map(|call| call.id));
            if page.len() < PAGE {
                break;
            }
        }
        if let Some(queue) = self.inner().queues.get(&queue_id) {
            let _ = queue.cast(QueueMessage::Expect(waiting.clone()));
        }
        // The oldest first: whoever comes late has waited less than those who are there.
        for page in waiting.chunks(PAGE) {
            for call_id in page {
                self.tell_call(*call_id, CallCommand::Announce { queue_id });
            }
            tokio::time::sleep(PAGE_PAUSE).await;
        }
        let directory = self.directory();
        for session in self.stores().journal.open_entities(EntityKind::Agent, &[]).await? {
            let agent_id = AgentId::from_uuid(session.id);
            // A session whose agent is not known here yet knows itself which queues it serves.
            if directory.agents.get(&agent_id).is_none_or(|agent| agent.queue_ids.contains(&queue_id)) {
                self.tell_agent(agent_id, AgentCommand::Announce);
            }
        }
        Ok(())
    }

    /// Lets a session forget sockets of before a restart. In a cluster they may be on nodes that live,
    /// and open again as soon as these see where the session is.
    pub(super) fn check_sockets(&self, agent_id: AgentId) {
        let engine = self.clone();
        self.tracker().spawn(async move {
            if engine.cluster().is_some() {
                tokio::time::sleep(SOCKETS_RETURN).await;
            }
            engine.check_sockets_now(agent_id);
        });
    }
}
