//! The commands behind each operation of the cache.

use async_trait::async_trait;
use redis::{Client, Cmd, cmd};

use super::connection::{Connection, Repeat};
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::{self, Cache, Counted};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;

/// What each of our keys begins with.
pub const PREFIX: &str = "eml:";

/// Schemes of a URL that this product takes: plain and over TLS.
const SCHEMES: [&str; 2] = ["redis://", "rediss://"];

/// Counts one event. The window is set with the first one, and for a counter without an end, which
/// would count for ever.
const COUNT: &str = "\
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    left = tonumber(ARGV[1])
    redis.call('PEXPIRE', KEYS[1], left)
end
return {count, left}";

/// The cache in Redis.
pub struct RedisCache {
    connection: Connection,
}

impl RedisCache {
    /// Prepares a cache behind `redis://` or `rediss://`; whether the server is there shows with the
    /// first request. Needs a tokio runtime.
    ///
    /// # Errors
    /// `Refused` when the URL cannot be one of a Redis.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        // Nothing of the URL: it may hold a password.
        let refused = || StoreError::Refused("cache URL must be `redis://HOST:PORT/NUMBER`".to_owned());
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(refused());
        }
        let client = Client::open(url).map_err(|_| refused())?;
        Ok(Self { connection: Connection::new(client)? })
    }
}

/// A command about one key.
fn about(name: &str, key: &str) -> Cmd {
    let mut command = cmd(name);
    command.arg(format!("{PREFIX}{key}"));
    command
}

/// A command that sets a key.
fn set(key: &str, value: &str, ttl: Millis) -> Cmd {
    let mut command = about("SET", key);
    command.arg(value).arg("PX").arg(cache::life(ttl).0);
    command
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection.send(&about("GET", key), Repeat::Allowed).await
    }

    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        self.connection.send(&set(key, value, ttl), Repeat::Allowed).await
    }

    // Not repeated: the second try would find the value of the first and take it for another's.
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError> {
        self.connection.send(set(key, value, ttl).arg("NX").arg("GET"), Repeat::Never).await
    }

    // Repeated: what the first try may have taken is lost either way.
    async fn take(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection.send(&about("GETDEL", key), Repeat::Allowed).await
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        self.connection.send(&about("DEL", key), Repeat::Allowed).await
    }

    // Repeated: at worst one event counts twice.
    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError> {
        let mut command = cmd("EVAL");
        command.arg(COUNT).arg(1).arg(format!("{PREFIX}{key}")).arg(cache::life(window).0);
        let (count, left) = self.connection.send(&command, Repeat::Allowed).await?;
        Ok(Counted { count, resets_after: Millis(left) })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connection.send(&cmd("PING"), Repeat::Allowed).await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        let info: String = self.connection.send(cmd("INFO").arg("server"), Repeat::Allowed).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
        let (seconds, micros): (i64, i64) = self.connection.send(&cmd("TIME"), Repeat::Allowed).await?;
        let clock = Timestamp::from_millis(seconds * 1_000 + micros / 1_000);
        Ok(Inspection { product: format!("Redis {}", version.trim()), clock: Some(clock) })
    }
}
