//! What every cache product does.

use std::sync::Arc;
use std::time::Duration;

use eml::domain::time::Millis;
use eml::store::cache::{Cache, GuardedCache, open, open_plain};

use crate::support::services::Service;

const LONG: Millis = Millis::from_secs(60);
const SHORT: Millis = Millis(150);

macro_rules! on_every_cache {
    ($($behaviour:ident)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(super::open("memory:").unwrap()).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $behaviour() {
                let Some(url) = super::Service::Redis.url() else { return };
                super::$behaviour(super::open_plain(&url).unwrap()).await;
            })*
        }

        mod guarded_redis {
            $(#[tokio::test]
            async fn $behaviour() {
                let Some(url) = super::Service::Redis.url() else { return };
                super::$behaviour(super::open(&url).unwrap()).await;
            })*
        }

        mod guarded_and_away {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(std::sync::Arc::new(super::away())).await;
            })*
        }
    };
}

/// A guarded cache whose Redis is not there: port 1 is never listened on.
fn away() -> GuardedCache {
    GuardedCache::new(open_plain("redis://127.0.0.1:1").unwrap())
}

on_every_cache! {
    a_value_comes_back_until_its_time_is_over
    a_later_value_replaces_an_earlier_one_and_its_time
    only_the_first_of_many_sets_a_value_that_is_absent
    only_one_of_many_takes_a_value
    a_removed_value_is_gone
    a_counter_counts_in_its_window_and_starts_anew
    many_count_together_without_losing_one
}

fn fresh(name: &str) -> String {
    format!("test:{name}:{}", uuid::Uuid::now_v7())
}

async fn a_value_comes_back_until_its_time_is_over(cache: Arc<dyn Cache>) {
    let key = fresh("value");
    assert_eq!(cache.get(&key).await.unwrap(), None);
    cache.put(&key, "ä \"quoted\"", SHORT).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some("ä \"quoted\""));
    tokio::time::sleep(Duration::from_millis(SHORT.0 * 2)).await;
    assert_eq!(cache.get(&key).await.unwrap(), None);
    assert_eq!(cache.put_if_absent(&key, "again", LONG).await.unwrap(), None, "its place is free again");
}

async fn a_later_value_replaces_an_earlier_one_and_its_time(cache: Arc<dyn Cache>) {
    let key = fresh("replaced");
    cache.put(&key, "one", SHORT).await.unwrap();
    cache.put(&key, "two", LONG).await.unwrap();
    tokio::time::sleep(Duration::from_millis(SHORT.0 * 2)).await;
    assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some("two"));
}

async fn only_the_first_of_many_sets_a_value_that_is_absent(cache: Arc<dyn Cache>) {
    let key = fresh("absent");
    let tries = (0..16).map(|n| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { cache.put_if_absent(&key, &n.to_string(), LONG).await.unwrap() })
    });
    let mut seen = Vec::new();
    for answer in tries.collect::<Vec<_>>() {
        seen.push(answer.await.unwrap());
    }
    let winner = cache.get(&key).await.unwrap();
    assert_eq!(seen.iter().filter(|answer| answer.is_none()).count(), 1);
    assert!(seen.iter().flatten().all(|value| Some(value) == winner.as_ref()), "all others see the winner's");
}

async fn only_one_of_many_takes_a_value(cache: Arc<dyn Cache>) {
    let key = fresh("taken");
    cache.put(&key, "ticket", LONG).await.unwrap();
    let tries = (0..16).map(|_| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { cache.take(&key).await.unwrap() })
    });
    let mut takers = 0;
    for answer in tries.collect::<Vec<_>>() {
        takers += usize::from(answer.await.unwrap().is_some());
    }
    assert_eq!(takers, 1);
    assert_eq!(cache.get(&key).await.unwrap(), None);
}

async fn a_removed_value_is_gone(cache: Arc<dyn Cache>) {
    let key = fresh("removed");
    assert!(!cache.remove(&key).await.unwrap());
    cache.put(&key, "x", LONG).await.unwrap();
    assert!(cache.remove(&key).await.unwrap());
    assert_eq!(cache.take(&key).await.unwrap(), None);
}

async fn a_counter_counts_in_its_window_and_starts_anew(cache: Arc<dyn Cache>) {
    let key = fresh("counter");
    for want in 1..=3 {
        let counted = cache.count(&key, Millis(400)).await.unwrap();
        assert_eq!(counted.count, want);
        assert!(counted.resets_after <= Millis(400), "the window starts with its first event: {counted:?}");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cache.count(&key, Millis(400)).await.unwrap().count, 1);
}

async fn many_count_together_without_losing_one(cache: Arc<dyn Cache>) {
    let key = fresh("together");
    let counts = (0..32).map(|_| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { cache.count(&key, LONG).await.unwrap().count })
    });
    let mut seen = Vec::new();
    for count in counts.collect::<Vec<_>>() {
        seen.push(count.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_redis_that_is_away_says_so_soon_and_one_without_sense_is_refused() {
    let cache = open_plain("redis://127.0.0.1:1").unwrap();
    let started = std::time::Instant::now();
    assert!(matches!(cache.get("x").await, Err(eml::store::StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    for url in ["", "redis://", "http://127.0.0.1", "redis://127.0.0.1:port"] {
        assert!(matches!(open(url), Err(eml::store::StoreError::Refused(_))), "{url}");
    }
}
