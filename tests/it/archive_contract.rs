//! What every archive does.

use std::collections::BTreeMap;
use std::sync::Arc;

use eml::domain::id::{CallId, CommandId, FactId, QueueId};
use eml::domain::record::{CallSummary, EntityRef, FactRecord};
use eml::domain::time::{Millis, Timestamp};
use eml::store::archive::{Archive, ArchiveBatch, IntervalStats, ProviderPayload, ReportResult, payload_of};
use eml::store::history::{CallCursor, CallFilter};
use serde_json::value::RawValue;

use crate::samples::{at, call, fact};
use crate::support::services::Service;

macro_rules! on_every_archive {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(eml::store::open("memory:").await.unwrap().archive).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let file = crate::samples::File::fresh();
                super::$behaviour(file.open().await.archive).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(schema) = crate::samples::Schema::fresh().await else { return };
                super::$behaviour(schema.open().await.archive).await;
                schema.remove().await;
            })*
        }

        mod mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(database) = super::Mongo::fresh() else { return };
                super::$behaviour(eml::store::archive::open(&database.url).await.unwrap()).await;
                database.remove().await;
            })*
        }
    };
}

/// A database of its own in the MongoDB of the tests.
pub(crate) struct Mongo {
    pub(crate) url: String,
    name: String,
}

impl Mongo {
    pub(crate) fn fresh() -> Option<Self> {
        let name = format!("eml_test_{}", uuid::Uuid::now_v7().simple());
        let mut url = url::Url::parse(&Service::Mongo.url()?).unwrap();
        url.set_path(&name);
        Some(Self { url: url.to_string(), name })
    }

    pub(crate) async fn database(&self) -> ::mongodb::Database {
        ::mongodb::Client::with_uri_str(&self.url).await.unwrap().database(&self.name)
    }

    pub(crate) async fn remove(self) {
        self.database().await.drop().await.unwrap();
    }
}

on_every_archive! {
    facts_come_back_byte_for_byte_and_in_order
    what_is_stored_twice_is_there_once
    two_who_store_the_same_at_a_time_store_it_once
    facts_of_several_months_are_one_stream
    a_later_summary_replaces_an_earlier_one
    calls_are_filtered_and_paged_in_both_orders
    payloads_come_back_in_the_order_of_arrival
    intervals_are_replaced_and_read_by_span
    reports_are_replaced
    a_large_batch_is_stored_whole
    an_empty_batch_changes_nothing
}

const MONTH: i64 = 31 * 24 * 3_600 * 1_000;

async fn store(archive: &Arc<dyn Archive>, facts: Vec<FactRecord>) {
    archive.store(&ArchiveBatch { facts, ..ArchiveBatch::default() }).await.unwrap();
}

fn seqs(facts: &[FactRecord]) -> Vec<u64> {
    facts.iter().map(|fact| fact.seq).collect()
}

