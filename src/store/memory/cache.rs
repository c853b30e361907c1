//! Short-lived values in this process: bounded by their size, the least used go first.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::future::Cache as Entries;
use moka::ops::compute::{CompResult, Op};
use moka::policy::EvictionPolicy;

use crate::domain::time::Millis;
use crate::store::cache::{self, Cache, Counted};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;

/// Most bytes that are kept, some 300,000 entries; those unused for longest go first.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// What an entry takes besides its key and text, in bytes: queues, timer and bookkeeping.
const ENTRY_BYTES: usize = 200;

/// The cache of a node that runs alone, and of one whose shared cache is away.
#[derive(Clone)]
pub struct MemoryCache {
    entries: Entries<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    text: Arc<str>,
    ends_at: Instant,
}

impl Default for MemoryCache {
    fn default() -> Self {
        // Not the default policy, which turns newcomers away in favour of what is used often.
        let entries = Entries::builder()
            .max_capacity(MOST_BYTES)
            .weigher(|key: &String, entry: &Entry| weight(key, entry))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(EndOfEntry)
            .build();
        Self { entries }
    }
}

fn weight(key: &str, entry: &Entry) -> u32 {
    u32::try_from(key.len() + entry.text.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
}

/// Each entry ends when it says.
struct EndOfEntry;

impl Expiry<String, Entry> for EndOfEntry {
    fn expire_after_create(&self, _: &String, entry: &Entry, now: Instant) -> Option<Duration> {
        Some(entry.ends_at.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ends_at.saturating_duration_since(now))
    }
}

impl Entry {
    fn new(text: &str, ttl: Millis) -> Self {
        Self { text: text.into(), ends_at: Instant::now() + cache::life(ttl).duration() }
    }

    /// What is left of its time; `None` when it is over. An entry may be found after its end.
    fn left(&self) -> Option<Duration> {
        self.ends_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn is_alive(&self) -> bool {
        self.left().is_some()
    }

    fn number(&self) -> Result<u64, StoreError> {
        self.text.parse().map_err(|_| StoreError::Refused("the key does not hold a counter".to_owned()))
    }

    /// The counter after one more event; a new one when there is none or its window is over.
    fn counted(before: Option<&Self>, window: Millis) -> Result<Self, StoreError> {
        match before.filter(|entry| entry.is_alive()) {
            Some(entry) => {
                let count = entry.number()?.saturating_add(1);
                Ok(Self { text: count.to_string().into(), ends_at: entry.ends_at })
            }
            None => Ok(Self::new("1", window)),
        }
    }
}

/// The text of an entry that was found, if it is alive.
fn alive(found: Option<Entry>) -> Option<String> {
    found.filter(Entry::is_alive).map(|entry| entry.text.as_ref().to_owned())
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(alive(self.entries.get(key).await))
    }

    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        self.entries.insert(key.to_owned(), Entry::new(value, ttl)).await;
        Ok(())
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError> {
        let fresh = Entry::new(value, ttl);
        let keep_living = |found: Option<moka::Entry<String, Entry>>| {
            let has_value = found.is_some_and(|entry| entry.value().is_alive());
            ready(if has_value { Op::Nop } else { Op::Put(fresh) })
        };
        Ok(match self.entries.entry_by_ref(key).and_compute_with(keep_living).await {
            CompResult::Unchanged(entry) => Some(entry.value().text.as_ref().to_owned()),
            CompResult::Inserted(_)
            | CompResult::ReplacedWith(_)
            | CompResult::StillNone(_)
            | CompResult::Removed(_) => None,
        })
    }

    async fn take(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(alive(self.entries.remove(key).await))
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.entries.remove(key).await.is_some_and(|entry| entry.is_alive()))
    }

    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError> {
        let one_more = |found: Option<moka::Entry<String, Entry>>| {
            ready(Entry::counted(found.as_ref().map(moka::Entry::value), window).map(Op::Put))
        };
        let counter = match self.entries.entry_by_ref(key).and_try_compute_with(one_more).await? {
            CompResult::Inserted(entry) | CompResult::ReplacedWith(entry) => entry.into_value(),
            CompResult::Unchanged(_) | CompResult::StillNone(_) | CompResult::Removed(_) => {
                return Err(StoreError::Unavailable("the counter was not kept".to_owned()));
            }
        };
        let left = counter.left().unwrap_or_default();
        let resets_after = Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Ok(Counted { count: counter.number()?, resets_after })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        Ok(Inspection::embedded("memory of this process"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_bounded_and_the_newest_entry_is_kept() {
        let cache = MemoryCache::default();
        let text = "x".repeat(1024 * 1024);
        for i in 0..100 {
            cache.put(&format!("key {i}"), &text, Millis::from_secs(60)).await.unwrap();
            cache.entries.run_pending_tasks().await;
            assert!(cache.entries.weighted_size() <= MOST_BYTES);
        }
        assert_eq!(cache.get("key 0").await.unwrap(), None);
        assert_eq!(cache.get("key 99").await.unwrap(), Some(text));
    }

    #[tokio::test]
    async fn an_entry_leaves_the_memory_when_it_ends() {
        let cache = MemoryCache::default();
        cache.put("key", "value", Millis(1)).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while cache.entries.weighted_size() > 0 || cache.entries.entry_count() > 0 {
            assert!(Instant::now() < deadline, "still there");
            tokio::task::yield_now().await;
            cache.entries.run_pending_tasks().await;
        }
    }
}
