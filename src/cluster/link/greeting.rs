//! The first frames of a connection: each side names its run of a node and proves it.
//!
//! TLS has shown that both have certificates of the authority. The one who dialed says hello with its
//! token; the other checks it before it reads anything else, and answers with its own.

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::context::Living;
use super::frame::{self, FrameError, HEAD, Head, Kind};
use super::identity::{self, Identity};
use super::token::TokenError;
use crate::domain::node::NodeRef;

/// Version of the protocol. One that cannot be understood by older nodes gets another number.
pub(super) const VERSION: u32 = 1;
/// Most bytes of a greeting.
const LARGEST: usize = 4 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) token: String,
}

/// Why a connection is not taken up.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("no greeting")]
    NoGreeting,
    #[error("version {0} of the protocol is not known")]
    Version(u32),
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("the token of `{0}` came with the certificate of another node")]
    OtherCertificate(Box<str>),
    #[error("{0} is not in the node table")]
    UnknownRun(NodeRef),
    #[error("{found} answered in place of {expected}")]
    OtherRun { expected: NodeRef, found: NodeRef },
    #[error("rejected by the peer: {0}")]
    Rejected(Box<str>),
}

impl GreetingError {
    /// What the rejected side is told.
    fn word(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::Frame(_) | Self::NoGreeting | Self::Rejected(_) => "no greeting",
            Self::Version(_) => "version",
            Self::Token(_) => "token",
            Self::OtherCertificate(_) => "certificate",
            Self::UnknownRun(_) | Self::OtherRun { .. } => "not in the node table",
        }
    }
}

/// Greets the peer that was dialed, and checks that it is the run that was meant.
pub(super) async fn introduce<S>(
    stream: &mut S,
    identity: &Identity,
    peer: &NodeRef,
) -> Result<(), GreetingError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, Kind::Hello, &Hello { version: VERSION, token: identity.token()? }).await?;
    let (kind, body) = receive(stream).await?;
    if kind == Some(Kind::Rejected) {
        let why: Box<str> = serde_json::from_slice(&body).unwrap_or_else(|_| "no reason".into());
        return Err(GreetingError::Rejected(why.chars().take(100).collect()));
    }
    let found = identity.check_token(&read(kind, Kind::Welcome, &body)?.token)?;
    if found == *peer { Ok(()) } else { Err(GreetingError::OtherRun { expected: peer.clone(), found }) }
}

/// Hears who dialed. It must be who its certificate says, and live by the last view.
pub(super) async fn hear<S>(
    stream: &mut S,
    identity: &Identity,
    certificate: Option<&CertificateDer<'_>>,
    living: &Living,
) -> Result<NodeRef, GreetingError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (kind, body) = receive(stream).await?;
    match check(identity, certificate, living, (kind, &body)) {
        Ok(from) => {
            send(stream, Kind::Welcome, &Hello { version: VERSION, token: identity.token()? }).await?;
            Ok(from)
        }
        Err(error) => {
            // Whether it can be told or not, it is not let in.
            let _ = send(stream, Kind::Rejected, &error.word()).await;
            Err(error)
        }
    }
}

fn check(
    identity: &Identity,
    certificate: Option<&CertificateDer<'_>>,
    living: &Living,
    (kind, body): (Option<Kind>, &[u8]),
) -> Result<NodeRef, GreetingError> {
    let from = identity.check_token(&read(kind, Kind::Hello, body)?.token)?;
    if !certificate.is_some_and(|certificate| identity::is_for(certificate, &from.node)) {
        return Err(GreetingError::OtherCertificate(from.node));
    }
    if living(&from) { Ok(from) } else { Err(GreetingError::UnknownRun(from)) }
}

fn read(kind: Option<Kind>, expected: Kind, body: &[u8]) -> Result<Hello, GreetingError> {
    if kind != Some(expected) {
        return Err(GreetingError::NoGreeting);
    }
    let hello: Hello = serde_json::from_slice(body).map_err(|_| GreetingError::NoGreeting)?;
    if hello.version == VERSION { Ok(hello) } else { Err(GreetingError::Version(hello.version)) }
}

pub(super) async fn send<S>(stream: &mut S, kind: Kind, body: &impl Serialize) -> Result<(), GreetingError>
where
    S: AsyncWrite + Unpin,
{
    let body = serde_json::to_vec(body).map_err(std::io::Error::from)?;
    let mut out = bytes::BytesMut::new();
    frame::write(kind, 0, 0, &body, &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads exactly one frame, so that what follows stays for the connection.
pub(super) async fn receive<S>(stream: &mut S) -> Result<(Option<Kind>, Vec<u8>), GreetingError>
where
    S: AsyncRead + Unpin,
{
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let head = Head::read(&head)?;
    if head.body > LARGEST {
        return Err(GreetingError::NoGreeting);
    }
    let mut body = vec![0; head.body];
    stream.read_exact(&mut body).await?;
    Ok((head.kind, body))
}
