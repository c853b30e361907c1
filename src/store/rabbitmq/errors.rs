//! What the broker and the way to it can say, in the words of all stores.

use std::time::Duration;

use lapin::ErrorKind;
use tokio::time::timeout;

use crate::store::error::StoreError;

/// Replies that trying again does not change: access refused, another declaration of the same name,
/// virtual host not allowed or not there.
const REFUSALS: [u16; 3] = [403, 406, 530];

/// How long one step of the protocol may take. The broker confirms in order, so that a batch of any
/// size makes a step far more often than that.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// An error before anything was done.
pub(super) fn from(error: &lapin::Error) -> StoreError {
    if let ErrorKind::ProtocolError(reply) = error.kind()
        && REFUSALS.contains(&reply.get_id())
    {
        return StoreError::Refused(format!("broker: {}", reply.get_message()));
    }
    StoreError::Unavailable(format!("broker: {error}"))
}

/// An error after which nobody knows what the broker has done.
pub(super) fn in_doubt(error: &lapin::Error) -> StoreError {
    let known = from(error);
    if known.is_transient() { StoreError::InDoubt(format!("broker: {error}")) } else { known }
}

/// Waits for one step of the protocol.
pub(super) async fn step<T>(work: impl Future<Output = lapin::Result<T>> + Send) -> Result<T, StoreError> {
    match timeout(STEP_LIMIT, work).await {
        Ok(result) => result.map_err(|error| from(&error)),
        Err(_) => Err(StoreError::Unavailable("broker does not answer".to_owned())),
    }
}

/// Waits for one step of the protocol that changes what the broker keeps.
pub(super) async fn commit<T>(work: impl Future<Output = lapin::Result<T>> + Send) -> Result<T, StoreError> {
    match timeout(STEP_LIMIT, work).await {
        Ok(result) => result.map_err(|error| in_doubt(&error)),
        Err(_) => Err(StoreError::InDoubt("broker does not answer".to_owned())),
    }
}
