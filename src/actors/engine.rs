//! The handle that everything outside the actors uses, and that actors find each other by.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ractor::ActorRef;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::agent::{Attach, Attached, SocketMessage};
use super::entity::{Answer, EntityMessage, Host};
use super::error::AskError;
use super::orphans::Orphans;
use super::ports::Carrier;
use super::queue::{QueueMessage, QueueStats};
use super::root::RootMessage;
use super::shard::ShardMessage;
use super::writer::{WriterHandle, WriterSettings};
use crate::domain::agent::{AgentCommand, AgentRefusal, AgentReply, AgentSession, AgentSnapshot, Readiness};
use crate::domain::call::{Call, CallCommand, CallRefusal, CallReply, CarrierNews};
use crate::domain::directory::Directory;
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::placement::{SHARDS, shard_of};
use crate::domain::record::{EntityRef, ProviderRef};
use crate::domain::time::{Clock, Millis};
use crate::store::{StoreError, Stores};
use crate::telemetry::Metrics;

/// How long a question to an actor may take, its commit included.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a question is asked again when its actor failed while answering. Commands are
/// idempotent, so asking twice does not do a thing twice.
const ASK_TRIES: u32 = 3;
/// How long what a test of the store found counts as true.
const TRY_STORE_AGAIN: Duration = Duration::from_secs(1);
/// Pause before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What the engine needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Name of the node, for events.
    pub node: String,
    /// How facts are committed.
    pub writer: WriterSettings,
    /// How long an unused actor stays in memory.
    pub park_after: Millis,
    /// Calls that may be under way; more are turned away.
    pub max_active_calls: u64,
    /// Events a reconnecting socket may ask for.
    pub replay_events: usize,
    /// Limits of agent sessions, apart from what is in the agent's record.
    pub agents: AgentLimits,
}

/// Limits that apply to every agent session.
#[derive(Debug, Clone, Copy)]
pub struct AgentLimits {
    /// How long a session without a socket keeps its place.
    pub grace: Millis,
    /// Missed offers in a row after which it is set to not available; 0 = never.
    pub missed_limit: u32,
    /// How long no offers come after one was let pass.
    pub reject_backoff: Millis,
    /// How long no offers come after the agent's phone was busy or failed.
    pub busy_backoff: Millis,
}

/// How the engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineHealth {
    /// Whether facts can be stored.
    pub journal_ok: bool,
    /// Whether the node is being stopped.
    pub draining: bool,
    /// Calls that are not over.
    pub active_calls: u64,
    /// Appends that wait for their commit.
    pub journal_pending: u64,
}

/// The last known state of an agent session, for lists.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) snapshot: AgentSnapshot,
    pub(super) readiness: Readiness,
}

pub(super) struct Inner {
    pub(super) settings: EngineSettings,
    pub(super) stores: Stores,
    pub(super) metrics: Metrics,
    pub(super) writer: WriterHandle,
    pub(super) shards: RwLock<Vec<Option<ActorRef<ShardMessage>>>>,
    pub(super) queues: DashMap<QueueId, ActorRef<QueueMessage>>,
    pub(super) root: RwLock<Option<ActorRef<RootMessage>>>,
    pub(super) directory: RwLock<Arc<Directory>>,
    carriers: RwLock<HashMap<Box<str>, Arc<dyn Carrier>>>,
    pub(super) presence: DashMap<AgentId, Presence>,
    pub(super) queue_stats: DashMap<QueueId, QueueStats>,
    orphans: Orphans,
    tracker: TaskTracker,
    draining: std::sync::atomic::AtomicBool,
    /// When the store was last tried by somebody who wanted to know how it is.
    tried_at: Mutex<Option<Instant>>,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

impl Engine {
    pub(super) fn new(
        settings: EngineSettings,
        stores: Stores,
        writer: WriterHandle,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            stores,
            metrics,
            writer,
            shards: RwLock::new(vec![None; usize::from(SHARDS)]),
            queues: DashMap::new(),
            root: RwLock::new(None),
            directory: RwLock::default(),
            carriers: RwLock::default(),
            presence: DashMap::new(),
            queue_stats: DashMap::new(),
            orphans: Orphans::default(),
            tracker: TaskTracker::new(),
            draining: false.into(),
            tried_at: Mutex::default(),
        }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Asks a call.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn call(&self, id: CallId, command: CallCommand) -> Result<CallReply, AskError<CallRefusal>> {
        self.ask::<Call>(id.into(), command, ShardMessage::Call).await
    }

