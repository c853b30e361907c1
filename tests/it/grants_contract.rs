//! What every product for grants does.

use std::collections::BTreeSet;
use std::sync::Arc;

use eml::domain::time::{Millis, Timestamp};
use eml::store::grants::{Grant, GrantKind, Revocation};
use eml::store::{StoreError, Stores};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::samples::{File, at, on_every_product};

on_every_product! {
    a_grant_comes_back_as_it_was
    a_taken_key_is_refused_until_its_time_is_over
    a_grant_whose_time_is_over_does_not_count
    grants_about_somebody_are_listed_oldest_first
    a_change_needs_what_was_read
    a_grant_that_was_made_anew_is_not_changed_by_who_read_the_old_one
    only_one_of_many_puts_at_a_time_wins
    only_one_of_many_changes_at_a_time_wins
    only_one_of_many_takers_gets_a_grant
    a_change_beside_a_taker_never_brings_a_grant_back
    all_grants_about_somebody_are_taken_at_once
    what_is_over_is_forgotten_and_the_rest_is_kept
    a_counter_counts_within_its_window
    beyond_the_most_it_is_told_but_not_counted
    a_forgotten_counter_starts_anew
    many_counts_at_a_time_are_all_counted
    many_counts_at_a_time_never_pass_the_most
    a_revocation_keeps_the_larger_epoch_and_the_later_end
    a_revocation_is_seen_from_its_time_on
    a_reader_misses_no_revocation
}

const WINDOW: Millis = Millis(1_000);

/// Lives from 0 to 1,000 ms.
fn grant(key: &str) -> Grant {
    Grant {
        kind: GrantKind::Code,
        key: key.to_owned(),
        subject: Uuid::now_v7(),
        body: json!({"scope": ["own", "calls:read"], "note": "said \"nul\u{0}\" and ünïcode"}),
        version: 1,
        created_at: at(0),
        expires_at: at(1_000),
    }
}

async fn a_grant_comes_back_as_it_was(stores: Stores) {
    for kind in GrantKind::ALL {
        let stored = Grant { kind, version: 77, ..grant("it's a \"key\"") };
        stores.grants.put(stored.clone()).await.unwrap();
        let found = stores.grants.get(kind, &stored.key, at(999)).await.unwrap();
        assert_eq!(found, Some(Grant { version: 1, ..stored }));
    }
    assert_eq!(stores.grants.get(GrantKind::Code, "another", at(1)).await.unwrap(), None);
}

async fn a_taken_key_is_refused_until_its_time_is_over(stores: Stores) {
    stores.grants.put(grant("a")).await.unwrap();
    let later =
        |created: i64| Grant { created_at: at(created), expires_at: at(created + 1_000), ..grant("a") };
    let refused = stores.grants.put(later(999)).await;
    assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    let first = stores.grants.get(GrantKind::Code, "a", at(1)).await.unwrap().unwrap();
    stores.grants.replace(first).await.unwrap();
    stores.grants.put(Grant { kind: GrantKind::Link, ..grant("a") }).await.unwrap();
    let second = later(1_000);
    stores.grants.put(second.clone()).await.unwrap();
    assert_eq!(stores.grants.get(GrantKind::Code, "a", at(1_001)).await.unwrap(), Some(second.clone()));
    let about = stores.grants.about(GrantKind::Code, second.subject, at(1_001)).await.unwrap();
    assert_eq!(about, [second]);
}

async fn a_grant_whose_time_is_over_does_not_count(stores: Stores) {
    let stored = grant("a");
    stores.grants.put(stored.clone()).await.unwrap();
    assert_eq!(stores.grants.get(GrantKind::Code, "a", at(1_000)).await.unwrap(), None);
    assert_eq!(stores.grants.about(GrantKind::Code, stored.subject, at(1_000)).await.unwrap(), []);
    assert_eq!(stores.grants.take(GrantKind::Code, "a", at(1_000)).await.unwrap(), None);
    // A longer life makes it count again.
    stores.grants.replace(Grant { expires_at: at(2_000), ..stored }).await.unwrap();
    assert!(stores.grants.get(GrantKind::Code, "a", at(1_000)).await.unwrap().is_some());
}

