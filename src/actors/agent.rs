//! What an agent session's actor does outside: sockets, calls, announcements to queues.

use std::sync::Arc;

use ractor::ActorProcessingErr;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::engine::Engine;
use super::entity::{Answer, EntityMessage, EntityState, Host};
use super::error::AskError;
use super::letter::{News, Request, Response};
use super::shard::ShardMessage;
use crate::domain::agent::{
    AgentCommand, AgentEffect, AgentRefusal, AgentReply, AgentSession, AgentSettings, AgentSnapshot,
    socket_event,
};
use crate::domain::event::untagged;
use crate::domain::id::{AgentId, CommandId, SocketId};
use crate::domain::node::NodeRef;
use crate::domain::record::{EntityRef, FactRecord};
use crate::domain::time::Timestamp;
use crate::seeded::{self, Bug};

/// One event of a session, as its sockets get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentEvent {
    /// Its number, without gaps.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Its type as the socket names it, as in `offer.created`.
    pub kind: Box<str>,
    /// What it tells.
    pub data: Box<RawValue>,
}

/// Opens a socket on a session.
pub(super) struct Attach {
    /// The socket.
    pub socket_id: SocketId,
    /// Where events go.
    pub sink: EventSink,
    /// The last event the client has, if it was here before.
    pub last_sequence: Option<u64>,
    /// The limits that apply.
    pub settings: AgentSettings,
    /// The answer.
    pub reply: oneshot::Sender<Result<Attached, AskError<AgentRefusal>>>,
}

/// Where the events of a socket go.
#[derive(Debug, Clone)]
pub(super) enum EventSink {
    /// To a socket of this node; bounded. When it is full the socket is given up.
    Here(mpsc::Sender<Arc<AgentEvent>>),
    /// To a socket of another node.
    At(NodeRef),
}

/// A socket was opened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attached {
    /// The session as it is after everything in `missed`.
    pub snapshot: AgentSnapshot,
    /// Whether `missed` is exactly what the client has not seen.
    pub resumed: bool,
    /// Events since the client's last one.
    pub missed: Vec<Arc<AgentEvent>>,
}

/// Messages about a session's sockets.
pub(super) enum SocketMessage {
    /// Open one.
    Attach(Box<Attach>),
    /// Forget one whose connection is gone.
    Detach(SocketId),
    /// Forget those that the state knows and nobody has, as after a restart.
    Check,
    /// A node is gone, and its sockets with it.
    NodeGone(NodeRef),
}

/// The sockets of a session.
#[derive(Default)]
pub(super) struct Sockets {
    open: Vec<(SocketId, EventSink)>,
}

impl Sockets {
    fn push(&mut self, event: &Arc<AgentEvent>, engine: &Engine) {
        // A socket that does not keep up is dropped: its client comes back and asks for what it missed.
        self.open.retain(|(socket_id, sink)| {
            match sink {
                EventSink::Here(outbox) => match outbox.try_send(event.clone()) {
                    Ok(()) => true,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        engine.give_up(*socket_id);
                        false
                    }
                    // The connection has ended and will say so.
                    Err(mpsc::error::TrySendError::Closed(_)) => false,
                },
                EventSink::At(node) => engine.push_event(node, *socket_id, event),
            }
        });
    }

    /// Another channel for a socket replaces the one before.
    fn open(&mut self, socket_id: SocketId, sink: EventSink) {
        self.close(socket_id);
        self.open.push((socket_id, sink));
    }

    fn close(&mut self, socket_id: SocketId) {
        self.open.retain(|(open, _)| *open != socket_id);
    }
}

impl AgentEvent {
    fn of(record: &FactRecord) -> Self {
        Self {
            sequence: record.seq,
            time: record.at,
            kind: socket_event(&record.kind).into(),
            data: untagged(&record.body),
        }
    }
}

impl Host for AgentSession {
    type Side = Sockets;
    type SideMessage = SocketMessage;

    fn side() -> Sockets {
        Sockets::default()
    }

    fn for_shard(id: EntityRef, message: EntityMessage<Self>) -> ShardMessage {
        ShardMessage::Agent(id, message)
    }

    fn request(id: EntityRef, cause: CommandId, command: &AgentCommand) -> Request {
        Request::Agent { id: AgentId::from_uuid(id.id), cause, command: Box::new(command.clone()) }
    }

    fn told(response: Response) -> Option<Answer<Self>> {
        match response {
            Response::Agent(told) => Some(told.into_answer()),
            Response::Call(_) | Response::Attach(_) | Response::Taken | Response::Elsewhere => None,
        }
    }

