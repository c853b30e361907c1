//! What every product for short-lived values does.
//!
//! Servers are shared by all tests, so each uses keys of its own.

use std::sync::Arc;
use std::time::Duration;

use eml::domain::time::Millis;
use eml::store::StoreError;
use eml::store::cache::{Cache, Counted};
use tokio::time::Instant;

/// Runs each behaviour on each product, as a test of its own.
macro_rules! on_each_cache {
    ($($behaviour:ident)*) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(eml::store::cache::open("memory:").unwrap()).await;
            })*
        }

        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(url) = crate::support::services::Service::Redis.url() else { return };
                let cache = eml::store::redis::RedisCache::open(&url).unwrap();
                super::$behaviour(std::sync::Arc::new(cache)).await;
            })*
        }

        mod guarded_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(url) = crate::support::services::Service::Redis.url() else { return };
                super::$behaviour(eml::store::cache::open(&url).unwrap()).await;
            })*
        }

        mod guarded_with_redis_away {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(eml::store::cache::open(crate::redis::NOBODY).unwrap()).await;
            })*
        }
    };
}

on_each_cache! {
    a_value_comes_back_as_it_was
    a_value_is_replaced_with_its_time_to_live
    a_value_ends_with_its_time_to_live
    only_the_first_of_many_sets_an_absent_key
    an_absent_key_can_be_set_after_its_end
    only_one_of_many_takes_a_value
    a_removed_value_is_gone
    many_count_to_their_number
    a_window_starts_with_its_first_event_and_starts_anew_after_its_end
    each_key_counts_for_itself
    a_text_is_no_counter
    any_span_is_a_time_to_live
}

const LONG: Millis = Millis::from_secs(60);
/// Long enough to be seen on a busy machine.
const SHORT: Millis = Millis(400);
const MANY: usize = 50;

fn key() -> String {
    format!("test:{}", uuid::Uuid::now_v7())
}

/// Waits until a key has no value.
async fn ended(cache: &dyn Cache, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while cache.get(key).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "{key} does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_value_comes_back_as_it_was(cache: Arc<dyn Cache>) {
    let key = key();
    for value in ["one", "", "{\"a\": \"\u{e9}\\n\\0\"}", "two\r\nlines\0", &"long ".repeat(50_000)] {
        cache.put(&key, value, LONG).await.unwrap();
        assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some(value));
    }
    assert_eq!(cache.get(&format!("{key} ")).await.unwrap(), None);
    assert_eq!(cache.get(&key.to_uppercase()).await.unwrap(), None);
}

async fn a_value_is_replaced_with_its_time_to_live(cache: Arc<dyn Cache>) {
    let [long_first, short_first] = [key(), key()];
    cache.put(&short_first, "before", SHORT).await.unwrap();
    cache.put(&short_first, "after", LONG).await.unwrap();
    cache.put(&long_first, "before", LONG).await.unwrap();
    cache.put(&long_first, "after", SHORT).await.unwrap();
    ended(&*cache, &long_first).await;
    assert_eq!(cache.get(&short_first).await.unwrap().as_deref(), Some("after"));
}

async fn a_value_ends_with_its_time_to_live(cache: Arc<dyn Cache>) {
    let [short, long] = [key(), key()];
    let before = Instant::now();
    cache.put(&long, "stays", LONG).await.unwrap();
    cache.put(&short, "goes", SHORT).await.unwrap();
    ended(&*cache, &short).await;
    assert!(before.elapsed() >= SHORT.duration(), "ended after {:?}", before.elapsed());
    assert_eq!(cache.take(&short).await.unwrap(), None);
    assert!(!cache.remove(&short).await.unwrap());
    assert_eq!(cache.get(&long).await.unwrap().as_deref(), Some("stays"));
}

async fn only_the_first_of_many_sets_an_absent_key(cache: Arc<dyn Cache>) {
    let key = key();
    let tries = (0..MANY).map(|i| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { (i, cache.put_if_absent(&key, &i.to_string(), LONG).await.unwrap()) })
    });
    let mut answers = Vec::new();
    for answer in futures_util::future::join_all(tries).await {
        answers.push(answer.unwrap());
    }
    let winners: Vec<usize> = answers.iter().filter(|(_, found)| found.is_none()).map(|(i, _)| *i).collect();
    let [winner] = winners[..] else { panic!("{winners:?} won") };
    for (i, found) in answers {
        assert!(i == winner || found == Some(winner.to_string()), "{i} found {found:?}");
    }
    assert_eq!(cache.get(&key).await.unwrap(), Some(winner.to_string()));
}

