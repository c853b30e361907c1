//! A machine that fails wherever it is told to, run by the real entity actor in the real nest.

use std::cell::Cell;
use std::sync::Arc;

use async_trait::async_trait;
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::engine::{AgentLimits, Engine, EngineSettings};
use super::entity::{Answer, EntityMessage, EntityState, Host};
use super::error::AskError;
use super::letter::{News, Request, Response};
use super::nest::{AfterFailure, Nest};
use super::shard::{ShardMessage, ShardRef};
use super::writer::WriterSettings;
use crate::domain::id::{AgentId, CommandId};
use crate::domain::machine::{Decision, Machine};
use crate::domain::record::{EntityRef, FactRecord, ProviderRef, Summary};
use crate::domain::time::{Millis, Timestamp};
use crate::store::journal::{Append, AppendOutcome, Journal, Positioned};
use crate::store::{Inspection, StoreError, Stores};
use crate::telemetry::Metrics;

/// Where the machine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    Nowhere,
    Decide,
    Perform,
    Committed,
    Side,
}

thread_local! {
    /// Failures left before an actor starts at all; each test runs its actors on its own thread.
    static START_FAILURES: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted;

/// Counts; nothing else.
struct Counter(u64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

impl Machine for Counter {
    type Command = At;
    type Fact = Counted;
    type Effect = At;
    type Reply = u64;
    type Refusal = Never;

    fn vacant(_: EntityRef) -> Self {
        Self(0)
    }

    fn decide(&self, command: At, _: Timestamp) -> Result<Decision<Self>, Never> {
        assert!(command != At::Decide, "told to fail in decide");
        Ok(Decision { facts: vec![Counted], effects: vec![command], reply: self.0 + 1 })
    }

    fn apply(&mut self, _: &Counted, _: Timestamp) {
        self.0 += 1;
    }

    fn resume(&self, _: Timestamp) -> Vec<At> {
        Vec::new()
    }

    fn tick() -> At {
        At::Nowhere
    }

    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    fn summary(&self) -> Summary {
        Summary::Agent { open: true }
    }

    fn provider_refs(&self) -> Vec<ProviderRef> {
        Vec::new()
    }

    fn is_final(&self) -> bool {
        false
    }

    fn may_park(&self) -> bool {
        true
    }

    fn event_type(_: &Counted) -> &'static str {
        "test.counted"
    }
}

impl Host for Counter {
    type Side = Option<At>;
    type SideMessage = At;

    fn side() -> Option<At> {
        let left = START_FAILURES.take();
        START_FAILURES.set(left.saturating_sub(1));
        assert!(left == 0, "told to fail in pre_start");
        None
    }

    fn for_shard(_: EntityRef, _: EntityMessage<Self>) -> ShardMessage {
        unreachable!("the counter lives in a nest of its own")
    }

    fn request(_: EntityRef, _: CommandId, _: &At) -> Request {
        unreachable!("the counter lives on one node")
    }

    fn told(_: Response) -> Option<Answer<Self>> {
        None
    }

    fn news(_: EntityRef, _: At) -> News {
        unreachable!("the counter lives on one node")
    }

    fn repeated(&self, _: &At) -> Option<u64> {
        Some(self.0)
    }

    fn perform(effect: At, _: EntityRef, _: &Engine) {
        assert!(effect != At::Perform, "told to fail in perform");
    }

    fn committed(&self, side: &mut Option<At>, _: &[FactRecord], _: &Engine) {
        assert!(side.take() != Some(At::Committed), "told to fail after the commit");
    }

    async fn side_message(actor: &mut EntityState<Self>, message: At) -> Result<(), ActorProcessingErr> {
        assert!(message != At::Side, "told to fail in a handler");
        actor.side = Some(message);
        Ok(())
    }
}

/// Hears of failures as a shard would.
struct Ear;

impl Actor for Ear {
    type Msg = ();
    type State = mpsc::UnboundedSender<ractor::ActorId>;
    type Arguments = mpsc::UnboundedSender<ractor::ActorId>;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        sender: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(sender)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        sender: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, _) = event {
            let _ = sender.send(actor.get_id());
        }
        Ok(())
    }
}

struct Stage {
    engine: Engine,
    nest: Nest<Counter>,
    shard: ShardRef,
    ear: ActorRef<()>,
    failures: mpsc::UnboundedReceiver<ractor::ActorId>,
}

fn settings() -> EngineSettings {
    EngineSettings {
        node: "test".to_owned(),
        writer: WriterSettings { flush_rows: 64, flush_after: Millis(0), queue_rows: 64 },
        park_after: Millis::from_secs(60),
        max_active_calls: 100,
        replay_events: 100,
        agents: AgentLimits {
            grace: Millis(0),
            missed_limit: 0,
            reject_backoff: Millis(0),
            busy_backoff: Millis(0),
        },
    }
}

/// A node that stands alone.
pub(super) async fn engine(stores: Stores) -> Engine {
    super::start(settings(), stores, Metrics::new(), None).await.unwrap()
}

