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
use super::redis::{self, RedisCache};
use crate::domain::time::Millis;

/// The URL of the cache in this process.
pub const IN_PROCESS: &str = "memory:";

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

/// Opens the cache behind a URL, guarded: while it is away, this process keeps values for itself.
///
/// # Errors
/// `Refused` for a URL that names no cache. One that is away is no error here.
pub fn open(url: &str) -> Result<Arc<dyn Cache>, StoreError> {
    let cache = open_plain(url)?;
    if url == IN_PROCESS { Ok(cache) } else { Ok(Arc::new(GuardedCache::new(cache))) }
}

/// Opens the cache behind a URL: `memory:` for this process, `redis://…` or `rediss://…`.
///
/// # Errors
/// `Refused` for any other URL. A cache that is away is no error here.
pub fn open_plain(url: &str) -> Result<Arc<dyn Cache>, StoreError> {
    if redis::SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(Arc::new(RedisCache::open(url)?));
    }
    if url == IN_PROCESS {
        return Ok(Arc::new(MemoryCache::default()));
    }
    Err(StoreError::Refused(format!("cache URL must be `redis://…`, `rediss://…` or `{IN_PROCESS}`")))
}
