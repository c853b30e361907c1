//! Finding the actor that a question or a piece of news is for, on this node or another.
//!
//! A question carries an id and is asked again under the same one, after a new look at who owns the
//! shard, until it is answered or its time is up: nothing is refused because a shard moves.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::agent::{AgentEvent, Attach, Attached, EventSink, SocketMessage};
use super::engine::Engine;
use super::entity::{Answer, EntityMessage, Host};
use super::error::AskError;
use super::letter::{Letter, News, Request, Response};
use super::queue::QueueNote;
use super::shard::ShardMessage;
use crate::cluster::link::{LinkError, LinkRefusal};
use crate::domain::agent::{AgentCommand, AgentRefusal, AgentReply, AgentSession, AgentSettings};
use crate::domain::call::{Call, CallCommand, CallRefusal, CallReply};
use crate::domain::id::{AgentId, CallId, CommandId, QueueId, SocketId};
use crate::domain::node::NodeRef;
use crate::domain::placement::shard_of;
use crate::domain::record::EntityRef;
use crate::seeded::{self, Bug};
use crate::store::StoreError;

/// How long a question to an actor may take, its commit and a take-over included. Providers wait
/// this long for the answer to a webhook.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a question is asked again when its actor failed while answering. Questions are
/// idempotent, so asking twice does not do a thing twice.
const ASK_TRIES: u32 = 3;
/// Longest pause before asking again; a change of the owners ends it.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Where a shard is.
pub(super) enum Route {
    /// On this node, and started.
    Here,
    /// On another one.
    There(Arc<NodeRef>),
    /// On its way.
    Nowhere,
}

/// Why a try did not lead to an answer.
enum Miss {
    /// The actor failed while answering.
    Failed,
    /// The shard was not where it was looked for.
    Moved,
}