async fn grants_about_somebody_are_listed_oldest_first(stores: Stores) {
    let subject = Uuid::now_v7();
    for (key, created) in [("b", 2), ("c", 1), ("a", 3)] {
        let about = Grant { subject, created_at: at(created), ..grant(key) };
        stores.grants.put(about).await.unwrap();
    }
    stores.grants.put(grant("of another")).await.unwrap();
    stores.grants.put(Grant { kind: GrantKind::Link, subject, ..grant("of another kind") }).await.unwrap();
    let found = stores.grants.about(GrantKind::Code, subject, at(10)).await.unwrap();
    assert_eq!(found.iter().map(|grant| &*grant.key).collect::<Vec<_>>(), ["c", "b", "a"]);
}

async fn a_change_needs_what_was_read(stores: Stores) {
    let stored = grant("a");
    stores.grants.put(stored.clone()).await.unwrap();
    let subject = Uuid::now_v7();
    let changed = Grant { subject, body: json!(2), expires_at: at(5_000), ..stored.clone() };
    assert_eq!(stores.grants.replace(changed.clone()).await.unwrap(), 2);
    let late = stores.grants.replace(changed.clone()).await;
    assert!(matches!(late, Err(StoreError::Changed)), "{late:?}");
    let found = stores.grants.get(GrantKind::Code, "a", at(4_999)).await.unwrap();
    assert_eq!(found, Some(Grant { version: 2, ..changed }));
    assert_eq!(stores.grants.about(GrantKind::Code, stored.subject, at(1)).await.unwrap(), []);
    assert_eq!(stores.grants.about(GrantKind::Code, subject, at(1)).await.unwrap().len(), 1);
    let missing = stores.grants.replace(grant("b")).await;
    assert!(matches!(missing, Err(StoreError::Changed)), "{missing:?}");
}

async fn a_grant_that_was_made_anew_is_not_changed_by_who_read_the_old_one(stores: Stores) {
    let old = grant("a");
    stores.grants.put(old.clone()).await.unwrap();
    stores.grants.take(GrantKind::Code, "a", at(1)).await.unwrap().unwrap();
    let fresh = Grant { created_at: at(2), body: json!("fresh"), ..grant("a") };
    stores.grants.put(fresh.clone()).await.unwrap();
    let late = stores.grants.replace(old).await;
    assert!(matches!(late, Err(StoreError::Changed)), "{late:?}");
    assert_eq!(stores.grants.get(GrantKind::Code, "a", at(3)).await.unwrap(), Some(fresh));
}

async fn only_one_of_many_puts_at_a_time_wins(stores: Stores) {
    for round in 0..5 {
        let puts = (0..20).map(|_| stores.grants.put(grant(&format!("key {round}"))));
        let won = join_all(puts).await.iter().filter(|put| put.is_ok()).count();
        assert_eq!(won, 1);
    }
}

async fn only_one_of_many_changes_at_a_time_wins(stores: Stores) {
    let mut read = grant("a");
    stores.grants.put(read.clone()).await.unwrap();
    for round in 1..=5 {
        let changes = (0..20).map(|i| {
            let changed = Grant { body: json!(i), ..read.clone() };
            let stores = stores.clone();
            tokio::spawn(async move { stores.grants.replace(changed).await.ok().map(|version| (i, version)) })
        });
        let won: Vec<_> = join_all(changes).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        let (winner, version) = won[0];
        assert_eq!(version, round + 1);
        read = stores.grants.get(GrantKind::Code, "a", at(1)).await.unwrap().unwrap();
        assert_eq!((read.body.clone(), read.version), (json!(winner), version));
    }
}

async fn only_one_of_many_takers_gets_a_grant(stores: Stores) {
    for round in 0..5 {
        let key: Arc<str> = format!("key {round}").into();
        let stored = grant(&key);
        stores.grants.put(stored.clone()).await.unwrap();
        let takes = (0..20).map(|_| {
            let (stores, key) = (stores.clone(), key.clone());
            tokio::spawn(async move { stores.grants.take(GrantKind::Code, &key, at(1)).await.unwrap() })
        });
        let taken: Vec<_> = join_all(takes).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(taken, [stored]);
    }
}

async fn a_change_beside_a_taker_never_brings_a_grant_back(stores: Stores) {
    for round in 0..10 {
        let stored = grant(&format!("key {round}"));
        stores.grants.put(stored.clone()).await.unwrap();
        let change = stores.grants.replace(Grant { body: json!("changed"), ..stored.clone() });
        let take = stores.grants.take(GrantKind::Code, &stored.key, at(1));
        let (changed, taken) = tokio::join!(change, take);
        let taken = taken.unwrap().unwrap();
        assert_eq!(taken.version, if changed.is_ok() { 2 } else { 1 });
        assert_eq!(stores.grants.get(GrantKind::Code, &stored.key, at(1)).await.unwrap(), None);
    }
}

