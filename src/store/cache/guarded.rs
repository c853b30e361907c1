//! A shared cache whose outage costs what is shared, never a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::{Cache, Counted};
use crate::domain::time::Millis;
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;
use crate::store::memory::MemoryCache;

/// How often a cache that is away is asked whether it is back.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// A remote cache, and one in this process for as long as the remote one is away.
///
/// The first request that cannot reach the remote cache turns all to the one in process at once, so
/// that none waits for a dead server; a task asks in the background and turns them back. What was
/// kept here meanwhile is found until its time is over. Counters begin anew on each change, and what
/// only the remote one knows is not found while it is away: a WebSocket ticket from before is asked
/// for again.
pub struct GuardedCache {
    remote: Arc<dyn Cache>,
    local: MemoryCache,
    is_away: Arc<AtomicBool>,
}

impl GuardedCache {
    /// Guards a cache. Requests must come from within a tokio runtime.
    #[must_use]
    pub fn new(remote: Arc<dyn Cache>) -> Self {
        Self { remote, local: MemoryCache::default(), is_away: Arc::default() }
    }

    /// The answer of the remote cache; `None` while it is away.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<Option<T>, StoreError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match request.await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_transient() => {
                self.turn_away(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn turn_away(&self, error: &StoreError) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "shared cache is away, this node keeps its own until it is back");
            tokio::spawn(turn_back(self.remote.clone(), Arc::downgrade(&self.is_away)));
        }
    }
}

/// Waits until the remote cache answers, or the guard is gone.
async fn turn_back(remote: Arc<dyn Cache>, is_away: Weak<AtomicBool>) {
    let since = Instant::now();
    loop {
        sleep(ASKED_EVERY).await;
        if is_away.strong_count() == 0 {
            return;
        }
        if remote.ping().await.is_ok()
            && let Some(is_away) = is_away.upgrade()
        {
            is_away.store(false, Ordering::Relaxed);
            let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(duration_ms, "shared cache is back");
            return;
        }
    }
}

#[async_trait]
impl Cache for GuardedCache {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        match self.ask(self.remote.get(key)).await? {
            Some(Some(value)) => Ok(Some(value)),
            Some(None) | None => self.local.get(key).await,
        }
    }

    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        match self.ask(self.remote.put(key, value, ttl)).await? {
            // A value from an outage must not come back when this one is gone.
            Some(()) => self.local.remove(key).await.map(drop),
            None => self.local.put(key, value, ttl).await,
        }
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError> {
        if let Some(present) = self.local.get(key).await? {
            return Ok(Some(present));
        }
        match self.ask(self.remote.put_if_absent(key, value, ttl)).await? {
            Some(present) => Ok(present),
            None => self.local.put_if_absent(key, value, ttl).await,
        }
    }

    async fn take(&self, key: &str) -> Result<Option<String>, StoreError> {
        let shared = self.ask(self.remote.take(key)).await?.flatten();
        // Taken from both: a value that was put while the connection broke may be in each.
        let own = self.local.take(key).await?;
        Ok(shared.or(own))
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        let was_shared = self.ask(self.remote.remove(key)).await?.unwrap_or(false);
        let was_own = self.local.remove(key).await?;
        Ok(was_shared || was_own)
    }

    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError> {
        match self.ask(self.remote.count(key, window)).await? {
            Some(counted) => Ok(counted),
            None => self.local.count(key, window).await,
        }
    }

    /// Whether the remote cache can be reached; requests are answered either way.
    async fn ping(&self) -> Result<(), StoreError> {
        self.remote.ping().await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.remote.inspect().await
    }
}