    /// Asks an agent session.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn agent(
        &self,
        id: AgentId,
        command: AgentCommand,
    ) -> Result<AgentReply, AskError<AgentRefusal>> {
        self.ask::<AgentSession>(id.into(), command, ShardMessage::Agent).await
    }

    async fn ask<H: Host>(
        &self,
        id: EntityRef,
        command: H::Command,
        wrap: fn(EntityRef, EntityMessage<H>) -> ShardMessage,
    ) -> Answer<H> {
        for attempt in 0..ASK_TRIES {
            if attempt > 0 {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            let (reply, answer) = oneshot::channel();
            self.send(id, wrap(id, EntityMessage::Ask { command: command.clone(), reply }));
            match tokio::time::timeout(ASK_TIMEOUT, answer).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => {}
                Err(_) => return Err(AskError::Unavailable),
            }
        }
        Err(AskError::Unavailable)
    }

    /// Tells a call something without waiting.
    pub fn tell_call(&self, id: CallId, command: CallCommand) {
        self.send(id.into(), ShardMessage::Call(id.into(), EntityMessage::Tell(command)));
    }

    /// Tells an agent session something without waiting.
    pub fn tell_agent(&self, id: AgentId, command: AgentCommand) {
        self.send(id.into(), ShardMessage::Agent(id.into(), EntityMessage::Tell(command)));
    }

