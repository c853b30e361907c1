//! What travels between the actors of different nodes. Bodies are JSON; a node ignores fields that
//! it does not know, so that nodes of two versions understand each other during an upgrade.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::agent::{AgentEvent, Attached};
use super::error::AskError;
use super::queue::{QueueNote, QueueStats};
use crate::domain::agent::{AgentCommand, AgentRefusal, AgentReply, AgentSettings, AgentSnapshot};
use crate::domain::call::{CallCommand, CallRefusal, CallReply};
use crate::domain::id::{AgentId, CallId, CommandId, QueueId, SocketId};
use crate::domain::placement::shard_of_id;
use crate::store::StoreError;

/// News for one thing, whose answer nobody needs. It is told until it was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// For a call.
    Call(CallId, Box<CallCommand>),
    /// For an agent session.
    Agent(AgentId, Box<AgentCommand>),
    /// For a queue.
    Queue(QueueId, Box<QueueNote>),
    /// For an agent session: a socket is gone.
    SocketGone(AgentId, SocketId),
}

/// News with the id by which a repetition is noticed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Which telling this is.
    pub(super) cause: CommandId,
    /// What is told.
    pub(super) news: News,
}

impl Letter {
    pub(super) fn of(news: News) -> Self {
        Self { cause: CommandId::fresh(), news }
    }

    /// The shard of the thing it is for.
    pub(super) fn shard(&self) -> u16 {
        let id: Uuid = match &self.news {
            News::Call(id, _) => id.uuid(),
            News::Agent(id, _) | News::SocketGone(id, _) => id.uuid(),
            News::Queue(id, _) => id.uuid(),
        };
        shard_of_id(id)
    }
}

/// What a node asks another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// A question to a call.
    Call { id: CallId, cause: CommandId, command: Box<CallCommand> },
    /// A question to an agent session.
    Agent { id: AgentId, cause: CommandId, command: Box<AgentCommand> },
    /// Open a socket of the asking node on a session.
    Attach { agent_id: AgentId, socket_id: SocketId, last_sequence: Option<u64>, settings: AgentSettings },
    /// News for things of one shard, in order.
    Letters { letters: Vec<Letter> },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Response {
    /// What the call says.
    Call(Told<CallReply, CallRefusal>),
    /// What the session says.
    Agent(Told<AgentReply, AgentRefusal>),
    /// The socket is open, or not.
    Attach(Told<Attached, AgentRefusal>),
    /// It was taken.
    Taken,
    /// The thing is not here.
    Elsewhere,
}

/// An answer that can travel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told<T, R> {
    /// As wished.
    Done(T),
    /// The machine refuses.
    Refused(R),
    /// The facts could not be stored.
    Unstored {
        /// Whether trying again may help.
        transient: bool,
        /// Why.
        why: String,
    },
    /// Too much waits to be stored.
    Overloaded,
    /// The actor failed too often.
    Quarantined,
    /// No answer in time.
    Unavailable,
}

impl<T, R: std::error::Error> Told<T, R> {
    pub(super) fn of(answer: Result<T, AskError<R>>) -> Self {
        match answer {
            Ok(reply) => Self::Done(reply),
            Err(AskError::Refused(refusal)) => Self::Refused(refusal),
            Err(AskError::Store(error)) => {
                Self::Unstored { transient: error.is_transient(), why: error.to_string() }
            }
            Err(AskError::Overloaded) => Self::Overloaded,
            Err(AskError::Quarantined) => Self::Quarantined,
            Err(AskError::Unavailable) => Self::Unavailable,
        }
    }

    pub(super) fn into_answer(self) -> Result<T, AskError<R>> {
        match self {
            Self::Done(reply) => Ok(reply),
            Self::Refused(refusal) => Err(AskError::Refused(refusal)),
            Self::Unstored { transient: true, why } => Err(AskError::Store(StoreError::Unavailable(why))),
            Self::Unstored { transient: false, why } => Err(AskError::Store(StoreError::Refused(why))),
            Self::Overloaded => Err(AskError::Overloaded),
            Self::Quarantined => Err(AskError::Quarantined),
            Self::Unavailable => Err(AskError::Unavailable),
        }
    }
}

/// What a node tells another without an answer. What is lost here is noticed by other means.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Push {
    /// An event for a socket of the other node.
    Event { socket_id: SocketId, event: Arc<AgentEvent> },
    /// Events for this socket were dropped: its client must be caught up.
    Behind { socket_id: SocketId },
    /// How queues and sessions of the telling node stand.
    Standing { queues: Vec<(QueueId, QueueStats)>, agents: Vec<(AgentId, AgentSnapshot)> },
}