async fn all_grants_about_somebody_are_taken_at_once(stores: Stores) {
    let subject = Uuid::now_v7();
    for key in ["a", "b", "c"] {
        stores.grants.put(Grant { subject, ..grant(key) }).await.unwrap();
    }
    stores.grants.put(grant("of another")).await.unwrap();
    stores.grants.put(Grant { kind: GrantKind::Link, subject, ..grant("a") }).await.unwrap();
    assert_eq!(stores.grants.take_all(GrantKind::Code, subject).await.unwrap(), 3);
    assert_eq!(stores.grants.take_all(GrantKind::Code, subject).await.unwrap(), 0);
    assert!(stores.grants.get(GrantKind::Code, "of another", at(1)).await.unwrap().is_some());
    assert!(stores.grants.get(GrantKind::Link, "a", at(1)).await.unwrap().is_some());
}

async fn what_is_over_is_forgotten_and_the_rest_is_kept(stores: Stores) {
    for key in ["a", "b"] {
        stores.grants.put(grant(key)).await.unwrap();
    }
    stores.grants.put(Grant { expires_at: at(1_001), ..grant("stays") }).await.unwrap();
    for (key, window) in [("over", 1_000), ("runs", 1_001)] {
        stores.grants.count(key, Millis(window), 9, at(0)).await.unwrap();
    }
    let (over, stays) = (revocation(1, 1_000), revocation(1, 1_001));
    for revocation in [over, stays] {
        stores.grants.revoke(revocation).await.unwrap();
    }
    assert_eq!(stores.grants.forget_expired(at(1_000)).await.unwrap(), 4);
    assert_eq!(stores.grants.forget_expired(at(1_000)).await.unwrap(), 0);
    // What was forgotten is gone, however early one asks.
    assert_eq!(stores.grants.get(GrantKind::Code, "a", at(1)).await.unwrap(), None);
    assert!(stores.grants.get(GrantKind::Code, "stays", at(1)).await.unwrap().is_some());
    assert_eq!(stores.grants.count("runs", WINDOW, 9, at(1)).await.unwrap().count, 2);
    assert_eq!(stores.grants.count("over", WINDOW, 9, at(1)).await.unwrap().count, 1);
    assert_eq!(revoked(&stores, Timestamp::from_millis(0)).await, [stays.subject].into());
}

async fn a_counter_counts_within_its_window(stores: Stores) {
    for (now, count, left) in [(0, 1, 1_000), (1, 2, 999), (999, 3, 1), (1_000, 1, 1_000), (1_500, 2, 500)] {
        let counted = stores.grants.count("it's \"a\"", WINDOW, u64::MAX, at(now)).await.unwrap();
        assert_eq!((counted.count, counted.resets_after), (count, Millis(left)), "at {now}");
    }
    assert_eq!(stores.grants.count("another", WINDOW, 9, at(1)).await.unwrap().count, 1);
}

async fn beyond_the_most_it_is_told_but_not_counted(stores: Stores) {
    for (now, most, count) in
        [(0, 2, 1), (1, 2, 2), (2, 2, 3), (3, 2, 3), (4, 3, 3), (5, 1, 4), (1_000, 1, 1)]
    {
        let counted = stores.grants.count("a", WINDOW, most, at(now)).await.unwrap();
        assert_eq!(counted.count, count, "at {now}");
    }
    for now in [0, 1] {
        let counted = stores.grants.count("none", WINDOW, 0, at(now)).await.unwrap();
        assert_eq!((counted.count, counted.resets_after), (1, WINDOW), "at {now}");
    }
}

async fn a_forgotten_counter_starts_anew(stores: Stores) {
    for _ in 0..3 {
        stores.grants.count("a", WINDOW, 9, at(0)).await.unwrap();
    }
    stores.grants.forget_count("a").await.unwrap();
    stores.grants.forget_count("never counted").await.unwrap();
    let counted = stores.grants.count("a", WINDOW, 9, at(500)).await.unwrap();
    assert_eq!((counted.count, counted.resets_after), (1, WINDOW));
}

async fn count_at_once(stores: &Stores, most: u64) -> Vec<u64> {
    let counts = (0..50).map(|_| {
        let stores = stores.clone();
        tokio::spawn(async move { stores.grants.count("a", WINDOW, most, at(0)).await.unwrap().count })
    });
    let mut counts: Vec<_> = join_all(counts).await.into_iter().map(Result::unwrap).collect();
    counts.sort_unstable();
    counts
}

