//! One connection that all requests share, set up when first used and again when it breaks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, RedisError};

use super::errors;
use crate::store::error::StoreError;

/// How long a command may take, with setting up the connection where that is needed.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Further tries to connect within one request; the next request tries again.
const RETRIES: usize = 2;
/// Pause before the second try.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Commands that may wait to be sent.
const WAITING: usize = 1024;

/// The way to the server.
pub(super) struct Connection {
    client: Client,
    current: Mutex<Current>,
}

/// The connection in use and how many there were before it.
#[derive(Clone)]
struct Current {
    number: u64,
    manager: ConnectionManager,
}

/// Whether a command is sent once more when the connection breaks under it, not knowing whether it
/// was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice does no harm.
    Allowed,
    /// The second answer would mean something else.
    Never,
}

impl Connection {
    /// Prepares a connection; it is made by the first command. Needs a tokio runtime.
    pub(super) fn new(client: Client) -> Result<Self, StoreError> {
        let manager = manager(&client).map_err(|error| errors::from(&error))?;
        Ok(Self { client, current: Mutex::new(Current { number: 0, manager }) })
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        command: &Cmd,
        repeat: Repeat,
    ) -> Result<T, StoreError> {
        let Current { number, mut manager } = self.current().clone();
        let answer = async {
            match command.query_async(&mut manager).await {
                Err(error) if repeat == Repeat::Allowed && error.is_connection_dropped() => {
                    command.query_async(&mut manager).await
                }
                answer => answer,
            }
        };
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if !errors::leaves_connection(&error) {
                    self.replace(number);
                }
                Err(errors::from(&error))
            }
            // A network that swallows packets looks like a slow server; a new connection tells.
            Err(_) => {
                self.replace(number);
                Err(StoreError::Unavailable(format!("no answer within {} ms", ANSWER_WITHIN.as_millis())))
            }
        }
    }

    /// Replaces the connection, unless another request has done so since.
    fn replace(&self, number: u64) {
        let mut current = self.current();
        if current.number == number
            && let Ok(manager) = manager(&self.client)
        {
            *current = Current { number: number + 1, manager };
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn manager(client: &Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN))
        .set_number_of_retries(RETRIES)
        .set_min_delay(FIRST_PAUSE)
        .set_max_delay(LONGEST_PAUSE)
        .set_pipeline_buffer_size(WAITING);
    client.get_connection_manager_lazy(config)
}