impl Stage {
    async fn set(stores: Stores) -> Self {
        let engine = engine(stores).await;
        let (sender, failures) = mpsc::unbounded_channel();
        let (ear, _) = ActorRuntime::spawn(None, Ear, sender).await.unwrap();
        let shard = engine.shard_ref(0).unwrap();
        Self { engine, nest: Nest::default(), shard, ear, failures }
    }

    async fn deliver(&mut self, id: EntityRef, message: EntityMessage<Counter>) {
        self.nest.deliver(id, message, (&self.shard, self.ear.get_cell()), &self.engine).await;
    }

    async fn ask(&mut self, id: EntityRef, command: At) -> Option<Answer<Counter>> {
        let (reply, answer) = oneshot::channel();
        self.deliver(id, EntityMessage::Ask { command, cause: CommandId::fresh(), reply }).await;
        answer.await.ok()
    }

    /// The nest hears of the failure, as the shard would tell it.
    async fn failed(&mut self) -> EntityRef {
        let actor = self.failures.recv().await.unwrap();
        match self.nest.failed(actor, &self.engine) {
            AfterFailure::StartAt(id, _) => id,
            AfterFailure::NotMine => panic!("a failure of somebody else"),
        }
    }
}

fn entity(name: &str) -> EntityRef {
    AgentId::derived("test", name).into()
}

async fn memory() -> Stores {
    crate::store::open("memory:").await.unwrap()
}

#[tokio::test]
async fn a_failure_anywhere_restarts_that_entity_only_and_loses_no_acknowledged_fact() {
    let mut stage = Stage::set(memory().await).await;
    let (one, other) = (entity("one"), entity("other"));
    assert_eq!(stage.ask(one, At::Nowhere).await.unwrap().unwrap(), 1);
    assert_eq!(stage.ask(other, At::Nowhere).await.unwrap().unwrap(), 1);
    let mut counted = 1;
    for at in [At::Decide, At::Perform, At::Committed, At::Side] {
        match at {
            At::Committed => {
                stage.deliver(one, EntityMessage::Side(At::Committed)).await;
                assert!(stage.ask(one, At::Nowhere).await.is_none(), "{at:?}");
            }
            At::Side => stage.deliver(one, EntityMessage::Side(At::Side)).await,
            At::Nowhere | At::Decide | At::Perform => assert!(stage.ask(one, at).await.is_none(), "{at:?}"),
        }
        // What failed after the commit is stored although nobody was told.
        counted += u64::from(matches!(at, At::Perform | At::Committed));
        assert_eq!(stage.failed().await, one);
        stage.deliver(one, EntityMessage::Resume(None)).await;
        counted += 1;
        assert_eq!(stage.ask(one, At::Nowhere).await.unwrap().unwrap(), counted, "after a failure in {at:?}");
        assert!(stage.failures.try_recv().is_err(), "the other never noticed");
    }
    assert_eq!(stage.ask(other, At::Nowhere).await.unwrap().unwrap(), 2);
    let facts = stage.engine.stores().journal.facts(one, 0, 100).await.unwrap();
    assert_eq!(facts.len() as u64, counted);

    START_FAILURES.set(1);
    let fresh = entity("fresh");
    assert!(stage.ask(fresh, At::Nowhere).await.is_none(), "it does not start at first");
    assert_eq!(stage.ask(fresh, At::Nowhere).await.unwrap().unwrap(), 1, "and starts at the next message");
}

#[tokio::test]
async fn what_fails_again_and_again_is_put_aside_and_the_rest_goes_on() {
    let mut stage = Stage::set(memory().await).await;
    let (bad, good) = (entity("bad"), entity("good"));
    for _ in 0..6 {
        assert!(stage.ask(bad, At::Decide).await.is_none());
        stage.failed().await;
    }
    assert!(matches!(stage.ask(bad, At::Nowhere).await, Some(Err(AskError::Quarantined))));
    assert_eq!(stage.ask(good, At::Nowhere).await.unwrap().unwrap(), 1);
}

/// How long a disk takes that is slow.
const SLOW_DISK: std::time::Duration = std::time::Duration::from_millis(400);

/// A journal that fails as told: it panics, loses the outcome of a commit, or is not there.
struct Trouble {
    inner: Arc<dyn Journal>,
    next: std::sync::Mutex<Option<Fault>>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Panic,
    LostAfterCommit,
    LostBeforeCommit,
    Unavailable,
    Slow,
}

