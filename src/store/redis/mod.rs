//! Short-lived values in Redis, which all nodes share.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, Script};

use super::cache::{Cache, Counted};
use super::error::StoreError;
use super::inspection::Inspection;
use crate::domain::time::{Millis, Timestamp};

/// How URLs of this product start.
pub const SCHEMES: [&str; 2] = ["redis://", "rediss://"];

/// Before each key, so that a Redis may serve others too.
const PREFIX: &str = "eml:";
/// How long an answer may take before the cache counts as not available.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Delays between tries to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Tries to connect before a request is told; the next request tries anew.
const TRIES: usize = 2;

/// Answers what is there, or sets the value.
static PUT_IF_ABSENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('GET', KEYS[1]) if known then return known end \
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return false",
    )
});

/// Counts, and starts the window with the first event. A counter without an end, which a Redis that
/// failed between two commands could leave, gets one.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local count = redis.call('INCR', KEYS[1]) local left = redis.call('PTTL', KEYS[1]) \
         if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) left = tonumber(ARGV[1]) end \
         return {count, left}",
    )
});

/// The cache in one Redis. The connection is made when it is first needed, and again when it broke.
#[derive(Clone)]
pub struct RedisCache {
    connection: ConnectionManager,
}

impl RedisCache {
    /// Prepares for `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS.
    ///
    /// # Errors
    /// `Refused` when the URL makes no sense. A Redis that is away is no error here.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let refused = |error: RedisError| StoreError::Refused(error.to_string());
        let client = Client::open(url).map_err(refused)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(TRIES)
            .set_min_delay(RECONNECT.0)
            .set_max_delay(RECONNECT.1)
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECTION_TIMEOUT));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(refused)?;
        Ok(Self { connection })
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        command.query_async(&mut self.connection.clone()).await.map_err(|error| translated(&error))
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Redis keeps no value for less than a millisecond.
fn at_least_one(span: Millis) -> u64 {
    span.0.max(1)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the client's list of errors is open")]
fn translated(error: &RedisError) -> StoreError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => StoreError::Refused(text),
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => {
            StoreError::Corrupt { table: "redis", column: "value", id: text }
        }
        // Away, loading, read only, out of memory: whatever it is, there is no answer now.
        _ => StoreError::Unavailable(text),
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.ask(redis::cmd("GET").arg(key(name))).await
    }

    async fn put(&self, name: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        self.ask(redis::cmd("SET").arg(key(name)).arg(value).arg("PX").arg(at_least_one(ttl))).await
    }

    async fn put_if_absent(
        &self,
        name: &str,
        value: &str,
        ttl: Millis,
    ) -> Result<Option<String>, StoreError> {
        let mut script = PUT_IF_ABSENT.key(key(name));
        script.arg(value).arg(at_least_one(ttl));
        script.invoke_async(&mut self.connection.clone()).await.map_err(|error| translated(&error))
    }

    async fn take(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.ask(redis::cmd("GETDEL").arg(key(name))).await
    }

    async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        self.ask::<u64>(redis::cmd("DEL").arg(key(name))).await.map(|removed| removed > 0)
    }

    async fn count(&self, name: &str, window: Millis) -> Result<Counted, StoreError> {
        let mut script = COUNT.key(key(name));
        script.arg(at_least_one(window));
        let answer = script.invoke_async(&mut self.connection.clone()).await;
        let (count, left): (u64, u64) = answer.map_err(|error| translated(&error))?;
        Ok(Counted { count, resets_after: Millis(left) })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(&redis::cmd("PING")).await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let info: String = self.ask(redis::cmd("INFO").arg("server")).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
        let (seconds, micros): (i64, i64) = self.ask(&redis::cmd("TIME")).await?;
        let clock = Timestamp::from_millis(seconds * 1_000 + micros / 1_000);
        Ok(Inspection { product: format!("Redis {}", version.trim()), clock: Some(clock) })
    }
}
