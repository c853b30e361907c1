//! The root: starts writer, shards and queues, and starts again what fails.
//!
//! Nobody supervises it; when it dies the program ends, and whoever runs the program starts it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::sync::oneshot;

use super::engine::{Engine, EngineSettings};
use super::queue::{self, Queue, QueueMessage};
use super::relay::{self, Destination, Relay, ToArchive, ToBus};
use super::shard::{self, Shard, ShardMessage};
use super::writer::{self, Inbox, Writer, WriterHandle};
use crate::domain::directory::{Directory, Queue as QueueRecord};
use crate::domain::id::QueueId;
use crate::domain::placement::SHARDS;
use crate::domain::queue::QueueSettings;
use crate::domain::record::EntityKind;
use crate::domain::restart::{FailureHistory, RestartPolicy, Verdict};
use crate::domain::time::Millis;
use crate::store::{StoreError, Stores};
use crate::telemetry::Metrics;

/// Delay before an open entity list is read again when the store was not there.
const STORE_RETRY: Millis = Millis(500);

/// What the root is sent.
pub(super) enum RootMessage {
    /// The call centre's set-up: queues are started or told their settings.
    Queues(Arc<Directory>, oneshot::Sender<()>),
    /// Start a child again.
    Start(Post),
}

/// The places that the root fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Post {
    Writer,
    Shard(u16),
    Queue(QueueId),
    /// By the number of its destination.
    Relay(usize),
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
}

/// Starts the engine's actors; `take_up` then brings back what was under way. Facts are brought to
/// the bus, and to the archive where that is a product of its own.
///
/// # Errors
/// When the store cannot be read or the actors do not start.
pub async fn start(settings: EngineSettings, stores: Stores, metrics: Metrics) -> Result<Engine, StartError> {
    let mut destinations: Vec<Arc<dyn Destination>> =
        vec![Arc::new(ToBus { stores: stores.clone(), node: settings.node.clone() })];
    if stores.archive_is_apart {
        destinations.push(Arc::new(ToArchive { stores: stores.clone() }));
    }
    let (writer, inbox) = WriterHandle::new(&settings.writer);
    let engine = Engine::new(settings, stores, writer, metrics);
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

/// Takes up every open session and call from the journal. Providers must be known by then, since
/// calls ask them at once which of their legs live. Sessions come first, so that calls find them.
///
/// # Errors
/// When the store cannot be read.
pub async fn take_up(engine: &Engine) -> Result<(), StoreError> {
    for kind in [EntityKind::Agent, EntityKind::Call] {
        let open = engine.stores().journal.open_entities(kind, &[]).await?;
        if !open.is_empty() {
            tracing::info!(count = open.len(), ?kind, "taking up open entities");
        }
        if kind == EntityKind::Call {
            engine.metrics().calls_taken_up(open.len() as u64);
        }
        for number in 0..SHARDS {
            let part = shard::of_shard(&open, number);
            if !part.is_empty() {
                engine.send_to_shard(number, ShardMessage::Resume(part));
            }
        }
    }
    Ok(())
}

/// Lets one shard take up its open entities; waits for the store if it must.
pub(super) async fn resume_shard(engine: &Engine, number: u16) {
    for kind in [EntityKind::Agent, EntityKind::Call] {
        let open = loop {
            match engine.stores().journal.open_entities(kind, &[]).await {
                Ok(open) => break open,
                Err(error) => tracing::warn!(%error, "open entities cannot be read yet"),
            }
            tokio::time::sleep(STORE_RETRY.duration()).await;
        };
        engine.send_to_shard(number, ShardMessage::Resume(shard::of_shard(&open, number)));
    }
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<RootMessage>, args: Args) -> Result<State, ActorProcessingErr> {
        let Args { engine, inbox, destinations } = args;
        let mut state =
            State { engine, inbox, destinations, posts: HashMap::new(), failures: HashMap::new() };
        state.start_writer(&me).await?;
        for number in 0..SHARDS {
            state.start_shard(&me, number, false).await?;
        }
        for number in 0..state.destinations.len() {
            state.start_relay(&me, number).await?;
        }
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
                for queue in directory.queues.values() {
                    state.set_queue(&me, queue).await?;
                }
                let _ = reply.send(());
            }
            RootMessage::Start(Post::Writer) => state.start_writer(&me).await?,
            RootMessage::Start(Post::Shard(number)) => state.start_shard(&me, number, true).await?,
            RootMessage::Start(Post::Queue(queue_id)) => state.restart_queue(&me, queue_id).await?,
            RootMessage::Start(Post::Relay(number)) => state.start_relay(&me, number).await?,
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
        });
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

    async fn set_queue(
        &mut self,
        me: &ActorRef<RootMessage>,
        queue: &QueueRecord,
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
        let args = queue::Args { queue_id: queue.id, settings, engine: self.engine.clone() };
        let (actor, _) = ActorRuntime::spawn_linked(None, Queue, args, me.get_cell()).await?;
        self.posts.insert(actor.get_id(), Post::Queue(queue.id));
        self.engine.inner().queues.insert(queue.id, actor);
        Ok(())
    }

    /// A queue has no journal: whoever waits in it and whoever is ready for it announces itself.
    async fn restart_queue(
        &mut self,
        me: &ActorRef<RootMessage>,
        queue_id: QueueId,
    ) -> Result<(), ActorProcessingErr> {
        self.engine.inner().queues.remove(&queue_id);
        let directory = self.engine.directory();
        if let Some(queue) = directory.queues.get(&queue_id) {
            self.set_queue(me, queue).await?;
            for number in 0..SHARDS {
                self.engine.resume_shard(number);
            }
        }
        Ok(())
    }
}
