//! The connection to the broker: made when it is needed, made anew when it broke.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Error, ErrorKind};
use tokio::sync::Mutex;

use crate::store::error::StoreError;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long any answer of the broker may take.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the broker.
pub(super) struct Link {
    uri: AMQPUri,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let uri = url.parse().map_err(|why| StoreError::Refused(format!("bus URL: {why}")))?;
        Ok(Self { uri, connection: Mutex::default() })
    }

    /// A fresh channel.
    pub(super) async fn channel(&self) -> Result<Channel, StoreError> {
        let mut place = self.connection.lock().await;
        for _ in 0..2 {
            let connection = match place.take().filter(|known| known.status().connected()) {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            // A connection may turn out to be broken just now; then a fresh one is tried.
            if let Ok(channel) = answered(connection.create_channel()).await {
                *place = Some(connection);
                return Ok(channel);
            }
        }
        Err(StoreError::Unavailable("broker opens no channel".to_owned()))
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        let properties = ConnectionProperties::default().with_connection_name("eml".into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| translated(&error)),
            Err(_) => Err(StoreError::Unavailable("broker does not answer".to_owned())),
        }
    }
}

/// Waits for an answer of the broker, but not for ever: one that has no memory left says nothing.
pub(super) async fn answered<T>(question: impl Future<Output = lapin::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(|error| translated(&error)),
        Err(_) => Err(StoreError::Unavailable("broker does not answer".to_owned())),
    }
}

/// Translates an error of the broker or of the way to it.
pub(super) fn translated(error: &Error) -> StoreError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::ProtocolError(_) if text.contains("ACCESS") || text.contains("PRECONDITION") => {
            StoreError::Refused(text)
        }
        ErrorKind::InvalidProtocolVersion(_) => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}