async fn many_counts_at_a_time_are_all_counted(stores: Stores) {
    assert_eq!(count_at_once(&stores, u64::MAX).await, (1..=50).collect::<Vec<_>>());
}

async fn many_counts_at_a_time_never_pass_the_most(stores: Stores) {
    let want: Vec<_> = (1..=10).chain(std::iter::repeat_n(11, 40)).collect();
    assert_eq!(count_at_once(&stores, 10).await, want);
}

fn revocation(least_epoch: u64, until: i64) -> Revocation {
    Revocation { subject: Uuid::now_v7(), least_epoch, at: at(-99_999_999), until: at(until) }
}

/// Whoever was revoked since then.
async fn revoked(stores: &Stores, since: Timestamp) -> BTreeSet<Uuid> {
    let (found, _) = stores.grants.revoked_since(since).await.unwrap();
    found.into_iter().map(|revocation| revocation.subject).collect()
}

async fn a_revocation_keeps_the_larger_epoch_and_the_later_end(stores: Stores) {
    let first = revocation(5, 2_000);
    let all = u64::MAX >> 1;
    for (least_epoch, until, want) in
        [(5, 2_000, (5, 2_000)), (3, 3_000, (5, 3_000)), (7, 1_000, (7, 3_000)), (all, 1, (all, 3_000))]
    {
        stores.grants.revoke(Revocation { least_epoch, until: at(until), ..first }).await.unwrap();
        let (found, _) = stores.grants.revoked_since(Timestamp::from_millis(0)).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|found| (found.subject, found.least_epoch, found.until)).collect();
        assert_eq!(found, [(first.subject, want.0, at(want.1))]);
    }
}

async fn a_revocation_is_seen_from_its_time_on(stores: Stores) {
    let (none, before) = stores.grants.revoked_since(Timestamp::from_millis(0)).await.unwrap();
    assert_eq!(none, []);
    let one = revocation(1, 9_000);
    stores.grants.revoke(one).await.unwrap();
    let (found, after) = stores.grants.revoked_since(before).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(before <= found[0].at && found[0].at <= after, "{before} {:?} {after}", found[0].at);
    assert_eq!(revoked(&stores, found[0].at).await, [one.subject].into());
    assert_eq!(revoked(&stores, found[0].at + Millis(1)).await, BTreeSet::new());
    // Revoked once more it is told once more.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    stores.grants.revoke(one).await.unwrap();
    assert_eq!(revoked(&stores, found[0].at + Millis(1)).await, [one.subject].into());
}

async fn a_reader_misses_no_revocation(stores: Stores) {
    let writers = (0..4).map(|_| {
        let stores = stores.clone();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for _ in 0..15 {
                let one = revocation(1, 9_000);
                stores.grants.revoke(one).await.unwrap();
                written.push(one.subject);
            }
            written
        })
    });
    let mut writers = tokio::spawn(join_all(writers));
    let (mut seen, mut last) = (BTreeSet::new(), Timestamp::from_millis(0));
    let mut look = async || {
        let since = last - Millis::from_secs(5);
        let (found, now) = stores.grants.revoked_since(since).await.unwrap();
        assert!(found.iter().all(|revocation| revocation.at >= since));
        seen.extend(found.iter().map(|revocation| revocation.subject));
        last = now;
    };
    let written = loop {
        tokio::select! {
            written = &mut writers => break written.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(2)) => look().await,
        }
    };
    look().await;
    let written: BTreeSet<_> = written.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!((written.len(), seen), (60, written));
}

#[tokio::test]
async fn grants_counters_and_revocations_survive_a_restart() {
    let file = File::fresh();
    let (stored, gone) = (grant("a"), revocation(3, 9_000));
    {
        let stores = file.open().await;
        stores.grants.put(stored.clone()).await.unwrap();
        stores.grants.count("tries", WINDOW, 9, at(0)).await.unwrap();
        stores.grants.revoke(gone).await.unwrap();
    }
    let stores = file.open().await;
    assert_eq!(stores.grants.get(GrantKind::Code, "a", at(1)).await.unwrap(), Some(stored));
    assert_eq!(stores.grants.count("tries", WINDOW, 9, at(1)).await.unwrap().count, 2);
    assert_eq!(revoked(&stores, Timestamp::from_millis(0)).await, [gone.subject].into());
}
