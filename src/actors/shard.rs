//! A shard: the supervisor of its entities, and the keeper of their deadlines.
//!
//! Supervised by the root. When it dies its entities die with it; the root starts it again and it
//! takes up every open entity of its part from the journal.

use std::collections::{BTreeSet, HashMap};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::agent::SocketMessage;
use super::engine::Engine;
use super::entity::{EntityMessage, Host as _};
use super::letter::Letter;
use super::nest::{AfterFailure, Nest};
use crate::domain::agent::AgentSession;
use crate::domain::call::Call;
use crate::domain::id::AgentId;
use crate::domain::node::NodeRef;
use crate::domain::record::{EntityKind, EntityRef, FactRecord};
use crate::domain::time::{Millis, Timestamp};

/// How often a shard looks for children that may leave memory.
const SWEEP: Millis = Millis::from_secs(1);
/// Longest sleep of the deadline clock, so that a changed wall clock is noticed.
const LONGEST_SLEEP: Millis = Millis::from_secs(60);

/// What a shard is sent.
pub(super) enum ShardMessage {
    /// For a call.
    Call(EntityRef, EntityMessage<Call>),
    /// For an agent session.
    Agent(EntityRef, EntityMessage<AgentSession>),
    /// From one of its children.
    Note(Bookkeeping),
    /// A deadline may have come.
    Clock,
    /// Look for children that may leave memory.
    Sweep,
    /// Take up these entities; with their facts, where those were read already.
    Resume(Vec<(EntityRef, Option<Vec<FactRecord>>)>),
    /// A node is gone, and its sockets with it.
    NodeGone(NodeRef),
    /// The shard moves to another node: let all children finish, say so, and end.
    Close(oneshot::Sender<()>),
}

/// What children tell their shard.
pub(super) enum Bookkeeping {
    /// When to wake an entity, whether or not it is in memory then.
    Arm {
        /// The entity.
        id: EntityRef,
        /// When; never when absent.
        at: Option<Timestamp>,
    },
    /// A child may leave memory.
    Park {
        /// The entity.
        id: EntityRef,
        /// The actor that says so.
        actor: ActorId,
        /// How many messages it has handled.
        handled: u64,
    },
    /// A child's thing is over; it need not stay long.
    Final {
        /// The entity.
        id: EntityRef,
    },
}

/// The way to a shard, for its children.
#[derive(Clone)]
pub(super) struct ShardRef(ActorRef<ShardMessage>);

impl ShardRef {
    pub(super) const fn new(shard: ActorRef<ShardMessage>) -> Self {
        Self(shard)
    }

    pub(super) fn note(&self, note: Bookkeeping) {
        let _ = self.0.cast(ShardMessage::Note(note));
    }
}

/// The actor.
pub(super) struct Shard;

/// What it is started with.
pub(super) struct Args {
    pub(super) number: u16,
    pub(super) engine: Engine,
    /// Whether to take up every open entity, because an earlier shard of this number failed.
    pub(super) takes_up: bool,
}

/// What it holds.
pub(super) struct State {
    number: u16,
    engine: Engine,
    calls: Nest<Call>,
    agents: Nest<AgentSession>,
    deadlines: BTreeSet<(Timestamp, EntityRef)>,
    deadline_of: HashMap<EntityRef, Timestamp>,
    clock_at: Option<Timestamp>,
    /// Who waits for the end, once the shard is closed.
    closing: Option<oneshot::Sender<()>>,
}

