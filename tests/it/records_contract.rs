//! What every product for configuration records does.

use eml::domain::time::Timestamp;
use eml::store::records::{RecordKind, RememberedAnswer, StoredRecord};
use eml::store::{StoreError, Stores};
use uuid::Uuid;

use crate::samples::{at, on_every_product};

on_every_product! {
    a_record_comes_back_as_it_was
    records_of_a_kind_are_listed_by_key
    a_taken_key_or_id_is_refused
    a_change_needs_the_version_that_was_read
    a_key_may_move_but_not_onto_another_record
    a_removed_record_is_gone_and_its_key_free
    an_idempotency_key_is_claimed_once
    only_one_of_many_claims_at_a_time_wins
    a_settled_key_answers_and_a_freed_one_does_not
    an_old_key_is_forgotten
    an_orphan_is_taken
}

fn record(key: &str) -> StoredRecord {
    StoredRecord {
        id: Uuid::now_v7(),
        key: key.to_owned(),
        body: serde_json::json!({"name": key, "tags": ["a", "b"]}),
        version: 1,
        created_at: at(1),
        updated_at: at(2),
    }
}

async fn a_record_comes_back_as_it_was(stores: Stores) {
    for kind in RecordKind::ALL {
        let sent = record("ana");
        stores.records.insert(kind, sent.clone()).await.unwrap();
        assert_eq!(stores.records.by_id(kind, sent.id).await.unwrap().as_ref(), Some(&sent));
        assert_eq!(stores.records.by_key(kind, "ana").await.unwrap().as_ref(), Some(&sent));
        assert_eq!(stores.records.by_key(kind, "ANA").await.unwrap(), None);
        assert_eq!(stores.records.by_id(kind, Uuid::now_v7()).await.unwrap(), None);
    }
}

async fn records_of_a_kind_are_listed_by_key(stores: Stores) {
    for key in ["carla", "Bob", "ana", "élan"] {
        stores.records.insert(RecordKind::User, record(key)).await.unwrap();
    }
    stores.records.insert(RecordKind::Agent, record("dora")).await.unwrap();
    let users = stores.records.all(RecordKind::User).await.unwrap();
    assert_eq!(users.iter().map(|user| &*user.key).collect::<Vec<_>>(), ["Bob", "ana", "carla", "élan"]);
    assert_eq!(stores.records.all(RecordKind::Queue).await.unwrap(), []);
}

async fn a_taken_key_or_id_is_refused(stores: Stores) {
    let first = record("ana");
    stores.records.insert(RecordKind::User, first.clone()).await.unwrap();
    let same_id = StoredRecord { id: first.id, ..record("bob") };
    for double in [record("ana"), same_id] {
        let refused = stores.records.insert(RecordKind::User, double).await;
        assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    }
    assert_eq!(stores.records.all(RecordKind::User).await.unwrap(), [first]);
}

async fn a_change_needs_the_version_that_was_read(stores: Stores) {
    let first = record("ana");
    stores.records.insert(RecordKind::Queue, first.clone()).await.unwrap();
    let change =
        StoredRecord { body: serde_json::json!(7), created_at: at(50), updated_at: at(60), ..first.clone() };
    assert_eq!(stores.records.update(RecordKind::Queue, change.clone()).await.unwrap(), 2);
    let found = stores.records.by_id(RecordKind::Queue, first.id).await.unwrap().unwrap();
    assert_eq!(found, StoredRecord { version: 2, created_at: first.created_at, ..change.clone() });
    for late in [change, record("nobody")] {
        let refused = stores.records.update(RecordKind::Queue, late).await;
        assert!(matches!(refused, Err(StoreError::Changed)), "{refused:?}");
    }
}