async fn an_absent_key_can_be_set_after_its_end(cache: Arc<dyn Cache>) {
    let key = key();
    assert_eq!(cache.put_if_absent(&key, "first", SHORT).await.unwrap(), None);
    ended(&*cache, &key).await;
    assert_eq!(cache.put_if_absent(&key, "second", LONG).await.unwrap(), None);
    assert_eq!(cache.put_if_absent(&key, "third", SHORT).await.unwrap().as_deref(), Some("second"));
    cache.remove(&key).await.unwrap();
    assert_eq!(cache.put_if_absent(&key, "fourth", LONG).await.unwrap(), None);
}

async fn only_one_of_many_takes_a_value(cache: Arc<dyn Cache>) {
    let key = key();
    cache.put(&key, "ticket", LONG).await.unwrap();
    let tries = (0..MANY).map(|_| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { cache.take(&key).await.unwrap() })
    });
    let taken = futures_util::future::join_all(tries).await;
    let taken: Vec<String> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken, ["ticket"]);
    assert_eq!(cache.get(&key).await.unwrap(), None);
}

async fn a_removed_value_is_gone(cache: Arc<dyn Cache>) {
    let key = key();
    assert!(!cache.remove(&key).await.unwrap());
    cache.put(&key, "value", LONG).await.unwrap();
    assert!(cache.remove(&key).await.unwrap());
    assert_eq!(cache.get(&key).await.unwrap(), None);
    assert!(!cache.remove(&key).await.unwrap());
}

async fn many_count_to_their_number(cache: Arc<dyn Cache>) {
    let key = key();
    let tries = (0..MANY).map(|_| {
        let (cache, key) = (cache.clone(), key.clone());
        tokio::spawn(async move { cache.count(&key, LONG).await.unwrap().count })
    });
    let counts = futures_util::future::join_all(tries).await;
    let mut counts: Vec<u64> = counts.into_iter().map(Result::unwrap).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=MANY as u64).collect::<Vec<_>>());
    assert_eq!(cache.get(&key).await.unwrap(), Some(MANY.to_string()));
}

async fn a_window_starts_with_its_first_event_and_starts_anew_after_its_end(cache: Arc<dyn Cache>) {
    let key = key();
    let first = cache.count(&key, SHORT).await.unwrap();
    assert_eq!(first.count, 1);
    assert!(first.resets_after <= SHORT && first.resets_after > Millis(0), "{first:?}");
    let mut before = first;
    let deadline = Instant::now() + Duration::from_secs(10);
    // Each event asks for a longer window and gets what is left of the first one's.
    let anew = loop {
        let counted = cache.count(&key, LONG).await.unwrap();
        if counted.count == 1 {
            break counted;
        }
        assert_eq!(counted.count, before.count + 1);
        assert!(counted.resets_after <= before.resets_after, "{counted:?} after {before:?}");
        assert!(Instant::now() < deadline, "the window does not end");
        before = counted;
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(before.count > 1, "the second window began with the second event");
    assert!(anew.resets_after > SHORT && anew.resets_after <= LONG, "{anew:?}");
}

async fn each_key_counts_for_itself(cache: Arc<dyn Cache>) {
    let [one, other] = [key(), key()];
    for count in 1..=3 {
        assert_eq!(cache.count(&one, LONG).await.unwrap().count, count);
    }
    assert_eq!(cache.count(&other, LONG).await.unwrap().count, 1);
    assert!(cache.remove(&one).await.unwrap());
    assert_eq!(cache.count(&one, LONG).await.unwrap().count, 1);
}

async fn a_text_is_no_counter(cache: Arc<dyn Cache>) {
    let key = key();
    cache.put(&key, "text", LONG).await.unwrap();
    let refused = cache.count(&key, LONG).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some("text"));
    assert!(matches!(cache.count(&format!("{key}:2"), LONG).await, Ok(Counted { count: 1, .. })));
}

async fn any_span_is_a_time_to_live(cache: Arc<dyn Cache>) {
    let [never, ever] = [key(), key()];
    cache.put(&never, "value", Millis(0)).await.unwrap();
    ended(&*cache, &never).await;
    cache.put(&ever, "value", Millis(u64::MAX)).await.unwrap();
    assert_eq!(cache.get(&ever).await.unwrap().as_deref(), Some("value"));
    assert!(cache.remove(&ever).await.unwrap());
}
