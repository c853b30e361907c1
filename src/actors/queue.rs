//! A queue: its index in memory, rebuilt from calls and sessions whenever it starts.
//!
//! Supervised by the root. It proposes; the agent session reserves; the call is then offered. When
//! it dies the root starts it again and every waiting call and ready session announces itself.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Serialize;
use utoipa::ToSchema;

use super::engine::Engine;
use crate::domain::agent::{AgentCommand, Readiness, Reservation};
use crate::domain::call::{CallCommand, QueueEntry};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId};
use crate::domain::queue::{Admission, Proposal, QueueIndex, QueueSettings, Skills};
use crate::domain::time::{Millis, Timestamp};

/// How often a queue publishes its figures while they change.
const PUBLISH: Millis = Millis::from_secs(1);

/// What a queue is sent.
pub(super) enum QueueMessage {
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
    /// A proposal came to nothing.
    Refused(OfferId),
    /// The configuration changed.
    Configure(QueueSettings),
    /// Some call may be content with less now, or figures are due.
    Clock,
}

/// The figures of a queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
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
}

/// What it holds.
pub(super) struct State {
    queue_id: QueueId,
    engine: Engine,
    index: QueueIndex,
    clock_at: Option<Timestamp>,
}

impl Actor for Queue {
    type Msg = QueueMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<QueueMessage>, args: Args) -> Result<State, ActorProcessingErr> {
        let Args { queue_id, settings, engine } = args;
        me.send_interval(PUBLISH.duration(), || QueueMessage::Clock);
        Ok(State { queue_id, engine, index: QueueIndex::new(settings), clock_at: None })
    }

    async fn handle(
        &self,
        me: ActorRef<QueueMessage>,
        message: QueueMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.engine.clock().now();
        match message {
            QueueMessage::Enter(entry) => state.enter(*entry, now),
            QueueMessage::Leave { call_id } => {
                state.index.leave(call_id);
            }
            QueueMessage::Agent { agent_id, skills, readiness } => match readiness {
                Some(readiness) if readiness.ready => state.index.agent_ready(agent_id, &skills, readiness),
                Some(_) | None => state.index.agent_gone(agent_id),
            },
            QueueMessage::Refused(offer_id) => state.index.refused(offer_id, now),
            QueueMessage::Configure(settings) => state.index.configure(settings),
            QueueMessage::Clock => state.clock_at = None,
        }
        while let Some(proposal) = state.index.next_match(now) {
            state.propose(&me, proposal);
        }
        state.wind(&me, now);
        state.publish(now);
        Ok(())
    }
}

impl State {
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
