//! The cache: short-lived values by key, shared by all nodes where a product outside them is used.
//!
//! It holds nothing that cannot be had again: losing all of it costs speed, never truth. Every key
//! has a time to live. Products: in process and Redis. Both pass the contract suite in
//! `tests/it/cache_contract.rs`.

mod guarded;

use std::sync::Arc;

use async_trait::async_trait;

pub use guarded::GuardedCache;

use super::error::StoreError;
use super::inspection::Inspection;
use super::memory::MemoryCache;
use super::redis::RedisCache;
use crate::domain::time::Millis;

/// Longest time that a value is kept, in milliseconds: a year.
const LONGEST_LIFE: Millis = Millis::from_secs(365 * 86_400);

/// How long a value lives for this time to live: it ends, and not before it has begun.
pub(super) fn life(ttl: Millis) -> Millis {
    ttl.clamp(Millis(1), LONGEST_LIFE)
}

/// Opens the cache behind a URL: `memory:` for one in this process, `redis://` or `rediss://` for a
/// Redis that all nodes share, which may be away at any time, also now. Needs a tokio runtime.
///
/// # Errors
/// `Refused` for any other URL.
pub fn open(url: &str) -> Result<Arc<dyn Cache>, StoreError> {
    let cache = open_plain(url)?;
    if url == "memory:" { Ok(cache) } else { Ok(Arc::new(GuardedCache::new(cache))) }
}

/// The same without the guard: a Redis that is away says so.
///
/// # Errors
/// As `open`.
pub fn open_plain(url: &str) -> Result<Arc<dyn Cache>, StoreError> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryCache::default()));
    }
    Ok(Arc::new(RedisCache::open(url)?))
}

/// Where a counter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How often it was counted in this window, this time included.
    pub count: u64,
    /// How long until the window ends and the counter starts anew.
    pub resets_after: Millis,
}

/// Where short-lived values are kept.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// The value of a key; `None` when there is none or its time is over.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Sets a value, whatever was there.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError>;

    /// Sets a value if the key has none; answers `None` then, else the value that is there.
    /// Of several callers at a time exactly one gets `None`.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError>;

    /// Removes a key and answers its value. Of several callers at a time one gets it.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn take(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Removes a key; answers whether it had a value.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn remove(&self, key: &str) -> Result<bool, StoreError>;

    /// Counts one event of a key in a fixed window that starts with its first event.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError>;

    /// Whether the cache can be reached.
    ///
    /// # Errors
    /// When it cannot.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What the product says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn inspect(&self) -> Result<Inspection, StoreError>;
}
