//! The root: starts writer, shards and queues, and starts again what fails.
//!
//! Nobody supervises it; when it dies the program ends, and whoever runs the program starts it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::sync::oneshot;

use super::announcer::Announcer;
use super::engine::{Engine, EngineSettings};
use super::membership::{self, Membership, MembershipMessage};
use super::queue::{self, Queue, QueueMessage};
use super::relay::{self, Destination, Relay, ToArchive, ToBus};
use super::shard::{self, Shard, ShardMessage};
use super::sweeper::Sweeper;
use super::writer::{self, Inbox, Writer, WriterHandle};
use crate::cluster::Cluster;
use crate::cluster::lease::{EndReason, LeaseHandle};
use crate::domain::directory::{Directory, Queue as QueueRecord};
use crate::domain::id::QueueId;
use crate::domain::placement::{SHARDS, shard_of_id};
use crate::domain::queue::QueueSettings;
use crate::domain::restart::{FailureHistory, RestartPolicy, Verdict};
use crate::store::{StoreError, Stores};
use crate::telemetry::Metrics;

/// How long the actors of a shard may take to finish before it moves.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the root is sent.
pub(super) enum RootMessage {
    /// The call centre's set-up: queues are started or told their settings.
    Queues(Arc<Directory>, oneshot::Sender<()>),
    /// Take part in a cluster.
    Join(Box<membership::Args>, oneshot::Sender<()>),
    /// Hand all shards over and leave the cluster.
    Drain,
    /// Start a child again.
    Start(Post),
    /// These shards belong to this node from now on: start them and their queues.
    Own(Vec<u16>, oneshot::Sender<()>),
    /// These shards move away: end them and their queues once their actors have finished.
    Disown(Vec<u16>, oneshot::Sender<()>),
}

/// The places that the root fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Post {
    Writer,
    Shard(u16),
    Queue(QueueId),
    /// By the number of its destination.
    Relay(usize),
    Announcer,
    Sweeper,
    Membership,
}

/// The actor.
pub(super) struct Root;

/// What it is started with.
pub(super) struct Args {
    engine: Engine,
    inbox: Arc<Inbox>,
    destinations: Vec<Arc<dyn Destination>>,
}

/// What it holds.
pub(super) struct State {
    engine: Engine,
    inbox: Arc<Inbox>,
    destinations: Vec<Arc<dyn Destination>>,
    posts: HashMap<ActorId, Post>,
    failures: HashMap<Post, FailureHistory>,
    membership: Option<ActorRef<MembershipMessage>>,
}

