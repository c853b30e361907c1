//! A cache that may be away: values are kept in this process meanwhile.
//!
//! What other nodes put there is not seen then: a ticket must be redeemed at the node that gave it
//! out, and each node counts tries for itself. Nobody is refused for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Cache, Counted};
use crate::domain::time::Millis;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::memory::MemoryCache;

/// How long a cache that was away is left alone, so that not every request waits for it.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// The cache, and what stands in for it.
pub struct GuardedCache {
    cache: Arc<dyn Cache>,
    stand_in: MemoryCache,
    /// Until when the cache is left alone; absent while it answers.
    away_until: Mutex<Option<Instant>>,
}

impl GuardedCache {
    /// Guards a cache.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, stand_in: MemoryCache::default(), away_until: Mutex::default() }
    }

    /// Asks the cache, unless it is left alone: `None` then, and when it turns out to be away.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        if self.known().is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let answer = question.await;
        let mut known = self.known();
        match &answer {
            Err(error @ (StoreError::Unavailable(_) | StoreError::InDoubt(_))) => {
                if known.replace(Instant::now() + LEFT_ALONE).is_none() {
                    tracing::warn!(%error, "cache is away; this node keeps values for itself");
                }
                None
            }
            Ok(_)
            | Err(
                StoreError::Corrupt { .. }
                | StoreError::Exists(_)
                | StoreError::Changed
                | StoreError::Fenced(_)
                | StoreError::Refused(_),
            ) => {
                if known.take().is_some() {
                    tracing::info!("cache is back");
                }
                Some(answer)
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cache for GuardedCache {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        match self.ask(self.cache.get(key)).await {
            // What was put while the cache was away is only here.
            Some(Ok(None)) | None => self.stand_in.get(key).await,
            Some(answer) => answer,
        }
    }

    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        match self.ask(self.cache.put(key, value, ttl)).await {
            None => self.stand_in.put(key, value, ttl).await,
            Some(answer) => answer,
        }
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError> {
        match self.ask(self.cache.put_if_absent(key, value, ttl)).await {
            None => self.stand_in.put_if_absent(key, value, ttl).await,
            Some(answer) => answer,
        }
    }

    async fn take(&self, key: &str) -> Result<Option<String>, StoreError> {
        match self.ask(self.cache.take(key)).await {
            Some(Ok(None)) | None => self.stand_in.take(key).await,
            Some(answer) => answer,
        }
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        let here = self.stand_in.remove(key).await?;
        match self.ask(self.cache.remove(key)).await {
            None => Ok(here),
            Some(answer) => answer.map(|there| here || there),
        }
    }

    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError> {
        match self.ask(self.cache.count(key, window)).await {
            None => self.stand_in.count(key, window).await,
            Some(answer) => answer,
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.cache.ping().await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.cache.inspect().await
    }
}