    fn send(&self, id: EntityRef, message: ShardMessage) {
        let shards = self.0.shards.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(shard)) = shards.get(usize::from(shard_of(id))) {
            let _ = shard.cast(message);
        }
    }

    pub(super) fn send_to_shard(&self, number: u16, message: ShardMessage) {
        let shards = self.0.shards.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(shard)) = shards.get(usize::from(number)) {
            let _ = shard.cast(message);
        }
    }

    #[cfg(test)]
    pub(super) fn shard_ref(&self, number: u16) -> Option<super::shard::ShardRef> {
        let shards = self.0.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(number)).cloned().flatten().map(super::shard::ShardRef::new)
    }

    pub(super) fn tell_queue(&self, id: QueueId, message: QueueMessage) {
        if let Some(queue) = self.0.queues.get(&id) {
            let _ = queue.cast(message);
        } else {
            tracing::warn!(queue.id = %id, "no such queue");
        }
    }

    /// Opens a socket on an agent session.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn attach(
        &self,
        agent_id: AgentId,
        socket_id: crate::domain::id::SocketId,
        outbox: mpsc::Sender<Arc<super::agent::AgentEvent>>,
        last_sequence: Option<u64>,
    ) -> Result<Attached, AskError<AgentRefusal>> {
        let settings = self.agent_settings(agent_id).ok_or(AskError::Refused(AgentRefusal::NotReady))?;
        let (reply, answer) = oneshot::channel();
        let attach = Box::new(Attach { socket_id, outbox, last_sequence, settings, reply });
        let id = EntityRef::from(agent_id);
        self.send(id, ShardMessage::Agent(id, EntityMessage::Side(SocketMessage::Attach(attach))));
        match tokio::time::timeout(ASK_TIMEOUT, answer).await {
            Ok(Ok(attached)) => attached,
            Ok(Err(_)) | Err(_) => Err(AskError::Unavailable),
        }
    }

    /// Lets a session forget sockets of before a restart.
    pub(super) fn check_sockets(&self, agent_id: AgentId) {
        let id = EntityRef::from(agent_id);
        self.send(id, ShardMessage::Agent(id, EntityMessage::Side(SocketMessage::Check)));
    }

    /// Closes a socket on an agent session.
    pub fn detach(&self, agent_id: AgentId, socket_id: crate::domain::id::SocketId) {
        let id = EntityRef::from(agent_id);
        self.send(id, ShardMessage::Agent(id, EntityMessage::Side(SocketMessage::Detach(socket_id))));
    }

    /// Takes news from a provider to its call. News that comes before its call is known is kept
    /// for a while and told again when it is.
    ///
    /// # Errors
    /// See `AskError`; `Unknown` when no such call is known yet.
    pub async fn carrier_news(
        &self,
        provider: &str,
        call_id: CallId,
        news: CarrierNews,
        names: &[Box<str>],
    ) -> Result<CallReply, AskError<CallRefusal>> {
        let answer = self.call(call_id, CallCommand::Carrier(Box::new(news.clone()))).await;
        if matches!(answer, Err(AskError::Refused(CallRefusal::Unknown))) {
            self.keep_orphan(provider, news, names).await.map_err(AskError::Store)?;
        }
        answer
    }

    /// Keeps news that no known call belongs to. It is acknowledged like any other, so it must be
    /// durable like any other.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_orphan(
        &self,
        provider: &str,
        news: CarrierNews,
        names: &[Box<str>],
    ) -> Result<(), StoreError> {
        let now = self.clock().now();
        self.0.metrics.webhook_orphaned(provider);
        let fields = news.raw.fields.get();
        self.0.stores.records.keep_orphan(provider, &news.raw.name, fields, now).await?;
        self.0.orphans.keep(provider, news, names, now);
        Ok(())
    }

    /// Tells a call what came before it was known.
    pub(super) fn adopt_orphans(&self, call: &Call) {
        if self.0.orphans.is_empty() {
            return;
        }
        let names = call.legs.iter().filter_map(|leg| leg.provider_id.as_ref()).chain(&call.rooms);
        for news in self.0.orphans.adopt(&call.provider, names, self.clock().now()) {
            self.tell_call(call.id, CallCommand::Carrier(Box::new(news)));
        }
    }

    /// The call that a provider knows by one of these names: first what is stored, then what the
    /// name of an inbound call leads to by itself.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find_call(&self, provider: &str, names: &[Box<str>]) -> Result<Option<CallId>, StoreError> {
        for name in names {
            let reference = ProviderRef { provider: provider.into(), reference: name.clone() };
            if let Some(entity) = self.0.stores.journal.resolve(&reference).await? {
                return Ok(Some(CallId::from_uuid(entity.id)));
            }
        }
        Ok(None)
    }

    /// Whether new work may come in.
    ///
    /// # Errors
    /// `Overloaded` when too much waits to be stored, too many calls are under way, or the node is
    /// being stopped.
    pub fn admit(&self) -> Result<(), AskError<CallRefusal>> {
        let is_full = self.0.metrics.active_calls() >= self.0.settings.max_active_calls;
        if self.0.writer.is_behind() || is_full || self.is_draining() {
            return Err(AskError::Overloaded);
        }
        Ok(())
    }

    /// Makes a provider known under the name of its section.
    pub fn add_carrier(&self, name: &str, carrier: Arc<dyn Carrier>) {
        self.0.carriers.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), carrier);
    }

    pub(super) fn carrier(&self, name: &str) -> Option<Arc<dyn Carrier>> {
        self.0.carriers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The stores.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// The way to the writer.
    #[must_use]
    pub fn writer(&self) -> &WriterHandle {
        &self.0.writer
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.0.settings
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Where work beside the actors is kept track of.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// How the engine is. The store is tried for it, once a second at most: a node without traffic
    /// would not notice that its store is gone or back.
    pub async fn health(&self) -> EngineHealth {
        let mut tried_at = self.0.tried_at.lock().await;
        if tried_at.is_none_or(|at| at.elapsed() >= TRY_STORE_AGAIN) {
            self.0.writer.set_ok(self.0.stores.journal.ping().await.is_ok());
            *tried_at = Some(Instant::now());
        }
        drop(tried_at);
        EngineHealth {
            journal_ok: self.0.writer.is_ok(),
            draining: self.is_draining(),
            active_calls: self.0.metrics.active_calls(),
            journal_pending: self.0.writer.pending() as u64,
        }
    }

    /// Whether the node is being stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Lets no new work in any more.
    pub fn drain(&self) {
        self.0.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Lets the shard take up every open entity of its part.
    pub(super) fn resume_shard(&self, number: u16) {
        let engine = self.clone();
        self.0.tracker.spawn(async move { super::root::resume_shard(&engine, number).await });
    }
}
