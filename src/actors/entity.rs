//! The one actor that runs every machine: load, decide, append, apply, perform.
//!
//! Supervised by its shard. It may die at any point: what it acknowledged is in the journal, and
//! the shard starts it again from there. Machines differ in their domain module and in their
//! `Host`, which carries out their effects.

use std::marker::PhantomData;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::engine::Engine;
use super::error::AskError;
use super::fold::{Fold, Inbox};
use super::letter::{Letter, News, Request, Response};
use super::shard::{Bookkeeping, ShardMessage, ShardRef};
use crate::domain::id::{CommandId, FactId};
use crate::domain::machine::{Decision, Machine};
use crate::domain::record::{EntityRef, FactRecord, Summary};
use crate::domain::time::{Millis, Timestamp};
use crate::seeded::{self, Bug};
use crate::store::StoreError;
use crate::store::journal::{Append, AppendOutcome};

/// Facts that one read takes from the journal.
const PAGE: usize = 512;
/// A tick that changed nothing is repeated after this time.
const RETRY: Millis = Millis::from_secs(15);
/// News that could not be stored is tried again after this time.
const STORE_RETRY: Millis = Millis(250);

/// What a machine needs around it to live as an actor.
pub(super) trait Host:
    Machine<
        Command: Serialize + DeserializeOwned + Sync,
        Reply: Serialize + DeserializeOwned,
        Refusal: Serialize + DeserializeOwned,
    >
{
    /// Things of this process that belong to the machine but are not its state: open sockets.
    type Side: Send + 'static;
    /// Messages about those.
    type SideMessage: Send + 'static;

    /// The side of a machine that was just started.
    fn side() -> Self::Side;

    /// A message on its way to the shard of its machine.
    fn for_shard(id: EntityRef, message: EntityMessage<Self>) -> ShardMessage;

    /// A question as another node is asked it.
    fn request(id: EntityRef, cause: CommandId, command: &Self::Command) -> Request;

    /// Another node's answer to it; `None` when that is no answer to such a question.
    fn told(response: Response) -> Option<Answer<Self>>;

    /// A command as news that may travel.
    fn news(id: EntityRef, command: Self::Command) -> News;

    /// The answer to a command that was carried out before; `None` when it shall be decided again.
    fn repeated(&self, command: &Self::Command) -> Option<Self::Reply>;

    /// Carries out one effect. Must not wait: slow work is spawned and comes back as a message.
    fn perform(effect: Self::Effect, id: EntityRef, engine: &Engine);

    /// The facts are durable and applied.
    fn committed(&self, side: &mut Self::Side, facts: &[FactRecord], engine: &Engine);

    /// Takes a message about the side.
    fn side_message(
        actor: &mut EntityState<Self>,
        message: Self::SideMessage,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send;
}

/// The answer to a question.
pub(super) type Answer<H> = Result<<H as Machine>::Reply, AskError<<H as Machine>::Refusal>>;

/// What an entity actor is sent.
pub(super) enum EntityMessage<H: Host> {
    /// A command whose answer somebody waits for.
    Ask {
        /// The command.
        command: H::Command,
        /// Which question it is, however often it is asked.
        cause: CommandId,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer<H>>,
    },
    /// A command whose answer nobody needs; it is repeated until it is stored.
    Tell {
        /// The command.
        command: H::Command,
        /// Which telling it is.
        cause: CommandId,
    },
    /// The deadline may have come.
    Wake,
    /// Load, and take up again what was under way. Its facts, if they were read already.
    Resume(Option<Vec<FactRecord>>),
    /// The shard moves to another node: finish, and end.
    Leave,
    /// A message about the side.
    Side(H::SideMessage),
    /// The shard wants to know whether the actor may leave memory.
    MayPark,
}

/// The actor.
pub(super) struct EntityActor<H>(PhantomData<fn() -> H>);

impl<H> Default for EntityActor<H> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// What it is started with.
pub(super) struct Args {
    pub(super) id: EntityRef,
    pub(super) shard: ShardRef,
    pub(super) engine: Engine,
}

/// What it holds.
pub(super) struct EntityState<H: Host> {
    id: EntityRef,
    shard: ShardRef,
    engine: Engine,
    /// The machine; absent until the journal could be read.
    machine: Option<H>,
    seq: u64,
    /// The side of the machine.
    pub(super) side: H::Side,
    /// The questions that led to its last facts.
    inbox: Inbox,
    armed: Option<Timestamp>,
    /// Whether it was taken up from the journal by a node that had not had it before.
    is_taken_up: bool,
    /// A deadline whose tick changed nothing, and when it is tried again.
    idle_tick: Option<(Timestamp, Timestamp)>,
    handled: u64,
}

impl<H: Host> Actor for EntityActor<H> {
    type Msg = EntityMessage<H>;
    // Boxed: the runtime's future would hold room for it several times otherwise.
    type State = Box<EntityState<H>>;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _me: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<Self::State, ActorProcessingErr> {
        let Args { id, shard, engine } = args;
        Ok(Box::new(EntityState {
            id,
            shard,
            engine,
            machine: None,
            seq: 0,
            side: H::side(),
            inbox: Inbox::default(),
            armed: None,
            is_taken_up: false,
            idle_tick: None,
            handled: 0,
        }))
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.handled += 1;
        // Boxed: an idle actor would hold room for the largest step otherwise, for all its life.
        Box::pin(state.take(me, message)).await
    }
}

impl<H: Host> EntityState<H> {
    async fn take(
        &mut self,
        me: ActorRef<EntityMessage<H>>,
        message: EntityMessage<H>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EntityMessage::Ask { command, cause, reply } => {
                let answer = self.step(command, Some(cause)).await?;
                let _ = reply.send(answer);
            }
            EntityMessage::Tell { command, cause } => self.hear(command, cause).await?,
            EntityMessage::Wake => self.wake().await?,
            EntityMessage::Resume(facts) => self.resume(&me, facts).await,
            EntityMessage::Leave => me.stop(None),
            EntityMessage::Side(message) => H::side_message(self, message).await?,
            EntityMessage::MayPark => self.offer_to_park(&me),
        }
        Ok(())
    }

    /// The engine it lives in.
    #[must_use]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its id.
    #[must_use]
    pub(super) fn id(&self) -> EntityRef {
        self.id
    }

    /// The machine, read from the journal at first use.
    async fn load(&mut self) -> Result<(), StoreError> {
        if self.machine.is_some() {
            return Ok(());
        }
        let mut fold = Fold::of(self.id);
        loop {
            let page = self.engine.stores().journal.facts(self.id, fold.seq, PAGE).await?;
            let is_last = page.len() < PAGE;
            fold.take(page)?;
            if is_last {
                break;
            }
        }
        self.settle(fold);
        Ok(())
    }

    fn settle(&mut self, fold: Fold<H>) {
        self.seq = fold.seq;
        self.inbox = fold.inbox;
        self.machine = Some(fold.machine);
    }

    /// The machine as it stands after its facts.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(super) async fn machine(&mut self) -> Result<&H, StoreError> {
        self.load().await?;
        self.machine.as_ref().ok_or(StoreError::Unavailable(String::new()))
    }

    /// One step: decide, append, apply, perform. A question that was carried out before is answered
    /// again, not carried out again.
    ///
    /// # Errors
    /// When the actor must start again from the journal: somebody else wrote its entity, or it is
    /// not known whether its facts were stored.
    pub(super) async fn step(
        &mut self,
        command: H::Command,
        cause: Option<CommandId>,
    ) -> Result<Answer<H>, ActorProcessingErr> {
        if let Err(error) = self.load().await {
            return Ok(Err(AskError::Store(error)));
        }
        let Some(machine) = &mut self.machine else { return Ok(Err(AskError::Unavailable)) };
        if cause.is_some_and(|cause| self.inbox.knows(cause))
            && let Some(reply) = machine.repeated(&command)
        {
            return Ok(Ok(reply));
        }
        let now = self.engine.clock().now();
        let Decision { facts, effects, reply } = match machine.decide(command, now) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(AskError::Refused(refusal))),
        };
        if !facts.is_empty() {
            match self.store(facts, cause, now).await {
                Ok(()) => {}
                Err(Unstored::Refused(error)) => return Ok(Err(AskError::Store(error))),
                Err(Unstored::Unknown(why)) => return Err(why.into()),
            }
        }
        for effect in effects {
            H::perform(effect, self.id, &self.engine);
        }
        self.arm();
        if self.machine.as_ref().is_some_and(Machine::is_final) {
            self.shard.note(Bookkeeping::Final { id: self.id });
        }
        Ok(Ok(reply))
    }

    async fn store(
        &mut self,
        facts: Vec<H::Fact>,
        cause: Option<CommandId>,
        now: Timestamp,
    ) -> Result<(), Unstored> {
        let records = self
            .record(&facts, cause, now)
            .map_err(|error| Unstored::Refused(StoreError::Refused(error.to_string())))?;
        // The summary after the facts is stored with them, so they are applied first. When they were
        // not stored the machine is thrown away and read from the journal at its next use.
        let Some(mut after) = self.machine.take() else { return Ok(()) };
        let (known_summary, known_refs) = (after.summary(), after.provider_refs());
        for fact in &facts {
            after.apply(fact, now);
        }
        let mut summary = after.summary();
        if self.seq > 0 && summary == known_summary {
            summary = Summary::Unchanged { open: summary.is_open() };
        }
        let mut refs = after.provider_refs();
        refs.retain(|name| !known_refs.contains(name));
        let append = Append { entity: self.id, after_seq: self.seq, facts: records.clone(), summary, refs };
        match self.engine.writer().append(append).await {
            Ok(AppendOutcome::Stored) => {}
            Ok(AppendOutcome::Conflict { found_seq }) => {
                return Err(Unstored::Unknown(format!(
                    "{} was written by somebody else up to {found_seq}",
                    self.id
                )));
            }
            Err(StoreError::InDoubt(why)) => return Err(Unstored::Unknown(why)),
            Err(error) => return Err(Unstored::Refused(error)),
        }
        self.seq += records.len() as u64;
        self.inbox.note(cause);
        after.committed(&mut self.side, &records, &self.engine);
        self.machine = Some(after);
        Ok(())
    }

    fn record(
        &self,
        facts: &[H::Fact],
        cause: Option<CommandId>,
        now: Timestamp,
    ) -> Result<Vec<FactRecord>, serde_json::Error> {
        let numbered = facts.iter().zip(self.seq + 1..);
        numbered
            .map(|(fact, seq)| {
                Ok(FactRecord {
                    id: FactId::fresh(),
                    entity: self.id,
                    seq,
                    at: now,
                    kind: H::event_type(fact).into(),
                    body: seeded::dressed(serde_json::value::to_raw_value(fact)?),
                    cause,
                })
            })
            .collect()
    }

    /// Tells the shard when to wake this machine, if that changed.
    fn arm(&mut self) {
        if self.is_taken_up && seeded::has(Bug::ForgetDeadlines) {
            return;
        }
        let wanted = self.machine.as_ref().and_then(Machine::deadline);
        let at = match (wanted, self.idle_tick) {
            (Some(wanted), Some((tried, again))) if wanted == tried => Some(again),
            (wanted, _) => wanted,
        };
        if at != self.armed {
            self.armed = at;
            self.shard.note(Bookkeeping::Arm { id: self.id, at });
        }
    }

    /// News that cannot be stored now is not lost: it is told again, here or wherever the entity is
    /// by then.
    async fn hear(&mut self, command: H::Command, cause: CommandId) -> Result<(), ActorProcessingErr> {
        let again = command.clone();
        match self.step(command, Some(cause)).await? {
            Ok(_) => {}
            Err(AskError::Refused(refusal)) => {
                tracing::debug!(entity = %self.id, %refusal, "news was not taken");
            }
            Err(AskError::Store(error)) if error.is_transient() => {
                let (engine, id) = (self.engine.clone(), self.id);
                engine.tracker().clone().spawn(async move {
                    tokio::time::sleep(STORE_RETRY.duration()).await;
                    engine.post(Letter { cause, news: H::news(id, again) });
                });
            }
            Err(error) => tracing::error!(entity = %self.id, %error, "news was lost"),
        }
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), ActorProcessingErr> {
        self.armed = None;
        self.hear(H::tick(), CommandId::fresh()).await?;
        let now = self.engine.clock().now();
        let due = self.machine.as_ref().and_then(Machine::deadline).filter(|at| *at <= now);
        self.idle_tick = due.map(|tried| (tried, now + RETRY));
        self.arm();
        Ok(())
    }

    async fn resume(&mut self, me: &ActorRef<EntityMessage<H>>, facts: Option<Vec<FactRecord>>) {
        let loaded = match facts {
            Some(facts) if self.machine.is_none() => {
                let mut fold = Fold::of(self.id);
                fold.take(facts).map(|()| self.settle(fold))
            }
            Some(_) | None => self.load().await,
        };
        if let Err(error) = loaded {
            tracing::warn!(entity = %self.id, %error, "cannot be loaded yet");
            me.send_after(STORE_RETRY.duration(), || EntityMessage::Resume(None));
            return;
        }
        let Some(machine) = &self.machine else { return };
        machine.committed(&mut self.side, &[], &self.engine);
        for effect in machine.resume(self.engine.clock().now()) {
            H::perform(effect, self.id, &self.engine);
        }
        self.armed = None;
        self.is_taken_up = true;
        self.arm();
    }

    /// The shard takes the actor out of memory if no message came in the meantime.
    fn offer_to_park(&self, me: &ActorRef<EntityMessage<H>>) {
        if self.machine.as_ref().is_none_or(Machine::may_park) {
            self.shard.note(Bookkeeping::Park { id: self.id, actor: me.get_id(), handled: self.handled });
        }
    }
}

/// Why facts were not stored.
enum Unstored {
    /// Nothing was stored; the machine is as before.
    Refused(StoreError),
    /// Nobody knows; the actor must read the journal.
    Unknown(String),
}