async fn facts_come_back_byte_for_byte_and_in_order(archive: Arc<dyn Archive>) {
    let entity = EntityRef::from(CallId::fresh());
    let mut sent: Vec<_> = (1..=5).map(|seq| fact(entity, seq)).collect();
    sent[2].body = RawValue::from_string(r#"{ "Odd" :{"a.b":1.50,"$x":"\u00e4"}}"#.to_owned()).unwrap();
    sent[3].cause = Some(CommandId::fresh());
    sent.reverse();
    store(&archive, sent.clone()).await;
    sent.reverse();
    let found = archive.facts(entity, 0, 10).await.unwrap();
    assert_eq!(seqs(&found), [1, 2, 3, 4, 5]);
    for (found, sent) in found.iter().zip(&sent) {
        assert_eq!((found.id, found.at, &found.kind), (sent.id, sent.at, &sent.kind));
        assert_eq!((found.body.get(), found.cause), (sent.body.get(), sent.cause));
    }
    assert_eq!(seqs(&archive.facts(entity, 2, 2).await.unwrap()), [3, 4]);
    assert!(archive.facts(CallId::fresh().into(), 0, 10).await.unwrap().is_empty());
}

async fn what_is_stored_twice_is_there_once(archive: Arc<dyn Archive>) {
    let entity = EntityRef::from(CallId::fresh());
    let facts: Vec<_> = (1..=3).map(|seq| fact(entity, seq)).collect();
    store(&archive, facts[..2].to_vec()).await;
    store(&archive, facts.clone()).await;
    store(&archive, [facts.clone(), facts.clone()].concat()).await;
    assert_eq!(seqs(&archive.facts(entity, 0, 10).await.unwrap()), [1, 2, 3]);
    assert_eq!(archive.count_facts(at(0), at(100)).await.unwrap(), 3);
}

async fn two_who_store_the_same_at_a_time_store_it_once(archive: Arc<dyn Archive>) {
    let entity = EntityRef::from(CallId::fresh());
    let facts: Vec<_> = (1..=200).map(|seq| fact(entity, seq)).collect();
    let one = tokio::spawn({
        let (archive, facts) = (archive.clone(), facts.clone());
        async move { store(&archive, facts).await }
    });
    store(&archive, facts).await;
    one.await.unwrap();
    assert_eq!(seqs(&archive.facts(entity, 0, 500).await.unwrap()), (1..=200).collect::<Vec<_>>());
}

async fn facts_of_several_months_are_one_stream(archive: Arc<dyn Archive>) {
    let entity = EntityRef::from(CallId::fresh());
    let mut facts: Vec<_> = (1..=4).map(|seq| fact(entity, seq)).collect();
    for (months, fact) in facts.iter_mut().enumerate() {
        fact.at = at(i64::try_from(months).unwrap() * MONTH);
    }
    store(&archive, facts).await;
    assert_eq!(seqs(&archive.facts(entity, 0, 10).await.unwrap()), [1, 2, 3, 4]);
    assert_eq!(seqs(&archive.facts(entity, 1, 2).await.unwrap()), [2, 3]);
    assert_eq!(archive.count_facts(at(MONTH), at(3 * MONTH)).await.unwrap(), 2, "from is in, to is not");
}

fn over(id: CallId, started_at: Timestamp) -> CallSummary {
    CallSummary { state: "ended".into(), status: "completed".into(), is_open: false, ..call(id, started_at) }
}

async fn store_calls(archive: &Arc<dyn Archive>, calls: Vec<CallSummary>) {
    archive.store(&ArchiveBatch { calls, ..ArchiveBatch::default() }).await.unwrap();
}

async fn a_later_summary_replaces_an_earlier_one(archive: Arc<dyn Archive>) {
    let id = CallId::fresh();
    let first = over(id, at(1));
    let noted = CallSummary { note: Some("called back".into()), ..first.clone() };
    store_calls(&archive, vec![first.clone()]).await;
    store_calls(&archive, vec![noted.clone()]).await;
    assert_eq!(
        archive.calls(&CallFilter::default(), None, false, 10).await.unwrap(),
        std::slice::from_ref(&noted)
    );
    store_calls(&archive, vec![first, noted.clone()]).await;
    assert_eq!(archive.calls(&CallFilter::default(), None, false, 10).await.unwrap(), [noted]);
}

async fn calls_are_filtered_and_paged_in_both_orders(archive: Arc<dyn Archive>) {
    let queue = QueueId::fresh();
    let mut calls: Vec<_> = (0..7).map(|n| over(CallId::fresh(), at(n / 2))).collect();
    calls[3].queue_id = Some(queue);
    calls[4].status = "busy".into();
    store_calls(&archive, calls.clone()).await;
    calls.sort_by_key(|call| (call.started_at, call.id));
    for ascending in [true, false] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = archive.calls(&CallFilter::default(), after, ascending, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(CallCursor { started_at: last.started_at, id: last.id });
            seen.extend(page);
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, calls, "ascending: {ascending}");
    }
    let found = |filter: CallFilter| {
        let archive = archive.clone();
        async move { archive.calls(&filter, None, true, 10).await.unwrap().len() }
    };
    let any = CallFilter::default;
    assert_eq!(found(CallFilter { queue: vec![queue], ..any() }).await, 1);
    assert_eq!(found(CallFilter { status: vec!["busy".into()], ..any() }).await, 1);
    assert_eq!(found(CallFilter { status: vec!["ended".into()], ..any() }).await, 7, "states count too");
    assert_eq!(found(CallFilter { open: Some(true), ..any() }).await, 0, "what is archived is over");
    assert_eq!(found(CallFilter { number: Some("+12025550100".into()), ..any() }).await, 7);
    assert_eq!(found(CallFilter { from: Some("+12025550100".into()), ..any() }).await, 0);
    let span = CallFilter { started_after: Some(at(1)), started_before: Some(at(3)), ..any() };
    assert_eq!(found(span).await, 4);
}

