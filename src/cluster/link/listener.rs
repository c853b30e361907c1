//! Takes in the connections that peers dial.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::Admission;
use super::context::Context;
use super::counters::add;
use super::greeting::{self, GreetingError};
use super::identity::Identity;
use crate::domain::node::NodeRef;

/// Pause when the system gives no connections, as when it is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket that peers dial.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) identity: Arc<Identity>,
    pub(super) context: Arc<Context>,
    pub(super) admission: Arc<Admission>,
}

/// Accepts until the end. Each handshake is a task of its own; when too many are under way, a new
/// connection is closed at once.
pub(super) async fn serve(listener: Listener) {
    let listener = Arc::new(listener);
    let context = &listener.context;
    let places = Arc::new(Semaphore::new(context.settings.unauthenticated));
    while let Some(accepted) = context.stop.run_until_cancelled(listener.socket.accept()).await {
        match accepted {
            Ok((socket, address)) => {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    context.spawn(take_in(Arc::clone(&listener), socket, address, place));
                } else {
                    add(&context.counters.crowded, 1);
                    complain(context, address, "too many connections that have not said who they are");
                }
            }
            Err(error) => {
                complain(context, ([0, 0, 0, 0], 0).into(), &error.to_string());
                sleep(PAUSE).await;
            }
        }
    }
}

async fn take_in(
    listener: Arc<Listener>,
    socket: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let context = &listener.context;
    let greeting = timeout(context.settings.handshake_timeout, greet(&listener, socket));
    let greeted = context.stop.run_until_cancelled(greeting).await;
    drop(place);
    let why = match greeted {
        Some(Ok(Ok((from, stream)))) => return listener.admission.admit(from, Box::new(stream)).await,
        Some(Ok(Err(error))) => error.to_string(),
        Some(Err(_)) => "no greeting in time".to_owned(),
        None => return,
    };
    add(&context.counters.rejected, 1);
    complain(context, address, &why);
}

async fn greet(
    listener: &Listener,
    socket: TcpStream,
) -> Result<(NodeRef, TlsStream<TcpStream>), GreetingError> {
    socket.set_nodelay(true)?;
    let identity = &listener.identity;
    let mut stream = TlsAcceptor::from(identity.server()).accept(socket).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| leaf.clone().into_owned());
    let from = greeting::hear(&mut stream, identity, certificate.as_ref(), &listener.context.living).await?;
    Ok((from, stream))
}

/// Logs once a minute per host.
fn complain(context: &Context, address: SocketAddr, why: &str) {
    let host = address.ip().to_string();
    if context.complaints.is_due(&host) {
        tracing::warn!(net.peer = %host, why, "connection of a peer is not taken in");
    }
}