    fn news(id: EntityRef, command: AgentCommand) -> News {
        News::Agent(AgentId::from_uuid(id.id), Box::new(command))
    }

    /// A reservation is known by its offer; everything else is answered with how things stand.
    fn repeated(&self, command: &AgentCommand) -> Option<AgentReply> {
        match command {
            AgentCommand::Reserve(_) => None,
            AgentCommand::Connect { .. }
            | AgentCommand::Disconnect { .. }
            | AgentCommand::ForgetSockets
            | AgentCommand::Configure { .. }
            | AgentCommand::SetActivity(_)
            | AgentCommand::Accept { .. }
            | AgentCommand::Reject { .. }
            | AgentCommand::Engage { .. }
            | AgentCommand::FromCall { .. }
            | AgentCommand::Inquire { .. }
            | AgentCommand::CompleteWrapUp { .. }
            | AgentCommand::ExtendWrapUp { .. }
            | AgentCommand::ForceRelease
            | AgentCommand::Announce
            | AgentCommand::Tick
            | AgentCommand::Show => Some(AgentReply::Done(Box::new(self.snapshot()))),
        }
    }

    fn perform(effect: AgentEffect, id: EntityRef, engine: &Engine) {
        let agent_id = AgentId::from_uuid(id.id);
        match effect {
            AgentEffect::TellCall { call_id, command } => engine.tell_call(call_id, *command),
            AgentEffect::Announce(readiness) => engine.announce(agent_id, readiness),
            AgentEffect::ForgetSockets => engine.check_sockets(agent_id),
        }
    }

    fn committed(&self, sockets: &mut Sockets, facts: &[FactRecord], engine: &Engine) {
        for fact in facts {
            engine.metrics().agent_fact(&fact.kind);
            if !sockets.open.is_empty() {
                sockets.push(&Arc::new(AgentEvent::of(fact)), engine);
            }
        }
        engine.show_agent(self);
    }

    async fn side_message(
        actor: &mut EntityState<Self>,
        message: SocketMessage,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SocketMessage::Attach(attach) => {
                let Attach { socket_id, sink, last_sequence, settings, reply } = *attach;
                match actor.step(AgentCommand::Connect { socket_id, settings }, None).await? {
                    Ok(_) => {
                        let attached = actor.catch_up(last_sequence).await;
                        let is_open = attached.is_ok();
                        if reply.send(attached).is_ok() && is_open {
                            actor.side.open(socket_id, sink);
                        } else {
                            let _ = actor.step(AgentCommand::Disconnect { socket_id }, None).await?;
                        }
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            SocketMessage::Check => actor.forget_lost_sockets().await?,
            SocketMessage::NodeGone(node) => {
                let gone = |sink: &EventSink| matches!(sink, EventSink::At(at) if *at == node);
                actor.side.open.retain(|(_, sink)| !gone(sink));
                actor.forget_lost_sockets().await?;
            }
            SocketMessage::Detach(socket_id) => {
                actor.side.close(socket_id);
                let _ = actor.step(AgentCommand::Disconnect { socket_id }, None).await?;
            }
        }
        Ok(())
    }
}

impl EntityState<AgentSession> {
    async fn forget_lost_sockets(&mut self) -> Result<(), ActorProcessingErr> {
        let known = self.machine().await.map(|session| session.sockets.clone()).unwrap_or_default();
        for socket_id in known {
            if !self.side.open.iter().any(|(open, _)| *open == socket_id) {
                let _ = self.step(AgentCommand::Disconnect { socket_id }, None).await?;
            }
        }
        Ok(())
    }

    /// What a client missed, or a fresh snapshot when that is too much or unknown.
    async fn catch_up(&mut self, last_sequence: Option<u64>) -> Result<Attached, AskError<AgentRefusal>> {
        let snapshot = self.machine().await.map_err(AskError::Store)?.snapshot();
        let (current, limit) = (snapshot.sequence, self.engine().settings().replay_events as u64);
        let Some(last) = last_sequence.filter(|last| *last <= current && current - last <= limit) else {
            return Ok(Attached { snapshot, resumed: false, missed: Vec::new() });
        };
        if seeded::has(Bug::SkipSequence) {
            return Ok(Attached { snapshot, resumed: true, missed: Vec::new() });
        }
        let count = usize::try_from(current - last).unwrap_or(usize::MAX);
        let journal = self.engine().stores().journal.clone();
        let facts = journal.facts(self.id(), last, count).await.map_err(AskError::Store)?;
        let missed = facts.iter().map(|fact| Arc::new(AgentEvent::of(fact))).collect();
        Ok(Attached { snapshot, resumed: true, missed })
    }
}
