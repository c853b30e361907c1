//! What errors of the client and the server mean to those who use the cache.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::error::StoreError;

/// Translates an error. Whatever the server says of itself (full, loading, read only, not for this
/// user) may be otherwise later; only a counter that is none stays so.
pub(super) fn from(error: &RedisError) -> StoreError {
    if is_no_counter(error) {
        return StoreError::Refused("the key does not hold a counter".to_owned());
    }
    if error.kind() == ErrorKind::InvalidClientConfig {
        return StoreError::Refused(error.to_string());
    }
    StoreError::Unavailable(error.to_string())
}

/// Whether the connection stays as it is after this error. After others it is replaced: the client
/// itself only reconnects when the connection breaks, not when it could not be set up.
pub(super) fn leaves_connection(error: &RedisError) -> bool {
    is_no_counter(error) || error.is_connection_dropped()
}

/// The server has no code of its own for it.
fn is_no_counter(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.detail().is_some_and(|detail| detail.contains("not an integer"))
}
