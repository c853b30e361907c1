//! What the layers above see of the transport.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::domain::node::NodeRef;

/// A node that may be dialed, as its row in the node table tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which run of which node.
    pub at: NodeRef,
    /// Where it listens, as `host:port`.
    pub address: Box<str>,
}

/// Carries questions and news to the peers.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Asks a peer and waits for its answer, `deadline` at the longest.
    ///
    /// # Errors
    /// [`LinkError`] tells whether the peer can have seen the question. An ask that is dropped is
    /// forgotten; the peer may have seen it.
    async fn ask(
        &self,
        to: &NodeRef,
        body: Box<RawValue>,
        deadline: Duration,
    ) -> Result<Box<RawValue>, LinkError>;

    /// Queues news for a peer and returns at once. News arrives in the order of the calls, unless the
    /// connection breaks: then some of it is lost, and [`Inbound::lost`] says so on both sides.
    ///
    /// # Errors
    /// [`LinkError::Gone`] when no connection is up, [`LinkError::Full`] when the queue is,
    /// [`LinkError::TooLarge`].
    fn push(&self, to: &NodeRef, body: Box<RawValue>) -> Result<(), LinkError>;

    /// States whom to keep connections to. Those to others are closed, and so are those from runs
    /// which the view no longer knows. The node itself and peers without an address are left out.
    fn set_peers(&self, peers: &[Peer]);

    /// Names of peers whose connection broke and whose host then refused a new one: their process is
    /// gone. Told at each refused try; a receiver that does not keep up misses some.
    fn refused(&self) -> mpsc::Receiver<NodeRef>;
}

/// Takes what peers ask and tell. Whom it is from was checked by certificate and token.
#[async_trait]
pub trait Inbound: Send + Sync + 'static {
    /// Answers a question. It is dropped when the asker's deadline ends.
    ///
    /// # Errors
    /// The reason that the asker is given.
    async fn ask(&self, from: NodeRef, body: Box<RawValue>) -> Result<Box<RawValue>, LinkRefusal>;

    /// Takes news, in order per peer. It must not block: the connection waits for it.
    fn push(&self, from: NodeRef, body: Box<RawValue>);

    /// News from or to this peer may have been lost: a connection to it or from it broke, or something
    /// unreadable came. Said after the last news of that connection, before the first of the next.
    fn lost(&self, peer: NodeRef);
}

/// Why an ask has no answer, or news were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection to the peer, or it broke.
    #[error("the peer is not connected")]
    Gone {
        /// The peer certainly has not seen it.
        sure: bool,
    },
    /// The deadline ended without an answer; the peer may have seen it.
    #[error("no answer in time")]
    Timeout,
    /// Too much is under way to this peer; it has not seen it.
    #[error("too much is under way to this peer")]
    Full,
    /// The peer said no.
    #[error("the peer refused: {0}")]
    Refused(LinkRefusal),
    /// The body is larger than a frame may be; nothing was sent.
    #[error("a body of {bytes} bytes is more than the {limit} of a frame")]
    TooLarge {
        /// Size of the body.
        bytes: usize,
        /// The most that is permitted.
        limit: usize,
    },
}

impl LinkError {
    /// Whether the peer certainly has not acted on it, so that it may be sent elsewhere.
    #[must_use]
    pub const fn is_surely_undone(&self) -> bool {
        match self {
            Self::Gone { sure } => *sure,
            Self::Full | Self::TooLarge { .. } => true,
            Self::Timeout => false,
            Self::Refused(why) => match why {
                LinkRefusal::Busy | LinkRefusal::Malformed => true,
                LinkRefusal::TooLarge | LinkRefusal::Other(_) => false,
            },
        }
    }
}

/// Why a peer does not answer a question that reached it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LinkRefusal {
    /// It answers too many at this moment, and has not looked at this one.
    #[error("busy")]
    Busy,
    /// The question or its answer is larger than a frame may be.
    #[error("too large")]
    TooLarge,
    /// The question is no JSON; it was not looked at.
    #[error("malformed")]
    Malformed,
    /// A reason of the layer above.
    #[error("{0}")]
    Other(Box<str>),
}
