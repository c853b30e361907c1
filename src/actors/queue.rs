//! A queue: its index in memory, rebuilt from calls and sessions whenever it starts.
//!
//! Supervised by the root of the node that owns the queue's shard. It proposes; the agent session
//! reserves; the call is then offered. When it dies or moves, another is started, and every waiting
//! call and ready session announces itself. Until the calls that were waiting have done so nobody is
//! proposed, so that no place is lost.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::engine::Engine;
use super::gathering::{Gathering, PATIENCE};
use crate::domain::agent::{AgentCommand, Readiness, Reservation};
use crate::domain::call::{CallCommand, QueueEntry};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId};
use crate::domain::queue::{Admission, Proposal, QueueIndex, QueueSettings, Skills};
use crate::domain::time::{Millis, Timestamp};

/// How often a queue publishes its figures while they change.
const PUBLISH: Millis = Millis::from_secs(1);

/// What calls and sessions tell a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum QueueNote {
    /// A call wants to wait.
    Enter(Box<QueueEntry>),
    /// A call waits no longer.
    Leave {
        /// The call.
        call_id: CallId,
    },
    /// An agent's readiness changed.
    Agent {
        /// The agent.
        agent_id: AgentId,
        /// Its proficiency.
        skills: Skills,
        /// What the session announced; absent when the agent does not serve this queue any more.
        readiness: Option<Readiness>,
    },
}

/// What a queue is sent.
pub(super) enum QueueMessage {
    /// News of a call or a session.
    Note(QueueNote),
    /// Calls that waited when the queue was started anew.
    Expect(Vec<CallId>),
    /// A proposal came to nothing.
    Refused(OfferId),
    /// The configuration changed.
    Configure(QueueSettings),
    /// Some call may be content with less now, or figures are due.
    Clock,
}

/// The figures of a queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueStats {
    /// Calls that wait.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    #[schema(value_type = Option<u64>)]
    pub oldest_wait_ms: Option<Millis>,
    /// Agents who could take a call.
    pub agents_ready: u64,
    /// Proposals that were made and not yet taken up.
    pub offers_pending: u64,
}

/// The actor.
pub(super) struct Queue;

/// What it is started with.
pub(super) struct Args {
    pub(super) queue_id: QueueId,
    pub(super) settings: QueueSettings,
    pub(super) engine: Engine,
    /// Whether calls may be waiting already, which will be told by `Expect`.
    pub(super) gathers: bool,
}

/// What it holds.
pub(super) struct State {
    queue_id: QueueId,
    engine: Engine,
    index: QueueIndex,
    gathering: Gathering,
    clock_at: Option<Timestamp>,
}

impl Actor for Queue {
    type Msg = QueueMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<QueueMessage>, args: Args) -> Result<State, ActorProcessingErr> {
        let Args { queue_id, settings, engine, gathers } = args;
        me.send_interval(PUBLISH.duration(), || QueueMessage::Clock);
        let now = engine.clock().now();
        let gathering = if gathers { Gathering::begin(now) } else { Gathering::of_nobody(now) };
        Ok(State { queue_id, engine, index: QueueIndex::new(settings), gathering, clock_at: None })
    }

    async fn handle(
        &self,
        me: ActorRef<QueueMessage>,
        message: QueueMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.engine.clock().now();
        match message {
            QueueMessage::Note(note) => state.hear(note, now),
            QueueMessage::Expect(calls) => {
                state.expect(calls, now);
                me.send_after(PATIENCE.duration(), || QueueMessage::Clock);
            }
            QueueMessage::Refused(offer_id) => state.index.refused(offer_id, now),
            QueueMessage::Configure(settings) => state.index.configure(settings),
            QueueMessage::Clock => state.clock_at = None,
        }
        if state.gathering.is_over(now) {
            while let Some(proposal) = state.index.next_match(now) {
                state.propose(&me, proposal);
            }
        }
        state.wind(&me, now);
        state.publish(now);
        Ok(())
    }
}

impl State {
    fn hear(&mut self, note: QueueNote, now: Timestamp) {
        match note {
            QueueNote::Enter(entry) if self.gathering.came(entry.call_id, now) => {
                self.index.enter_again(*entry, now);
            }
            QueueNote::Enter(entry) => self.enter(*entry, now),
            QueueNote::Leave { call_id } => {
                self.gathering.came(call_id, now);
                self.index.leave(call_id);
            }
            QueueNote::Agent { agent_id, skills, readiness } => match readiness {
                Some(readiness) if readiness.ready => self.index.agent_ready(agent_id, &skills, readiness),
                Some(_) | None => self.index.agent_gone(agent_id),
            },
        }
    }

    fn expect(&mut self, calls: Vec<CallId>, now: Timestamp) {
        let missing = calls.into_iter().filter(|call_id| !self.index.holds(*call_id)).collect();
        self.gathering.expect(missing, now);
    }

    fn enter(&mut self, entry: QueueEntry, now: Timestamp) {
        let call_id = entry.call_id;
        if self.index.enter(entry, now) == Admission::Full {
            self.engine.tell_call(call_id, CallCommand::QueueFull { queue_id: self.queue_id });
        }
    }

    /// Asks the agent's session to reserve itself; it alone decides.
    fn propose(&self, me: &ActorRef<QueueMessage>, proposal: Proposal) {
        let Proposal { offer_id, entry, agent_id, reason } = proposal;
        let reservation =
            Reservation { offer_id, queue_id: self.queue_id, call: entry.brief, ring: entry.ring, reason };
        let (engine, me) = (self.engine.clone(), me.clone());
        self.engine.tracker().spawn(async move {
            let reserved = engine.agent(agent_id, AgentCommand::Reserve(Box::new(reservation))).await;
            if let Err(error) = reserved {
                tracing::debug!(agent.id = %agent_id, %error, "proposal came to nothing");
                let _ = me.cast(QueueMessage::Refused(offer_id));
            }
        });
    }

    /// Makes sure that the queue looks again when some call asks for less.
    fn wind(&mut self, me: &ActorRef<QueueMessage>, now: Timestamp) {
        let Some(at) = self.index.wake_at() else { return };
        if self.clock_at.is_none_or(|wound| at < wound) {
            self.clock_at = Some(at);
            me.send_after(at.since(now).duration(), || QueueMessage::Clock);
        }
    }

    fn publish(&self, now: Timestamp) {
        self.engine.show_queue(
            self.queue_id,
            QueueStats {
                waiting: self.index.waiting() as u64,
                oldest_wait_ms: self.index.oldest().map(|since| now.since(since)),
                agents_ready: self.index.ready() as u64,
                offers_pending: self.index.proposed() as u64,
            },
        );
    }
}