#[async_trait]
impl Journal for Trouble {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<AppendOutcome>, StoreError> {
        let fault = self.next.lock().unwrap().take();
        match fault {
            Some(Fault::Panic) => panic!("told to fail in the writer"),
            Some(Fault::LostAfterCommit) => {
                self.inner.append(batch).await?;
                Err(StoreError::InDoubt("connection broke".to_owned()))
            }
            Some(Fault::LostBeforeCommit) => Err(StoreError::InDoubt("connection broke".to_owned())),
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW_DISK).await;
                self.inner.append(batch).await
            }
            Some(Fault::Unavailable) => Err(StoreError::Unavailable("gone".to_owned())),
            None => self.inner.append(batch).await,
        }
    }

    async fn facts(
        &self,
        entity: EntityRef,
        after: u64,
        limit: usize,
    ) -> Result<Vec<FactRecord>, StoreError> {
        self.inner.facts(entity, after, limit).await
    }

    async fn open_entities(
        &self,
        kind: crate::domain::record::EntityKind,
        shards: &[u16],
    ) -> Result<Vec<EntityRef>, StoreError> {
        self.inner.open_entities(kind, shards).await
    }

    async fn facts_of(&self, entities: &[EntityRef]) -> Result<Vec<FactRecord>, StoreError> {
        self.inner.facts_of(entities).await
    }

    async fn read_after(
        &self,
        position: u64,
        shards: &[u16],
        limit: usize,
    ) -> Result<Vec<Positioned>, StoreError> {
        self.inner.read_after(position, shards, limit).await
    }

    async fn last_position(&self) -> Result<u64, StoreError> {
        self.inner.last_position().await
    }

    async fn resolve(&self, reference: &ProviderRef) -> Result<Option<EntityRef>, StoreError> {
        self.inner.resolve(reference).await
    }

    async fn cursors(&self, reader: &str) -> Result<Vec<(u16, u64)>, StoreError> {
        self.inner.cursors(reader).await
    }

    async fn move_cursors(&self, reader: &str, cursors: &[(u16, u64)]) -> Result<(), StoreError> {
        self.inner.move_cursors(reader, cursors).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.inner.inspect().await
    }
}

#[tokio::test]
async fn the_writer_and_the_store_may_fail_and_facts_stay_whole() {
    let stores = memory().await;
    let trouble = Arc::new(Trouble { inner: stores.journal.clone(), next: std::sync::Mutex::new(None) });
    let mut stage = Stage::set(Stores { journal: trouble.clone(), ..stores }).await;
    let id = entity("one");
    assert_eq!(stage.ask(id, At::Nowhere).await.unwrap().unwrap(), 1);
    let fail = |fault| *trouble.next.lock().unwrap() = Some(fault);

    fail(Fault::Unavailable);
    assert!(
        matches!(stage.ask(id, At::Nowhere).await, Some(Err(AskError::Store(_)))),
        "told, and nothing happened"
    );
    assert_eq!(stage.ask(id, At::Nowhere).await.unwrap().unwrap(), 2);

    fail(Fault::LostAfterCommit);
    assert_eq!(stage.ask(id, At::Nowhere).await.unwrap().unwrap(), 3, "read back, found, acknowledged");

    fail(Fault::LostBeforeCommit);
    let answer = stage.ask(id, At::Nowhere).await;
    assert!(!matches!(answer, Some(Ok(_))), "not found, so not acknowledged: {answer:?}");
    stage.failed().await;
    assert_eq!(stage.ask(id, At::Nowhere).await.unwrap().unwrap(), 4);

    fail(Fault::Panic);
    assert!(stage.ask(id, At::Nowhere).await.is_none(), "the writer died with it");
    stage.failed().await;
    assert_eq!(stage.ask(id, At::Nowhere).await.unwrap().unwrap(), 5, "a fresh writer goes on");
}

#[tokio::test]
async fn a_slow_disk_delays_turns_new_work_away_and_loses_nothing() {
    let stores = memory().await;
    let trouble = Arc::new(Trouble { inner: stores.journal.clone(), next: std::sync::Mutex::new(None) });
    let stage = Stage::set(Stores { journal: trouble.clone(), ..stores }).await;
    let writer = stage.engine.writer().clone();
    *trouble.next.lock().unwrap() = Some(Fault::Slow);
    let began = std::time::Instant::now();
    let appends = (0..80).map(|n| {
        let (writer, id) = (writer.clone(), entity(&format!("slow{n}")));
        let fact = FactRecord {
            id: crate::domain::id::FactId::fresh(),
            entity: id,
            seq: 1,
            at: Timestamp::default(),
            kind: "agent.ready".into(),
            body: serde_json::value::RawValue::from_string("1".to_owned()).unwrap(),
            cause: None,
        };
        let summary = Summary::Agent { open: false };
        let append = Append { entity: id, after_seq: 0, facts: vec![fact], summary, refs: Vec::new() };
        tokio::spawn(async move { writer.append(append).await })
    });
    let appends: Vec<_> = appends.collect();
    tokio::time::sleep(SLOW_DISK / 2).await;
    assert!(writer.is_behind(), "{} wait", writer.pending());
    for append in appends {
        assert_eq!(append.await.unwrap().unwrap(), AppendOutcome::Stored);
    }
    assert!(began.elapsed() < SLOW_DISK * 3, "what gathered meanwhile went in few commits");
    assert!(!writer.is_behind());
}
