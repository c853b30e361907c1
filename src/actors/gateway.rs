//! What other nodes ask of this one. Few and small: each request is handed to the shard it is for.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::agent::EventSink;
use super::engine::Engine;
use super::entity::Answer;
use super::error::AskError;
use super::letter::{Letter, News, Push, Request, Response, Told};
use super::routing::Route;
use crate::cluster::link::{Inbound, LinkRefusal, Living};
use crate::domain::agent::AgentSession;
use crate::domain::call::Call;
use crate::domain::node::NodeRef;

/// The ear of this node.
pub(super) struct Gateway {
    pub(super) engine: Engine,
}

/// The ear of a node, and how it knows who may speak to it: living nodes of the last view.
#[must_use]
pub fn gateway(engine: &Engine) -> (Arc<dyn Inbound>, Living) {
    let known = engine.clone();
    let living = move |node: &NodeRef| {
        known.cluster().is_some_and(|cluster| cluster.peers().iter().any(|peer| peer == node))
    };
    (Arc::new(Gateway { engine: engine.clone() }), Arc::new(living))
}

#[async_trait]
impl Inbound for Gateway {
    async fn ask(&self, from: NodeRef, body: Box<RawValue>) -> Result<Box<RawValue>, LinkRefusal> {
        let request: Request = serde_json::from_str(body.get()).map_err(|error| {
            tracing::error!(%from, %error, "a node asked something that cannot be read");
            LinkRefusal::Malformed
        })?;
        let response = Box::pin(self.answer(from, request)).await;
        serde_json::value::to_raw_value(&response)
            .map_err(|error| LinkRefusal::Other(error.to_string().into()))
    }

    fn push(&self, from: NodeRef, body: Box<RawValue>) {
        match serde_json::from_str(body.get()) {
            Ok(Push::Event { socket_id, event }) => self.engine.event_came(socket_id, &from, event),
            Ok(Push::Behind { socket_id }) => self.engine.forget_socket(socket_id),
            Ok(Push::Standing { queues, agents }) => self.engine.hear_standing(queues, agents),
            Err(error) => tracing::error!(%from, %error, "a node told something that cannot be read"),
        }
    }

    fn lost(&self, peer: NodeRef) {
        self.engine.forget_sockets_at(&peer);
    }
}

impl Gateway {
    async fn answer(&self, from: NodeRef, request: Request) -> Response {
        let engine = &self.engine;
        match request {
            Request::Call { id, cause, command } => {
                let answer = engine.answer_here::<Call>(id.into(), *command, cause).await;
                answer.map_or(Response::Elsewhere, |answer| Response::Call(Told::of(answer)))
            }
            Request::Agent { id, cause, command } => {
                let answer = engine.answer_here::<AgentSession>(id.into(), *command, cause).await;
                answer.map_or(Response::Elsewhere, |answer| Response::Agent(Told::of(answer)))
            }
            Request::Attach { agent_id, socket_id, last_sequence, settings } => {
                let sink = EventSink::At(from);
                let attached = engine.attach_here(agent_id, (socket_id, sink), last_sequence, settings).await;
                attached.map_or(Response::Elsewhere, |attached| Response::Attach(Told::of(attached)))
            }
            Request::Letters { letters } => self.take(letters).await,
        }
    }

    /// Takes letters in order; they count as taken once what they cause is durable.
    async fn take(&self, letters: Vec<Letter>) -> Response {
        let engine = &self.engine;
        let Some(shard) = letters.first().map(Letter::shard) else { return Response::Taken };
        if !matches!(engine.route(shard), Route::Here) {
            return Response::Elsewhere;
        }
        let taken = letters.into_iter().map(|Letter { cause, news }| async move {
            match news {
                News::Call(id, command) => {
                    is_settled::<Call>(engine.answer_here::<Call>(id.into(), *command, cause).await)
                }
                News::Agent(id, command) => is_settled::<AgentSession>(
                    engine.answer_here::<AgentSession>(id.into(), *command, cause).await,
                ),
                news @ (News::Queue(..) | News::SocketGone(..)) => {
                    engine.hand_over(Letter { cause, news });
                    true
                }
            }
        });
        if join_all(taken).await.into_iter().all(|taken| taken) {
            Response::Taken
        } else {
            Response::Elsewhere
        }
    }
}

/// Whether telling it again would change nothing.
fn is_settled<H: super::entity::Host>(answer: Option<Answer<H>>) -> bool {
    match answer {
        Some(Ok(_) | Err(AskError::Refused(_) | AskError::Quarantined)) => true,
        Some(Err(AskError::Store(error))) => !error.is_transient(),
        Some(Err(AskError::Overloaded | AskError::Unavailable)) | None => false,
    }
}