/// Starts the engine's actors; `take_up` then brings back what was under way. Facts are brought to
/// the bus, and to the archive where that is a product of its own. A node that stands alone owns all
/// shards at once; a node of a cluster owns those that it claims (`join`).
///
/// # Errors
/// When the store cannot be read or the actors do not start.
pub async fn start(
    settings: EngineSettings,
    stores: Stores,
    metrics: Metrics,
    cluster: Option<Cluster>,
) -> Result<Engine, StartError> {
    let mut destinations: Vec<Arc<dyn Destination>> =
        vec![Arc::new(ToBus { stores: stores.clone(), node: settings.node.clone() })];
    if stores.archive_is_apart {
        destinations.push(Arc::new(ToArchive { stores: stores.clone() }));
    }
    let (writer, inbox) = WriterHandle::new(&settings.writer);
    let engine = Engine::new(settings, stores, writer, metrics, cluster);
    let args = Args { engine: engine.clone(), inbox, destinations };
    let (root, _) =
        ActorRuntime::spawn(None, Root, args).await.map_err(|error| StartError::Actor(error.to_string()))?;
    *engine.inner().root.write().unwrap_or_else(PoisonError::into_inner) = Some(root);
    engine.reload_directory().await?;
    Ok(engine)
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An actor did not start.
    #[error("actor did not start: {0}")]
    Actor(String),
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<RootMessage>, args: Args) -> Result<State, ActorProcessingErr> {
        let Args { engine, inbox, destinations } = args;
        let mut state = State {
            engine,
            inbox,
            destinations,
            posts: HashMap::new(),
            failures: HashMap::new(),
            membership: None,
        };
        state.start_writer(&me).await?;
        if state.engine.cluster().is_none() {
            for number in 0..SHARDS {
                state.start_shard(&me, number, false).await?;
            }
        }
        for number in 0..state.destinations.len() {
            state.start_relay(&me, number).await?;
        }
        state.start_announcer(&me).await?;
        state.start_sweeper(&me).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Queues(directory, reply) => {
                // A call of another node may have looked for the queue before this node knew of it.
                let gathers = state.engine.is_clustered();
                for queue in directory.queues.values() {
                    if state.engine.owns(shard_of_id(queue.id.uuid())) {
                        state.set_queue(&me, queue, gathers).await?;
                    }
                }
                let _ = reply.send(());
            }
            RootMessage::Join(args, reply) => {
                let (actor, _) = ActorRuntime::spawn_linked(None, Membership, *args, me.get_cell()).await?;
                state.posts.insert(actor.get_id(), Post::Membership);
                state.membership = Some(actor);
                let _ = reply.send(());
            }
            RootMessage::Drain => {
                if let Some(membership) = &state.membership {
                    let _ = membership.cast(MembershipMessage::Drain);
                }
            }
            RootMessage::Own(shards, reply) => {
                state.own(&me, &shards).await?;
                let _ = reply.send(());
            }
            RootMessage::Disown(shards, reply) => state.disown(&shards, reply),
            RootMessage::Start(Post::Writer) => state.start_writer(&me).await?,
            RootMessage::Start(Post::Shard(number)) if state.engine.owns(number) => {
                state.start_shard(&me, number, true).await?;
            }
            RootMessage::Start(Post::Shard(_)) => {}
            RootMessage::Start(Post::Queue(queue_id)) => state.restart_queue(&me, queue_id).await?,
            RootMessage::Start(Post::Membership) => {}
            RootMessage::Start(Post::Relay(number)) => state.start_relay(&me, number).await?,
            RootMessage::Start(Post::Announcer) => state.start_announcer(&me).await?,
            RootMessage::Start(Post::Sweeper) => state.start_sweeper(&me).await?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
            SupervisionEvent::ActorTerminated(actor, _, _) => {
                state.posts.remove(&actor.get_id());
            }
            SupervisionEvent::ActorFailed(actor, why) => {
                if let Some(post) = state.posts.remove(&actor.get_id()) {
                    tracing::error!(?post, %why, "actor failed");
                    state.start_again(&me, post);
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// Even what fails too often is tried again here, after its time aside: without it the node is
    /// of no use.
    fn start_again(&mut self, me: &ActorRef<RootMessage>, post: Post) {
        let now = self.engine.clock().now();
        self.engine.metrics().actor_restarted(match post {
            Post::Writer => "writer",
            Post::Shard(_) => "shard",
            Post::Queue(_) => "queue",
            Post::Relay(_) => "relay",
            Post::Announcer => "announcer",
            Post::Sweeper => "sweeper",
            Post::Membership => "membership",
        });
        if let (Post::Membership, Some(cluster)) = (post, self.engine.cluster()) {
            // It alone knows what this node owns. Another run of it starts from what the store knows.
            cluster.lease.end(EndReason::BeatLost);
            return;
        }
        let delay = match self.failures.entry(post).or_default().record(&RestartPolicy::default(), now) {
            Verdict::Restart(delay) => delay,
            Verdict::Quarantine(until) => until.since(now),
        };
        me.send_after(delay.duration(), move || RootMessage::Start(post));
    }

    async fn start_writer(&mut self, me: &ActorRef<RootMessage>) -> Result<(), ActorProcessingErr> {
        let inner = self.engine.inner();
        let args = writer::Args {
            settings: inner.settings.writer,
            inbox: self.inbox.clone(),
            handle: inner.writer.clone(),
            journal: inner.stores.journal.clone(),
            metrics: inner.metrics.clone(),
            lease: self.engine.cluster().map_or_else(LeaseHandle::forever, |cluster| cluster.lease.clone()),
        };
        let (actor, _) = ActorRuntime::spawn_linked(None, Writer, args, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Writer);
        Ok(())
    }

    async fn start_shard(
        &mut self,
        me: &ActorRef<RootMessage>,
        number: u16,
        takes_up: bool,
    ) -> Result<(), ActorProcessingErr> {
        let args = shard::Args { number, engine: self.engine.clone(), takes_up };
        let (actor, _) = ActorRuntime::spawn_linked(None, Shard, args, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Shard(number));
        let mut shards = self.engine.inner().shards.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = shards.get_mut(usize::from(number)) {
            *place = Some(actor);
        }
        Ok(())
    }

    async fn start_relay(
        &mut self,
        me: &ActorRef<RootMessage>,
        number: usize,
    ) -> Result<(), ActorProcessingErr> {
        let Some(destination) = self.destinations.get(number).cloned() else { return Ok(()) };
        let args = relay::Args { engine: self.engine.clone(), destination };
        let (actor, _) = ActorRuntime::spawn_linked(None, Relay, args, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Relay(number));
        Ok(())
    }

    async fn start_announcer(&mut self, me: &ActorRef<RootMessage>) -> Result<(), ActorProcessingErr> {
        let engine = self.engine.clone();
        let (actor, _) = ActorRuntime::spawn_linked(None, Announcer, engine, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Announcer);
        Ok(())
    }

    async fn start_sweeper(&mut self, me: &ActorRef<RootMessage>) -> Result<(), ActorProcessingErr> {
        let engine = self.engine.clone();
        let (actor, _) = ActorRuntime::spawn_linked(None, Sweeper, engine, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Sweeper);
        Ok(())
    }

    async fn set_queue(
        &mut self,
        me: &ActorRef<RootMessage>,
        queue: &QueueRecord,
        gathers: bool,
    ) -> Result<(), ActorProcessingErr> {
        let settings = QueueSettings {
            strategy: queue.strategy,
            relax_after: queue.relax_after_ms.clone(),
            max_waiting: queue.max_waiting as usize,
        };
        if let Some(actor) = self.engine.inner().queues.get(&queue.id) {
            let _ = actor.cast(QueueMessage::Configure(settings));
            return Ok(());
        }
        let args = queue::Args { queue_id: queue.id, settings, engine: self.engine.clone(), gathers };
        let (actor, _) = ActorRuntime::spawn_linked(None, Queue, args, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Queue(queue.id));
        self.engine.inner().queues.insert(queue.id, actor);
        if gathers {
            self.engine.gather(queue.id);
        }
        Ok(())
    }

    async fn own(&mut self, me: &ActorRef<RootMessage>, shards: &[u16]) -> Result<(), ActorProcessingErr> {
        for number in shards {
            if !self.engine.has_shard(*number) {
                self.start_shard(me, *number, false).await?;
            }
        }
        let directory = self.engine.directory();
        for queue in directory.queues.values() {
            if shards.contains(&shard_of_id(queue.id.uuid())) {
                self.set_queue(me, queue, true).await?;
            }
        }
        Ok(())
    }

    /// Whoever looks for the shards from now on does not find them here. Their queues end at once,
    /// since they are rebuilt anyway; their entities finish what they have first.
    fn disown(&mut self, shards: &[u16], reply: oneshot::Sender<()>) {
        let inner = self.engine.inner();
        inner.queues.retain(|id, queue| {
            let stays = !shards.contains(&shard_of_id(id.uuid()));
            if !stays {
                queue.stop(None);
            }
            stays
        });
        let leaving: Vec<_> = {
            let mut places = inner.shards.write().unwrap_or_else(PoisonError::into_inner);
            let taken = shards.iter().filter_map(|number| places.get_mut(usize::from(*number))?.take());
            taken.collect()
        };
        self.engine.tracker().spawn(async move {
            let ends = leaving.iter().map(|shard| async {
                let (reply, closed) = oneshot::channel();
                let _ = shard.cast(ShardMessage::Close(reply));
                if tokio::time::timeout(LAST_WORDS, closed).await.is_err() {
                    tracing::error!("a shard does not end and is stopped");
                    shard.kill();
                }
            });
            futures_util::future::join_all(ends).await;
            let _ = reply.send(());
        });
    }

    /// A queue has no journal: whoever waits in it and whoever is ready for it announces itself.
    async fn restart_queue(
        &mut self,
        me: &ActorRef<RootMessage>,
        queue_id: QueueId,
    ) -> Result<(), ActorProcessingErr> {
        self.engine.inner().queues.remove(&queue_id);
        let directory = self.engine.directory();
        let queue = directory.queues.get(&queue_id);
        if let Some(queue) = queue.filter(|_| self.engine.owns(shard_of_id(queue_id.uuid()))) {
            self.set_queue(me, queue, true).await?;
        }
        Ok(())
    }
}