impl Actor for Shard {
    type Msg = ShardMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<ShardMessage>, args: Args) -> Result<State, ActorProcessingErr> {
        let Args { number, engine, takes_up } = args;
        me.send_after(SWEEP.duration(), || ShardMessage::Sweep);
        if takes_up {
            let engine = engine.clone();
            engine.tracker().clone().spawn(async move { engine.resume_shards(&[number]).await });
        }
        Ok(State {
            number,
            engine,
            calls: Nest::default(),
            agents: Nest::default(),
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            clock_at: None,
            closing: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if state.closing.is_some() {
            state.turn_away(message);
            return Ok(());
        }
        match message {
            ShardMessage::Call(id, message) => {
                let shard = ShardRef::new(me.clone());
                state.calls.deliver(id, message, (&shard, me.get_cell()), &state.engine).await;
            }
            ShardMessage::Agent(id, message) => {
                let shard = ShardRef::new(me.clone());
                state.agents.deliver(id, message, (&shard, me.get_cell()), &state.engine).await;
            }
            ShardMessage::Note(Bookkeeping::Arm { id, at }) => state.arm(id, at, &me),
            ShardMessage::Note(Bookkeeping::Park { id, actor, handled }) => state.park(id, actor, handled),
            ShardMessage::Note(Bookkeeping::Final { id }) => state.calls.set_final(id),
            ShardMessage::Clock => state.ring(&me),
            ShardMessage::Sweep => {
                state.sweep();
                me.send_after(SWEEP.duration(), || ShardMessage::Sweep);
            }
            ShardMessage::Resume(entities) => {
                for (id, facts) in entities {
                    State::resume(&me, id, facts);
                }
            }
            ShardMessage::NodeGone(node) => {
                state.agents.tell_all(|| EntityMessage::Side(SocketMessage::NodeGone(node.clone())));
            }
            ShardMessage::Close(reply) => {
                state.closing = Some(reply);
                state.calls.dismiss();
                state.agents.dismiss();
                state.end_when_empty(&me);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<ShardMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
            SupervisionEvent::ActorTerminated(actor, _, _) => {
                state.calls.ended(actor.get_id(), &state.engine);
                state.agents.ended(actor.get_id(), &state.engine);
                state.end_when_empty(&me);
            }
            SupervisionEvent::ActorFailed(actor, why) => {
                tracing::error!(shard = state.number, %why, "actor failed");
                state.child_failed(actor.get_id(), &me);
                state.end_when_empty(&me);
            }
        }
        Ok(())
    }
}

impl State {
    fn wake(me: &ActorRef<ShardMessage>, id: EntityRef) {
        let _ = me.cast(match id.kind {
            EntityKind::Call => ShardMessage::Call(id, EntityMessage::Wake),
            EntityKind::Agent => ShardMessage::Agent(id, EntityMessage::Wake),
        });
    }

    fn resume(me: &ActorRef<ShardMessage>, id: EntityRef, facts: Option<Vec<FactRecord>>) {
        let _ = me.cast(match id.kind {
            EntityKind::Call => ShardMessage::Call(id, EntityMessage::Resume(facts)),
            EntityKind::Agent => ShardMessage::Agent(id, EntityMessage::Resume(facts)),
        });
    }

    /// The shard is closed: news goes where the shard goes, questions are asked again there.
    fn turn_away(&self, message: ShardMessage) {
        match message {
            ShardMessage::Call(id, EntityMessage::Tell { command, cause }) => {
                self.engine.post(Letter { cause, news: Call::news(id, command) });
            }
            ShardMessage::Agent(id, EntityMessage::Tell { command, cause }) => {
                self.engine.post(Letter { cause, news: AgentSession::news(id, command) });
            }
            ShardMessage::Agent(id, EntityMessage::Side(SocketMessage::Detach(socket_id))) => {
                self.engine.detach(AgentId::from_uuid(id.id), socket_id);
            }
            ShardMessage::Close(reply) => {
                let _ = reply.send(());
            }
            ShardMessage::Call(..)
            | ShardMessage::Agent(..)
            | ShardMessage::Note(_)
            | ShardMessage::Clock
            | ShardMessage::Sweep
            | ShardMessage::Resume(_)
            | ShardMessage::NodeGone(_) => {}
        }
    }

    fn end_when_empty(&mut self, me: &ActorRef<ShardMessage>) {
        if self.calls.len() + self.agents.len() > 0 {
            return;
        }
        if let Some(reply) = self.closing.take() {
            let _ = reply.send(());
            // Whoever waits may count on nothing being written here any more; late messages find the
            // shard closed until it is gone.
            let (closed, _) = oneshot::channel();
            self.closing = Some(closed);
            me.stop(None);
        }
    }

    fn child_failed(&mut self, actor: ActorId, me: &ActorRef<ShardMessage>) {
        let after = match self.calls.failed(actor, &self.engine) {
            AfterFailure::NotMine => self.agents.failed(actor, &self.engine),
            found @ AfterFailure::StartAt(..) => found,
        };
        if let (AfterFailure::StartAt(id, at), None) = (after, &self.closing) {
            let delay = at.since(self.engine.clock().now());
            let me = me.clone();
            if delay == Millis(0) {
                Self::resume(&me, id, None);
            } else {
                self.engine.tracker().spawn(async move {
                    tokio::time::sleep(delay.duration()).await;
                    Self::resume(&me, id, None);
                });
            }
        }
    }

    fn arm(&mut self, id: EntityRef, at: Option<Timestamp>, me: &ActorRef<ShardMessage>) {
        if let Some(before) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(before, id));
        }
        if let Some(at) = at {
            self.deadline_of.insert(id, at);
            self.deadlines.insert((at, id));
        }
        self.wind(me);
    }

    /// Makes sure that the clock rings at the first deadline.
    fn wind(&mut self, me: &ActorRef<ShardMessage>) {
        let Some((first, _)) = self.deadlines.first() else { return };
        let now = self.engine.clock().now();
        if self.clock_at.is_some_and(|at| at <= *first && at > now) {
            return;
        }
        let sleep = Millis(first.since(now).0.min(LONGEST_SLEEP.0));
        self.clock_at = Some(now + sleep);
        me.send_after(sleep.duration(), || ShardMessage::Clock);
    }

    fn ring(&mut self, me: &ActorRef<ShardMessage>) {
        let now = self.engine.clock().now();
        self.clock_at = None;
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            self.deadline_of.remove(&id);
            Self::wake(me, id);
        }
        self.wind(me);
    }

    fn sweep(&mut self) {
        let (now, idle) = (self.engine.clock().now(), self.engine.settings().park_after);
        self.calls.sweep(now, idle);
        self.agents.sweep(now, idle);
        let alive = self.calls.len() + self.agents.len();
        tracing::trace!(shard = self.number, alive, "swept");
    }

    fn park(&mut self, id: EntityRef, actor: ActorId, handled: u64) {
        match id.kind {
            EntityKind::Call => self.calls.park(id, actor, handled, &self.engine),
            EntityKind::Agent => self.agents.park(id, actor, handled, &self.engine),
        }
    }
}
