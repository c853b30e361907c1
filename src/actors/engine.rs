//! The handle that everything outside the actors uses, and that actors find each other by.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ractor::ActorRef;
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::agent::SocketMessage;
use super::entity::EntityMessage;
use super::error::AskError;
use super::orphans::Orphans;
use super::ports::Carrier;
use super::post::Post;
use super::queue::{QueueMessage, QueueStats};
use super::readings::Readings;
use super::root::RootMessage;
use super::shard::ShardMessage;
use super::sockets::FarSockets;
use super::writer::{WriterHandle, WriterSettings};
use crate::cluster::Cluster;
use crate::cluster::lease::{EndReason, Ended};
use crate::cluster::link::Transport;
use crate::domain::agent::{AgentSnapshot, Readiness};
use crate::domain::call::{Call, CallCommand, CallRefusal, CallReply, CarrierNews};
use crate::domain::directory::Directory;
use crate::domain::id::{AgentId, CallId, QueueId};
use crate::domain::placement::{SHARDS, shard_of};
use crate::domain::record::{EntityKind, EntityRef, ProviderRef};
use crate::domain::time::{Clock, Millis};
use crate::seeded::{self, Bug};
use crate::store::{StoreError, Stores};
use crate::telemetry::Metrics;

/// When a node of a cluster looks whether the call of news without one is known by now.
const LOOK_FOR_PARENTS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_mins(1),
];
/// Legs that a provider is asked about at a time, and the pause before each: 400 per second at most.
const CHECKS: usize = 8;
const BETWEEN_CHECKS: Duration = Duration::from_millis(20);
/// How long what a test of the store found counts as true.
const TRY_STORE_AGAIN: Duration = Duration::from_secs(1);

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
    /// Whether the node's lease is held; absent when it stands alone.
    pub lease_held: Option<bool>,
    /// Calls that are not over.
    pub active_calls: u64,
    /// Appends that wait for their commit.
    pub journal_pending: u64,
}