impl Engine {
    /// Asks a call.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn call(&self, id: CallId, command: CallCommand) -> Result<CallReply, AskError<CallRefusal>> {
        self.ask::<Call>(id.into(), command).await
    }

    /// Asks an agent session.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn agent(
        &self,
        id: AgentId,
        command: AgentCommand,
    ) -> Result<AgentReply, AskError<AgentRefusal>> {
        let answer = self.ask::<AgentSession>(id.into(), command).await;
        if let Ok(AgentReply::Done(snapshot)) = &answer
            && !self.owns(shard_of(id.into()))
        {
            self.note_far_session(id, (**snapshot).clone());
        }
        answer
    }

    async fn ask<H: Host>(&self, id: EntityRef, command: H::Command) -> Answer<H> {
        let is_reused = seeded::has(Bug::ReuseCommandId);
        let cause = if is_reused { CommandId::from_uuid(uuid::Uuid::nil()) } else { CommandId::fresh() };
        let until = Instant::now() + ASK_TIMEOUT;
        let mut failures = 0;
        loop {
            let tried = match self.route(shard_of(id)) {
                Route::Here => self.ask_here::<H>(id, command.clone(), cause, until).await,
                Route::There(node) => {
                    self.ask_there::<H>(&node, H::request(id, cause, &command), until).await
                }
                Route::Nowhere => Err(Miss::Moved),
            };
            match tried {
                Ok(answer) => return answer,
                Err(Miss::Failed) => failures += 1,
                Err(Miss::Moved) => {}
            }
            if failures == ASK_TRIES || Instant::now() >= until {
                return Err(AskError::Unavailable);
            }
            self.owners_changed(ASK_AGAIN).await;
        }
    }

    /// Asks an actor of this node.
    async fn ask_here<H: Host>(
        &self,
        id: EntityRef,
        command: H::Command,
        cause: CommandId,
        until: Instant,
    ) -> Result<Answer<H>, Miss> {
        let (reply, answer) = oneshot::channel();
        if !self.send(shard_of(id), H::for_shard(id, EntityMessage::Ask { command, cause, reply })) {
            return Err(Miss::Moved);
        }
        match timeout_at(until, answer).await {
            // The shard is another's already, who can answer.
            Ok(Ok(Err(AskError::Store(StoreError::Fenced(_))))) => Err(Miss::Moved),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) if matches!(self.route(shard_of(id)), Route::Here) => Err(Miss::Failed),
            Ok(Err(_)) => Err(Miss::Moved),
            Err(_) => Ok(Err(AskError::Unavailable)),
        }
    }

    /// The same for another node, once.
    pub(super) async fn answer_here<H: Host>(
        &self,
        id: EntityRef,
        command: H::Command,
        cause: CommandId,
    ) -> Option<Answer<H>> {
        self.ask_here::<H>(id, command, cause, Instant::now() + ASK_TIMEOUT).await.ok()
    }

    async fn ask_there<H: Host>(
        &self,
        node: &NodeRef,
        request: Request,
        until: Instant,
    ) -> Result<Answer<H>, Miss> {
        match self.ask_node(node, &request, until).await {
            Some(response) => H::told(response).ok_or(Miss::Moved),
            None => Err(Miss::Moved),
        }
    }

    /// Asks another node; `None` when it did not answer, or the thing is elsewhere.
    pub(super) async fn ask_node(
        &self,
        node: &NodeRef,
        request: &Request,
        until: Instant,
    ) -> Option<Response> {
        let cluster = self.cluster()?;
        let body = seeded::dressed(serde_json::value::to_raw_value(request).ok()?);
        let left = until.saturating_duration_since(Instant::now());
        match cluster.transport()?.ask(node, body, left).await {
            Ok(answer) => match serde_json::from_str(answer.get()) {
                Ok(Response::Elsewhere) => None,
                Ok(response) => Some(response),
                Err(error) => {
                    tracing::error!(%node, %error, "a node gave an answer that cannot be read");
                    None
                }
            },
            Err(error) => {
                tracing::debug!(%node, %error, "a node did not answer");
                None
            }
        }
    }

    /// Tells a call something without waiting.
    pub fn tell_call(&self, id: CallId, command: CallCommand) {
        self.tell(News::Call(id, Box::new(command)));
    }

    /// Tells an agent session something without waiting.
    pub fn tell_agent(&self, id: AgentId, command: AgentCommand) {
        self.tell(News::Agent(id, Box::new(command)));
    }

    pub(super) fn tell_queue(&self, id: QueueId, note: QueueNote) {
        self.tell(News::Queue(id, Box::new(note)));
    }

    /// Closes a socket on an agent session.
    pub fn detach(&self, agent_id: AgentId, socket_id: SocketId) {
        self.forget_socket(socket_id);
        let _ = self.gave_up(socket_id);
        self.tell(News::SocketGone(agent_id, socket_id));
    }

    fn tell(&self, news: News) {
        self.post(Letter::of(news));
    }

    /// Brings a letter to its reader, wherever that is.
    pub(super) fn post(&self, letter: Letter) {
        if matches!(self.route(letter.shard()), Route::Here) {
            self.hand_over(letter);
        } else {
            self.inner().post.send(self, letter);
        }
    }

    /// Gives a letter to its reader on this node; back by the post when the reader just left.
    pub(super) fn hand_over(&self, letter: Letter) {
        let (shard, cause) = (letter.shard(), letter.cause);
        let message = match letter.news {
            News::Call(id, command) => {
                ShardMessage::Call(id.into(), EntityMessage::Tell { command: *command, cause })
            }
            News::Agent(id, command) => {
                ShardMessage::Agent(id.into(), EntityMessage::Tell { command: *command, cause })
            }
            News::SocketGone(id, socket_id) => {
                ShardMessage::Agent(id.into(), EntityMessage::Side(SocketMessage::Detach(socket_id)))
            }
            News::Queue(id, note) => return self.hand_to_queue(id, *note),
        };
        self.send(shard, message);
    }

    fn hand_to_queue(&self, id: QueueId, note: QueueNote) {
        if let Some(queue) = self.inner().queues.get(&id) {
            let _ = queue.cast(super::queue::QueueMessage::Note(note));
        } else {
            tracing::warn!(queue.id = %id, "no such queue");
        }
    }

    /// Where a shard is now.
    pub(super) fn route(&self, shard: u16) -> Route {
        let is_started = || {
            let shards = self.inner().shards.read().unwrap_or_else(PoisonError::into_inner);
            shards.get(usize::from(shard)).is_some_and(Option::is_some)
        };
        let Some(cluster) = self.cluster() else { return Route::Here };
        match cluster.owners.owner(shard) {
            Some(owner) if *owner == cluster.me => {
                if is_started() {
                    Route::Here
                } else {
                    Route::Nowhere
                }
            }
            Some(owner) => Route::There(owner),
            None => Route::Nowhere,
        }
    }

    /// Waits until owners of shards changed, or for this long.
    pub(super) async fn owners_changed(&self, longest: Duration) {
        match self.cluster() {
            Some(cluster) => {
                let mut changes = cluster.owners.changes();
                let _ = timeout(longest, changes.changed()).await;
            }
            None => tokio::time::sleep(longest).await,
        }
    }

    /// Sends to a shard of this node; answers whether it is here.
    pub(super) fn send(&self, shard: u16, message: ShardMessage) -> bool {
        let shards = self.inner().shards.read().unwrap_or_else(PoisonError::into_inner);
        match shards.get(usize::from(shard)) {
            Some(Some(shard)) => shard.cast(message).is_ok(),
            Some(None) | None => false,
        }
    }

    /// Opens a socket on an agent session, wherever that is. Events come through `outbox`; when it is
    /// closed the session has moved or given the socket up, and it must be opened again behind the
    /// last event that came.
    ///
    /// # Errors
    /// See `AskError`.
    pub async fn attach(
        &self,
        agent_id: AgentId,
        socket_id: SocketId,
        outbox: mpsc::Sender<Arc<AgentEvent>>,
        last_sequence: Option<u64>,
    ) -> Result<Attached, AskError<AgentRefusal>> {
        let settings = self.agent_settings(agent_id).ok_or(AskError::Refused(AgentRefusal::NotReady))?;
        let until = Instant::now() + ASK_TIMEOUT;
        loop {
            let tried = match self.route(shard_of(agent_id.into())) {
                Route::Here => {
                    let sink = EventSink::Here(outbox.clone());
                    self.attach_here(agent_id, (socket_id, sink), last_sequence, settings.clone()).await
                }
                Route::There(node) => {
                    self.keep_socket(socket_id, agent_id, (*node).clone(), outbox.clone());
                    let settings = settings.clone();
                    let request = Request::Attach { agent_id, socket_id, last_sequence, settings };
                    match self.ask_node(&node, &request, until).await {
                        Some(Response::Attach(told)) => Some(told.into_answer()),
                        Some(
                            Response::Call(_) | Response::Agent(_) | Response::Taken | Response::Elsewhere,
                        )
                        | None => None,
                    }
                }
                Route::Nowhere => None,
            };
            match tried {
                Some(Ok(attached)) => {
                    self.expect_events(socket_id, attached.snapshot.sequence);
                    return Ok(attached);
                }
                Some(Err(error)) => {
                    self.forget_socket(socket_id);
                    return Err(error);
                }
                None if Instant::now() >= until => {
                    self.forget_socket(socket_id);
                    return Err(AskError::Unavailable);
                }
                None => self.owners_changed(ASK_AGAIN).await,
            }
        }
    }

    /// Opens a socket on a session of this node; `None` when the session left meanwhile.
    pub(super) async fn attach_here(
        &self,
        agent_id: AgentId,
        (socket_id, sink): (SocketId, EventSink),
        last_sequence: Option<u64>,
        settings: AgentSettings,
    ) -> Option<Result<Attached, AskError<AgentRefusal>>> {
        let (reply, answer) = oneshot::channel();
        let attach = Box::new(Attach { socket_id, sink, last_sequence, settings, reply });
        let id = EntityRef::from(agent_id);
        let message = EntityMessage::Side(SocketMessage::Attach(attach));
        if !self.send(shard_of(id), ShardMessage::Agent(id, message)) {
            return None;
        }
        timeout(ASK_TIMEOUT, answer).await.ok()?.ok()
    }

    /// Tells another node something that may be lost.
    ///
    /// # Errors
    /// When it is not connected or does not keep up.
    pub(super) fn push(&self, node: &NodeRef, push: &super::letter::Push) -> Result<(), LinkError> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        let body: Box<RawValue> =
            serde_json::value::to_raw_value(push).map_err(|_| LinkError::Refused(LinkRefusal::Malformed))?;
        cluster.transport().ok_or(LinkError::Gone { sure: true })?.push(node, body)
    }
}
