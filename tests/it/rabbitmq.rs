//! What only a broker can show: how messages look to others, what is declared, that it may restart.

mod broker;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eml::domain::time::Millis;
use eml::store::StoreError;
use eml::store::bus::{Bus, Subscription, Verdict, WorkQueue};
use eml::store::rabbitmq::{DEAD_EXCHANGE, EVENTS_EXCHANGE, RabbitBus, dead_queue, retry_queue};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::bus_contract::{Site, event, jobs, next_event, next_job};
use crate::support::services::Service;
use broker::Broker;

const LONG: Duration = Duration::from_secs(20);

/// A bare client on the broker; the connection lives as long as the channel.
async fn bare(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Deletes queues with all that belongs to them.
pub(crate) async fn delete(url: &str, queues: &[WorkQueue]) {
    let (_connection, channel) = bare(url).await;
    for queue in queues {
        let retries = queue.retry_after.iter().map(|wait| retry_queue(&queue.name, *wait));
        for name in retries.chain([queue.name.clone(), dead_queue(&queue.name)]) {
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        }
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

async fn site(url: &str) -> Site {
    Site::of(RabbitBus::open(url).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_a_persistent_cloud_event_to_everybody_else() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let (_connection, channel) = bare(&url).await;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let sent = site.event("call.held", 7);
    let key = sent.kind.as_str().into();
    let binding = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.name().clone(), EVENTS_EXCHANGE.into(), key, binding.0, binding.1)
        .await
        .unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consuming = channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default());
    let mut messages = consuming.await.unwrap();

    site.bus.publish(std::slice::from_ref(&sent)).await.unwrap();
    let message = timeout(LONG, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.exchange.as_str(), EVENTS_EXCHANGE);
    assert_eq!(message.routing_key.as_str(), sent.kind);
    let properties = &message.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), sent.id);
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "eml");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), sent.kind);
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(*properties.timestamp(), Some(1_795_521_600), "2026-11-24T12:00:00Z in seconds");
    let body: Value = serde_json::from_slice(&message.data).unwrap();
    let want = serde_json::json!({
        "specversion": "1.0", "id": sent.id, "source": "/nodes/test", "type": sent.kind,
        "subject": "call_7", "time": "2026-11-24T12:00:00.123Z", "datacontenttype": "application/json",
        "sequence": 7, "data": {"note": "\"né\" 7", "n": 1.5},
    });
    assert_eq!(body, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_and_queues_are_durable_and_queues_are_replicated() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let queue = site.queue(&[60_000]);
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    for (name, kind) in [(EVENTS_EXCHANGE, ExchangeKind::Topic), (DEAD_EXCHANGE, ExchangeKind::Direct)] {
        let (_connection, channel) = bare(&url).await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let again = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default()).await;
        again.unwrap();
        let options = ExchangeDeclareOptions::default();
        let other = channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await;
        assert!(other.unwrap_err().to_string().contains("'durable'"), "{name} is durable");
    }
    let handed_on = |exchange: &'static str| {
        vec![
            ("x-dead-letter-exchange", text(exchange)),
            ("x-dead-letter-routing-key", text(&queue.name)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]
    };
    let work = [handed_on(DEAD_EXCHANGE), vec![("x-delivery-limit", number(100))]].concat();
    let retry = [handed_on(""), vec![("x-message-ttl", number(60_000))]].concat();
    let dead = vec![("x-max-length", number(10_000)), ("x-delivery-limit", number(i32::MAX.into()))];
    for (name, arguments) in [
        (queue.name.clone(), work),
        (retry_queue(&queue.name, Millis(60_000)), retry),
        (dead_queue(&queue.name), dead),
    ] {
        for (kind, is_same) in [("quorum", true), ("classic", false)] {
            let (_connection, channel) = bare(&url).await;
            let mut table = FieldTable::default();
            for (argument, value) in arguments.iter().cloned().chain([("x-queue-type", text(kind))]) {
                table.insert(argument.into(), value);
            }
            let options = QueueDeclareOptions::durable();
            let again = channel.queue_declare(name.as_str().into(), options, table).await;
            assert_eq!(again.is_ok(), is_same, "{name} {kind}: {again:?}");
        }
    }
    delete(&url, &site.queues()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_job_goes_to_the_dead_and_stops_nobody() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let queue = site.queue(&[]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    let (_connection, channel) = bare(&url).await;
    let key = queue.name.as_str().into();
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), key, options, b"\xff?", BasicProperties::default()).await.unwrap();
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    assert_eq!(next_job(&mut worker).await.job(), &jobs(1)[0]);
    let begin = Instant::now();
    let dead = loop {
        let dead = site.bus.dead(&queue, 10).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
        assert!(begin.elapsed() < LONG, "it is not among the dead");
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((dead.len(), dead[0].id.as_str(), dead[0].body.as_str()), (1, "", "\u{fffd}?"));
    delete(&url, &site.queues()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_made_again_and_a_job_never_gets_lost_unnoticed() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let queue = site.queue(&[10]);
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    delete(&url, std::slice::from_ref(&queue)).await;
    let lost = site.bus.enqueue(&queue, &jobs(1)).await;
    assert!(matches!(lost, Err(StoreError::InDoubt(_))), "{lost:?}");
    site.bus.enqueue(&queue, &jobs(2)).await.unwrap();
    let mut worker = site.bus.work(&queue, 2).await.unwrap();
    let (one, two) = (next_job(&mut worker).await, next_job(&mut worker).await);
    let found = BTreeSet::from([one.job().id.clone(), two.job().id.clone()]);
    assert_eq!(found, BTreeSet::from(["job_1".to_owned(), "job_2".to_owned()]));
    // A worker whose queue is taken away goes on with the new one.
    delete(&url, std::slice::from_ref(&queue)).await;
    // The broker tells it so a moment later; who makes the queue again before that keeps it waiting.
    sleep(Duration::from_millis(500)).await;
    let waiting = tokio::spawn(async move { next_job(&mut worker).await.job().clone() });
    while site.bus.enqueue(&queue, &jobs(1)).await.is_err() {}
    assert_eq!(waiting.await.unwrap(), jobs(1)[0]);
    delete(&url, &site.queues()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_outlive_the_bus_that_put_them() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let queue = site.queue(&[300]);
    site.bus.enqueue(&queue, &jobs(3)).await.unwrap();
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    next_job(&mut worker).await.settle(Verdict::Retry).await.unwrap();
    next_job(&mut worker).await.settle(Verdict::Dead).await.unwrap();
    let (queues, held) = (site.queues(), next_job(&mut worker).await);
    drop((site, worker));

    let bus = RabbitBus::open(&url).await.unwrap();
    let mut worker = bus.work(&queue, 1).await.unwrap();
    let mut found = BTreeSet::new();
    for _ in 0..2 {
        let delivery = next_job(&mut worker).await;
        found.insert((delivery.job().id.clone(), delivery.attempt()));
        delivery.settle(Verdict::Done).await.unwrap();
    }
    assert_eq!(found, BTreeSet::from([("job_1".to_owned(), 2), ("job_3".to_owned(), 1)]));
    assert_eq!(bus.dead(&queue, 5).await.unwrap(), [jobs(2)[1].clone()]);
    assert!(held.settle(Verdict::Done).await.is_err(), "its connection is gone and the job came again");
    bus.close().await;
    assert!(matches!(bus.ping().await, Err(StoreError::Unavailable(_))));
    delete(&url, &queues).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_cannot_be_read_or_does_not_let_us_in_is_refused() {
    for url in ["", "amqp", "http://broker", "redis://broker:1", "amqp://broker:port", "amqp://b?heartbeat=x"]
    {
        let refused = RabbitBus::open(url).await.map(drop);
        let Err(StoreError::Refused(text)) = refused else { panic!("{url}: {refused:?}") };
        assert!(text.contains("amqp://USER:PASSWORD@HOST:PORT/VHOST"), "{url}: {text}");
    }
    let Some(url) = Service::Rabbit.url() else { return };
    let (_, host) = url.split_once('@').unwrap();
    let host = host.split('/').next().unwrap();
    for wrong in [
        format!("amqp://eml:wrong-password@{host}"),
        format!("amqp://nobody:secret@{host}"),
        format!("{}/no-such-place", url.trim_end_matches('/')),
    ] {
        let begin = Instant::now();
        let refused = RabbitBus::open(&wrong).await.map(drop);
        let Err(StoreError::Refused(text)) = refused else { panic!("{wrong}: {refused:?}") };
        assert!(!text.contains("password"), "{text}");
        assert!(begin.elapsed() < LONG, "said at once");
    }
    // A broker without TLS does not answer a client with; that is an outage and no crash.
    let bus = RabbitBus::open(&url.replace("amqp://", "amqps://")).await.unwrap();
    assert!(matches!(bus.ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_too_long_are_refused_before_anything_is_sent() {
    let Some(url) = Service::Rabbit.url() else { return };
    let site = site(&url).await;
    let long = "x".repeat(300);
    let mut events = site.bus.subscribe(&format!("{}.*", site.tag)).await.unwrap();
    let refused = site.bus.publish(&[site.event("call.held", 1), event(&long, 2)]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let queue = WorkQueue { name: long.clone(), retry_after: Vec::new() };
    assert!(matches!(site.bus.enqueue(&queue, &jobs(1)).await, Err(StoreError::Refused(_))));
    assert!(matches!(site.bus.subscribe(&long).await.map(drop), Err(StoreError::Refused(_))));
    site.bus.publish(&[site.event("call.held", 3)]).await.unwrap();
    assert_eq!(next_event(&mut events).await.sequence, 3);
}

/// Publishes numbered events in batches until told to stop; gives the ids that were confirmed.
async fn publish_on(bus: Arc<dyn Bus>, kind: String, stop: Arc<AtomicBool>) -> HashSet<String> {
    let mut confirmed = HashSet::new();
    let mut sequence = 0;
    while !stop.load(Ordering::SeqCst) {
        let batch: Vec<_> = (1..=20).map(|i| event(&kind, sequence + i)).collect();
        // As the relay does: the same batch until it is confirmed.
        while bus.publish(&batch).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        confirmed.extend(batch.into_iter().map(|event| event.id));
        sequence += 20;
        sleep(Duration::from_millis(5)).await;
    }
    confirmed
}

/// Puts jobs until told to stop; gives the ids that were confirmed.
async fn enqueue_on(bus: Arc<dyn Bus>, queue: WorkQueue, stop: Arc<AtomicBool>) -> HashSet<String> {
    let mut confirmed = HashSet::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut job = jobs(1).remove(0);
        number += 1;
        job.id = format!("job_{number}");
        // Given up when it failed, so that only what was confirmed is asked for.
        if bus.enqueue(&queue, std::slice::from_ref(&job)).await.is_ok() {
            confirmed.insert(job.id);
        }
        sleep(Duration::from_millis(5)).await;
    }
    confirmed
}

/// Works jobs, each with one retry, until it is stopped; notes the ids that were done.
async fn work_on(bus: Arc<dyn Bus>, queue: WorkQueue, done: Arc<Mutex<HashSet<String>>>) {
    let mut worker = bus.work(&queue, 10).await.unwrap();
    while let Some(delivery) = worker.next().await {
        let id = delivery.job().id.clone();
        let verdict = if delivery.attempt() == 1 { Verdict::Retry } else { Verdict::Done };
        if delivery.settle(verdict).await.is_ok() && verdict == Verdict::Done {
            done.lock().unwrap().insert(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_comes_back_loses_nothing_that_was_confirmed() {
    let Some(broker) = Broker::start() else { return };
    let site = site(&broker.url()).await;
    let (queue, kind) = (site.queue(&[100]), format!("{}.call.held", site.tag));
    // What the outside keeps: a durable queue with every event.
    let (keeping, channel) = bare(&broker.url()).await;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare("kept".into(), options, FieldTable::default()).await.unwrap();
    let binding = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind("kept".into(), EVENTS_EXCHANGE.into(), "#".into(), binding.0, binding.1)
        .await
        .unwrap();
    drop((channel, keeping));

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let mut events = site.bus.subscribe(&kind).await.unwrap();
    let publishing = tokio::spawn(publish_on(site.bus.clone(), kind.clone(), stop.clone()));
    let putting = tokio::spawn(enqueue_on(site.bus.clone(), queue.clone(), stop.clone()));
    let working = tokio::spawn(work_on(site.bus.clone(), queue.clone(), done.clone()));
    next_event(&mut events).await;

    sleep(Duration::from_secs(2)).await;
    broker.kill();
    let begin = Instant::now();
    let away = site.bus.ping().await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(begin.elapsed() < LONG, "it says so soon");
    sleep(Duration::from_secs(1)).await;
    let done_before = done.lock().unwrap().len();
    tokio::task::block_in_place(|| broker.start_again());
    let back = Instant::now();
    while site.bus.ping().await.is_err() {
        assert!(back.elapsed() < LONG, "the bus does not find the broker again");
        sleep(Duration::from_millis(50)).await;
    }
    await_marker(&site, &kind, &mut events).await;
    sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::SeqCst);
    let (published, put) = (publishing.await.unwrap(), putting.await.unwrap());

    let missing = |found: &HashSet<String>, want: &HashSet<String>| want.difference(found).count();
    let begin = Instant::now();
    while missing(&done.lock().unwrap(), &put) > 0 {
        let left = missing(&done.lock().unwrap(), &put);
        assert!(begin.elapsed() < LONG, "{left} of {} confirmed jobs are lost", put.len());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(done.lock().unwrap().len() > done_before, "the worker went on by itself");
    let kept = all_kept(&broker.url(), &published).await;
    assert_eq!(missing(&kept, &published), 0, "of {} confirmed events", published.len());
    println!("{} events and {} jobs were confirmed, none lost", published.len(), put.len());
    drop((site, working));
}

/// Waits until a subscriber gets what was published after the restart, and not only what it still
/// held of before.
async fn await_marker(site: &Site, kind: &str, events: &mut Box<dyn Subscription>) {
    let (marker, begin) = (event(kind, u64::MAX), Instant::now());
    while begin.elapsed() < LONG {
        site.bus.publish(std::slice::from_ref(&marker)).await.unwrap();
        for _ in 0..100 {
            match timeout(Duration::from_millis(500), events.next()).await {
                Ok(found) if found.as_ref().is_some_and(|found| found.id == marker.id) => return,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the subscription has ended"),
                Err(_) => break,
            }
        }
    }
    panic!("the subscriber does not go on");
}

/// The ids of the events in the queue that keeps all, read until the wanted are complete or no more come.
async fn all_kept(url: &str, wanted: &HashSet<String>) -> HashSet<String> {
    let (_connection, channel) = bare(url).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consuming = channel.basic_consume("kept".into(), "".into(), options, FieldTable::default());
    let (mut messages, mut found) = (consuming.await.unwrap(), HashSet::new());
    while !found.is_superset(wanted) {
        let Ok(message) = timeout(Duration::from_secs(5), messages.next()).await else { break };
        let message = message.unwrap().unwrap();
        found.insert(message.properties.message_id().as_ref().unwrap().to_string());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_at_the_start_is_found_when_it_comes() {
    let Some(broker) = Broker::start() else { return };
    broker.kill();
    let bus = RabbitBus::open(&broker.url()).await.unwrap();
    assert!(matches!(bus.ping().await, Err(StoreError::Unavailable(_))));
    let begin = Instant::now();
    let refused = bus.publish(&[event("call.held", 1)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(begin.elapsed() < LONG, "it waits a bounded time");
    tokio::task::block_in_place(|| broker.start_again());
    let mut events = bus.subscribe("call.*").await.unwrap();
    bus.publish(&[event("call.held", 1)]).await.unwrap();
    assert_eq!(next_event(&mut events).await.sequence, 1);
}
