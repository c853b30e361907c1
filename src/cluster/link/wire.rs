//! How a connection to a peer is made: by TCP and TLS, or within the process.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::greeting::{self, GreetingError};
use super::identity::{self, Identity};
use super::settings::LinkSettings;
use super::transport::Peer;

/// Both directions of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection of either kind.
pub(super) type BoxedStream = Box<dyn Stream>;

/// Makes connections to peers that are who they should be.
#[async_trait]
pub(super) trait Wire: Send + Sync + 'static {
    /// Connects to a peer and greets it.
    async fn dial(&self, peer: &Peer) -> Result<BoxedStream, DialError>;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The host is up, and nothing listens there.
    #[error("connection refused")]
    Refused,
    #[error("no connection in time")]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Greeting(#[from] GreetingError),
    #[error("node name `{0}` is no name of a peer")]
    Name(Box<str>),
}

/// TCP with TLS.
pub(super) struct TlsWire {
    pub(super) identity: Arc<Identity>,
    pub(super) settings: LinkSettings,
}

#[async_trait]
impl Wire for TlsWire {
    async fn dial(&self, peer: &Peer) -> Result<BoxedStream, DialError> {
        let name = identity::server_name(&peer.at.node).map_err(|_| DialError::Name(peer.at.node.clone()))?;
        let socket = timeout(self.settings.dial_timeout, connect(&peer.address))
            .await
            .map_err(|_| DialError::TimedOut)??;
        socket.set_nodelay(true)?;
        let handshake = async {
            let mut stream = TlsConnector::from(self.identity.client()).connect(name, socket).await?;
            greeting::introduce(&mut stream, &self.identity, &peer.at).await?;
            Ok(stream)
        };
        let greeted: Result<_, DialError> =
            timeout(self.settings.handshake_timeout, handshake).await.map_err(|_| DialError::TimedOut)?;
        Ok(Box::new(greeted?))
    }
}

/// Connects to the first address that answers. Refused only if each of them refused: one that is silent
/// may be a node that lives.
async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let mut failed = None;
    for address in lookup_host(address).await? {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or(DialError::Refused, DialError::Io))
}