async fn payloads_come_back_in_the_order_of_arrival(archive: Arc<dyn Archive>) {
    let call_id = CallId::fresh();
    let payload = |n: i64| ProviderPayload {
        fact_id: FactId::fresh(),
        call_id,
        name: "status:ringing".into(),
        fields: serde_json::json!({ "CallSid": "CA1", "odd.name": n }),
        at: at(n),
    };
    let sent = vec![payload(3), payload(1), payload(2)];
    for _ in 0..2 {
        archive.store(&ArchiveBatch { payloads: sent.clone(), ..ArchiveBatch::default() }).await.unwrap();
    }
    let found = archive.payloads(call_id).await.unwrap();
    assert_eq!(found, [sent[1].clone(), sent[2].clone(), sent[0].clone()]);
    assert!(archive.payloads(CallId::fresh()).await.unwrap().is_empty());
}

async fn intervals_are_replaced_and_read_by_span(archive: Arc<dyn Archive>) {
    let quarter = Millis::from_secs(900);
    let interval = |n: i64, offered: i64| IntervalStats {
        scope: "que_1".into(),
        starts_at: at(n * 900_000),
        length: quarter,
        figures: BTreeMap::from([("offered".into(), offered), ("wait_ms".into(), -1)]),
    };
    archive.put_intervals(&[interval(0, 1), interval(1, 2), interval(2, 3)]).await.unwrap();
    archive.put_intervals(&[interval(1, 20)]).await.unwrap();
    let hour = IntervalStats { length: Millis::from_secs(3_600), ..interval(1, 99) };
    archive.put_intervals(&[hour, IntervalStats { scope: "all".into(), ..interval(1, 98) }]).await.unwrap();
    let found = archive.intervals("que_1", quarter, at(0), at(2 * 900_000)).await.unwrap();
    assert_eq!(found, [interval(0, 1), interval(1, 20)]);
}

async fn reports_are_replaced(archive: Arc<dyn Archive>) {
    assert_eq!(archive.report("r1").await.unwrap(), None);
    let report = |rows: u64| ReportResult {
        id: "r1".into(),
        name: "summary".into(),
        made_at: at(5),
        body: serde_json::json!({ "rows": rows }),
    };
    archive.put_report(&report(1)).await.unwrap();
    archive.put_report(&report(2)).await.unwrap();
    assert_eq!(archive.report("r1").await.unwrap(), Some(report(2)));
}

async fn a_large_batch_is_stored_whole(archive: Arc<dyn Archive>) {
    let entities: Vec<_> = (0..500).map(|_| EntityRef::from(CallId::fresh())).collect();
    let facts = entities.iter().flat_map(|entity| (1..=10).map(|seq| fact(*entity, seq))).collect();
    store(&archive, facts).await;
    assert_eq!(archive.count_facts(at(0), at(100)).await.unwrap(), 5_000);
    assert_eq!(seqs(&archive.facts(entities[321], 0, 20).await.unwrap()), (1..=10).collect::<Vec<_>>());
}

async fn an_empty_batch_changes_nothing(archive: Arc<dyn Archive>) {
    archive.store(&ArchiveBatch::default()).await.unwrap();
    archive.ping().await.unwrap();
    assert_eq!(archive.count_facts(at(0), at(100)).await.unwrap(), 0);
}

#[test]
fn only_a_report_of_a_carrier_holds_a_payload() {
    let entity = EntityRef::from(CallId::fresh());
    let mut reported = fact(entity, 1);
    assert_eq!(payload_of(&reported), None);
    reported.kind = "call.carrier_reported".into();
    let body = r#"{"carrier_reported":{"key":1,"name":"status:busy","occurred_at":null,"fields":{"a":"b"}}}"#;
    reported.body = RawValue::from_string(body.to_owned()).unwrap();
    let payload = payload_of(&reported).unwrap();
    assert_eq!((payload.fact_id, payload.name.as_str()), (reported.id, "status:busy"));
    assert_eq!(payload.fields, serde_json::json!({ "a": "b" }));
}