async fn a_key_may_move_but_not_onto_another_record(stores: Stores) {
    let (ana, bob) = (record("ana"), record("bob"));
    for user in [&ana, &bob] {
        stores.records.insert(RecordKind::User, user.clone()).await.unwrap();
    }
    let taken =
        stores.records.update(RecordKind::User, StoredRecord { key: "bob".into(), ..ana.clone() }).await;
    assert!(matches!(taken, Err(StoreError::Exists(ref key)) if key == "bob"), "{taken:?}");
    stores.records.update(RecordKind::User, StoredRecord { key: "eva".into(), ..ana.clone() }).await.unwrap();
    assert_eq!(stores.records.by_key(RecordKind::User, "ana").await.unwrap(), None);
    assert_eq!(stores.records.by_key(RecordKind::User, "eva").await.unwrap().unwrap().id, ana.id);
    stores.records.insert(RecordKind::User, record("ana")).await.unwrap();
}

async fn a_removed_record_is_gone_and_its_key_free(stores: Stores) {
    let first = record("ana");
    stores.records.insert(RecordKind::Skill, first.clone()).await.unwrap();
    assert!(!stores.records.remove(RecordKind::Agent, first.id).await.unwrap());
    assert!(stores.records.remove(RecordKind::Skill, first.id).await.unwrap());
    assert!(!stores.records.remove(RecordKind::Skill, first.id).await.unwrap());
    stores.records.insert(RecordKind::Skill, record("ana")).await.unwrap();
}

fn answer(status: u16, body: &str) -> RememberedAnswer {
    RememberedAnswer { request_hash: "h1".into(), status, body: body.into() }
}

async fn claim(stores: &Stores, now: Timestamp, expired_before: Timestamp) -> Option<RememberedAnswer> {
    stores.records.claim_key("k1", answer(0, ""), now, expired_before).await.unwrap()
}

async fn an_idempotency_key_is_claimed_once(stores: Stores) {
    assert_eq!(claim(&stores, at(10), at(0)).await, None);
    let other = RememberedAnswer { request_hash: "h2".into(), ..answer(0, "") };
    let found = stores.records.claim_key("k1", other.clone(), at(11), at(0)).await.unwrap();
    assert_eq!(found, Some(answer(0, "")), "the first request's hash is kept");
    assert_eq!(stores.records.claim_key("k2", other, at(11), at(0)).await.unwrap(), None);
}

async fn only_one_of_many_claims_at_a_time_wins(stores: Stores) {
    let claims = (0..16).map(|_| {
        let stores = stores.clone();
        tokio::spawn(async move { claim(&stores, at(10), at(0)).await })
    });
    let mut winners = 0;
    for claim in claims.collect::<Vec<_>>() {
        winners += u32::from(claim.await.unwrap().is_none());
    }
    assert_eq!(winners, 1);
}

async fn a_settled_key_answers_and_a_freed_one_does_not(stores: Stores) {
    assert_eq!(claim(&stores, at(10), at(0)).await, None);
    stores.records.settle_key("k1", Some(answer(201, "made"))).await.unwrap();
    assert_eq!(claim(&stores, at(11), at(0)).await, Some(answer(201, "made")));
    stores.records.settle_key("k1", None).await.unwrap();
    assert_eq!(claim(&stores, at(12), at(0)).await, None);
}

async fn an_old_key_is_forgotten(stores: Stores) {
    assert_eq!(claim(&stores, at(10), at(0)).await, None);
    stores.records.settle_key("k1", Some(answer(200, "old"))).await.unwrap();
    assert!(claim(&stores, at(20), at(10)).await.is_some(), "exactly as old as allowed");
    assert_eq!(claim(&stores, at(20), at(11)).await, None);
    stores.records.settle_key("gone", Some(answer(200, "late"))).await.unwrap();
    assert_eq!(stores.records.claim_key("gone", answer(0, ""), at(20), at(0)).await.unwrap(), None);
}

async fn an_orphan_is_taken(stores: Stores) {
    stores.records.keep_orphan("twilio", "status", "CallSid=CA9", at(1)).await.unwrap();
}
