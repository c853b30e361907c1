//! Short-lived values in this process. Bounded: what was used least gives way when it is full.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::future::Cache as Values;
use moka::ops::compute::{CompResult, Op};
use moka::policy::Expiry;

use crate::domain::time::Millis;
use crate::store::cache::{Cache, Counted};
use crate::store::error::StoreError;
use crate::store::inspection::Inspection;

/// Most keys at a time.
const MOST_KEYS: u64 = 200_000;

/// A value and when its time is over.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    /// How often its key was counted, for counters.
    count: u64,
    until: Instant,
}

impl Value {
    fn new(text: &str, ttl: Millis) -> Self {
        Self { text: text.to_owned(), count: 0, until: Instant::now() + ttl.duration() }
    }

    /// The value is looked at before it is given out: what is over may still lie around.
    fn is_good(&self) -> bool {
        self.until > Instant::now()
    }
}

/// Lets each value go at its own time.
struct AtItsTime;

impl Expiry<String, Value> for AtItsTime {
    fn expire_after_create(&self, _: &String, value: &Value, created_at: Instant) -> Option<Duration> {
        Some(value.until.saturating_duration_since(created_at))
    }

    fn expire_after_update(
        &self,
        _: &String,
        value: &Value,
        updated_at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(value.until.saturating_duration_since(updated_at))
    }
}

/// The cache of a node that needs no other.
#[derive(Clone)]
pub struct MemoryCache {
    values: Values<String, Value>,
}

impl Default for MemoryCache {
    fn default() -> Self {
        let values = Values::builder().max_capacity(MOST_KEYS).expire_after(AtItsTime).build();
        Self { values }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let value = self.values.get(key).await;
        Ok(value.filter(Value::is_good).map(|value| value.text))
    }

    async fn put(&self, key: &str, value: &str, ttl: Millis) -> Result<(), StoreError> {
        self.values.insert(key.to_owned(), Value::new(value, ttl)).await;
        Ok(())
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Millis) -> Result<Option<String>, StoreError> {
        let done = self.values.entry(key.to_owned()).and_compute_with(|known| {
            let known = known.map(moka::Entry::into_value).filter(Value::is_good);
            let fresh = Value::new(value, ttl);
            async move { if known.is_some() { Op::Nop } else { Op::Put(fresh) } }
        });
        Ok(match done.await {
            CompResult::Unchanged(known) => Some(known.into_value().text),
            CompResult::Inserted(_)
            | CompResult::ReplacedWith(_)
            | CompResult::Removed(_)
            | CompResult::StillNone(_) => None,
        })
    }

    async fn take(&self, key: &str) -> Result<Option<String>, StoreError> {
        let value = self.values.remove(key).await;
        Ok(value.filter(Value::is_good).map(|value| value.text))
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.values.remove(key).await.is_some_and(|value| value.is_good()))
    }

    async fn count(&self, key: &str, window: Millis) -> Result<Counted, StoreError> {
        let counted = self.values.entry(key.to_owned()).and_upsert_with(|known| {
            let known = known.map(moka::Entry::into_value).filter(Value::is_good);
            let mut value = known.unwrap_or_else(|| Value::new("", window));
            value.count += 1;
            std::future::ready(value)
        });
        let value = counted.await.into_value();
        let left = value.until.saturating_duration_since(Instant::now());
        let resets_after = Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Ok(Counted { count: value.count, resets_after })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        Ok(Inspection::embedded("memory of this process"))
    }
}