/// The last known state of an agent session, for lists.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) snapshot: AgentSnapshot,
    /// Absent when the session is on another node.
    pub(super) readiness: Option<Readiness>,
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
    pub(super) readings: Readings,
    carriers: RwLock<HashMap<Box<str>, Arc<dyn Carrier>>>,
    pub(super) presence: DashMap<AgentId, Presence>,
    pub(super) queue_stats: DashMap<QueueId, QueueStats>,
    orphans: Orphans,
    /// Turns to ask providers whether legs live.
    checks: Semaphore,
    /// Letters to shards of other nodes.
    pub(super) post: Post,
    /// Sockets of this node whose sessions are on others.
    pub(super) sockets: FarSockets,
    /// Rings when something was noted in the audit trail.
    audited: Notify,
    cluster: Option<Cluster>,
    tracker: TaskTracker,
    draining: watch::Sender<bool>,
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
        cluster: Option<Cluster>,
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
            readings: Readings::default(),
            carriers: RwLock::default(),
            presence: DashMap::new(),
            queue_stats: DashMap::new(),
            orphans: Orphans::default(),
            checks: Semaphore::new(CHECKS),
            post: Post::default(),
            sockets: FarSockets::default(),
            audited: Notify::new(),
            cluster,
            tracker: TaskTracker::new(),
            draining: watch::Sender::default(),
            tried_at: Mutex::default(),
        }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The cluster, if this node is part of one.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.0.cluster.as_ref()
    }

    /// Whether things of a shard are this node's.
    pub(super) fn owns(&self, shard: u16) -> bool {
        self.cluster().is_none_or(|cluster| cluster.owners.owner(shard).as_deref() == Some(&cluster.me))
    }

    /// The root, once it is started.
    pub(super) fn root(&self) -> Option<ActorRef<RootMessage>> {
        self.0.root.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shards start here: takes up what is open in them.
    pub(super) fn shards_come(&self, shards: Vec<u16>) {
        if seeded::has(Bug::NoResume) {
            return;
        }
        let engine = self.clone();
        self.0.tracker.spawn(async move {
            let calls = engine.resume_shards(&shards).await;
            engine.0.metrics.calls_taken_up(calls);
        });
    }

    /// Shards leave: their sessions and calls are another's to count and to tell of.
    pub(super) fn shards_leave(&self, shards: &[u16]) {
        for mut session in self.0.presence.iter_mut() {
            if shards.contains(&shard_of((*session.key()).into())) && session.readiness.take().is_some() {
                self.0.metrics.agent_left(session.snapshot.routing_status);
            }
        }
        let (engine, shards) = (self.clone(), shards.to_vec());
        self.0.tracker.spawn(async move {
            match engine.0.stores.journal.open_entities(EntityKind::Call, &shards).await {
                Ok(calls) => engine.0.metrics.calls_handed_over(calls.len() as u64),
                Err(error) => tracing::warn!(%error, "the figure of active calls is too high from now on"),
            }
        });
    }

    /// Begins to hand all shards over and to leave the cluster; the lease ends then. Answers whether
    /// there is a cluster to leave.
    pub async fn leave_cluster(&self) -> bool {
        let (Some(cluster), Some(root)) = (self.cluster(), self.root()) else { return false };
        // First in the table, so that nobody hands it anything more.
        if let Err(error) = cluster.members.set_draining(&cluster.me).await {
            tracing::warn!(%error, "the node table does not say yet that this node leaves");
        }
        root.cast(RootMessage::Drain).is_ok()
    }

    /// Waits until this run of the node is over for the others; for ever when it stands alone.
    pub async fn ended(&self) -> EndReason {
        match self.cluster() {
            Some(cluster) => cluster.lease.ended().await.0,
            None => std::future::pending().await,
        }
    }

    /// Whether this node is one of several.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.0.cluster.is_some()
    }

    /// Opens the way to the other nodes.
    pub fn connect(&self, transport: Arc<dyn Transport>) {
        if let Some(cluster) = self.cluster() {
            cluster.connect(transport);
        }
    }

    /// The shards of this node.
    pub(super) fn owned_shards(&self) -> Vec<u16> {
        match self.cluster() {
            Some(cluster) => cluster.owners.shards_of(&cluster.me),
            None => (0..SHARDS).collect(),
        }
    }

    /// Whether the actor of a shard runs here.
    pub(super) fn has_shard(&self, shard: u16) -> bool {
        let shards = self.0.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(shard)).is_some_and(Option::is_some)
    }

    /// Waits while it is not known whether this node still lives for the others.
    ///
    /// # Errors
    /// When it does not: whatever it was about to do is for others to do.
    pub(super) async fn may_act(&self) -> Result<(), Ended> {
        match self.cluster() {
            Some(cluster) if !seeded::has(Bug::KeepLease) => cluster.lease.held().await,
            Some(_) | None => Ok(()),
        }
    }

    /// Waits for a turn to ask a provider whether a leg still lives. After a restart or a take-over every
    /// call wants to know: asked all at once, providers would turn us away, and calls that people do
    /// something with would wait.
    pub(super) async fn turn_to_check(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let turn = self.0.checks.acquire().await.ok();
        tokio::time::sleep(BETWEEN_CHECKS).await;
        turn
    }

    #[cfg(test)]
    pub(super) fn shard_ref(&self, number: u16) -> Option<super::shard::ShardRef> {
        let shards = self.0.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(usize::from(number)).cloned().flatten().map(super::shard::ShardRef::new)
    }

    /// Lets a session forget sockets that nobody has.
    pub(super) fn check_sockets_now(&self, agent_id: AgentId) {
        let id = EntityRef::from(agent_id);
        self.send(shard_of(id), ShardMessage::Agent(id, EntityMessage::Side(SocketMessage::Check)));
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
        if self.cluster().is_some() {
            self.look_for_parents(provider, names);
        }
        Ok(())
    }

    /// The call of an orphan may become known on another node, which does not look for orphans here.
    fn look_for_parents(&self, provider: &str, names: &[Box<str>]) {
        let (engine, provider, names) = (self.clone(), Box::<str>::from(provider), names.to_vec());
        self.0.tracker.spawn(async move {
            for delay in LOOK_FOR_PARENTS {
                tokio::time::sleep(delay).await;
                if let Ok(Some(call_id)) = engine.find_call(&provider, &names).await {
                    let now = engine.clock().now();
                    for news in engine.0.orphans.adopt(&provider, names.iter(), now) {
                        engine.tell_call(call_id, CallCommand::Carrier(Box::new(news)));
                    }
                    return;
                }
            }
        });
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

    /// Whether new work may come in. A node that leaves a cluster passes it on to the others.
    ///
    /// # Errors
    /// `Overloaded` when too much waits to be stored, too many calls are under way, or the node is
    /// being stopped and stands alone.
    pub fn admit(&self) -> Result<(), AskError<CallRefusal>> {
        let is_full = self.0.metrics.active_calls() >= self.0.settings.max_active_calls;
        let has_no_heir = self.is_draining() && self.cluster().is_none();
        if self.0.writer.is_behind() || is_full || has_no_heir {
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

    /// Says that something was noted in the audit trail, so that the bus is told of it at once.
    pub fn has_noted(&self) {
        self.0.audited.notify_one();
    }

    /// Where one waits for that.
    pub(super) fn audited(&self) -> &Notify {
        &self.0.audited
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
            lease_held: self.cluster().map(|cluster| cluster.lease.is_held()),
            active_calls: self.0.metrics.active_calls(),
            journal_pending: self.0.writer.pending() as u64,
        }
    }

    /// Brings the figures up to date that are looked at rather than counted.
    pub fn measure(&self) {
        self.0.metrics.journal_pending(self.0.writer.pending());
        if let Some(cluster) = self.cluster() {
            let shards = cluster.owners.shards_of(&cluster.me).len();
            let (nodes, letters) = (cluster.peers().len() + 1, self.0.post.len());
            self.0.metrics.cluster(nodes as u64, shards as u64, letters as u64);
        }
    }

    /// Whether the node is being stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Lets no new work in any more.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// Waits until the node is being stopped, or sent away by another.
    pub async fn drained(&self) {
        // The sender lives as long as the engine.
        let _ = self.0.draining.subscribe().wait_for(|is_draining| *is_draining).await;
    }
}
