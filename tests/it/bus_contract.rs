//! What every bus product does.
//!
//! Each behaviour has names of its own for events and queues, so that all can share one broker.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eml::domain::event::Event;
use eml::domain::time::Millis;
use eml::store::bus::{Bus, Delivery, Job, RETURNS_LIMIT, Subscription, Verdict, WorkQueue, Worker};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Longer than anything that comes takes.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to say that nothing comes.
const QUIET: Duration = Duration::from_millis(400);

/// Runs each behaviour on each product, as a test of its own.
macro_rules! on_both_buses {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Site::of(eml::store::memory::MemoryBus::default())).await;
            })*
        }

        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(url) = crate::support::services::Service::Rabbit.url() else { return };
                let bus = eml::store::rabbitmq::RabbitBus::open(&url).await.unwrap();
                let site = super::Site::of(bus);
                let queues = site.queues.clone();
                let ended = tokio::spawn(super::$behaviour(site)).await;
                let queues = queues.lock().unwrap().clone();
                crate::rabbitmq::delete(&url, &queues).await;
                ended.unwrap();
            })*
        }
    };
}

on_both_buses! {
    events_arrive_in_order_with_all_they_have
    a_subscriber_gets_what_is_like_its_pattern_and_nothing_else
    two_subscribers_get_every_event
    an_event_without_a_subscriber_is_published_all_the_same
    an_event_published_twice_arrives_twice_with_its_id
    five_thousand_events_fit_in_one_publish
    each_job_goes_to_one_of_two_workers
    a_worker_holds_no_more_jobs_than_its_prefetch
    a_job_that_is_done_does_not_come_again
    a_job_to_retry_comes_again_after_its_wait_and_is_dead_after_the_last
    a_hopeless_job_is_dead_at_once
    a_job_dropped_without_a_verdict_comes_again_as_the_same_attempt
    a_job_that_is_never_settled_is_dead_in_the_end
    a_verdict_can_be_given_when_the_worker_is_gone
    dead_jobs_stay_in_their_order_however_often_they_are_looked_at
    waiting_for_a_job_can_be_given_up
    nothing_comes_from_a_bus_that_was_closed
    a_bus_that_is_there_answers
}

/// A bus, and names that nobody else uses.
pub(crate) struct Site {
    pub(crate) bus: Arc<dyn Bus>,
    /// Begins the type of each event of this behaviour.
    pub(crate) tag: String,
    /// The queues that were named, to be deleted afterwards.
    queues: Arc<Mutex<Vec<WorkQueue>>>,
}

impl Site {
    pub(crate) fn of(bus: impl Bus) -> Self {
        let tag = format!("t{}", Uuid::now_v7().simple());
        Self { bus: Arc::new(bus), tag, queues: Arc::default() }
    }

    pub(crate) fn event(&self, kind: &str, sequence: u64) -> Event {
        event(&format!("{}.{kind}", self.tag), sequence)
    }

    pub(crate) fn queue(&self, retry_after: &[u64]) -> WorkQueue {
        let mut queues = self.queues.lock().unwrap();
        let name = format!("eml.test.{}.{}", self.tag, queues.len());
        let queue = WorkQueue { name, retry_after: retry_after.iter().map(|wait| Millis(*wait)).collect() };
        queues.push(queue.clone());
        queue
    }

    pub(crate) fn queues(&self) -> Vec<WorkQueue> {
        self.queues.lock().unwrap().clone()
    }

    /// Subscribes to the events of this behaviour that end like this.
    async fn subscribe(&self, ending: &str) -> Box<dyn Subscription> {
        self.bus.subscribe(&format!("{}.{ending}", self.tag)).await.unwrap()
    }
}

pub(crate) fn event(kind: &str, sequence: u64) -> Event {
    Event {
        specversion: "1.0".into(),
        id: format!("fact_{}", Uuid::now_v7().simple()),
        source: "/nodes/test".into(),
        kind: kind.into(),
        subject: format!("call_{sequence}"),
        time: "2026-11-24T12:00:00.123Z".into(),
        datacontenttype: "application/json".into(),
        sequence,
        causationid: None,
        data: RawValue::from_string(format!(r#"{{"note":"\"né\" {sequence}","n":1.50}}"#)).unwrap(),
    }
}

pub(crate) fn jobs(count: usize) -> Vec<Job> {
    (1..=count).map(|i| Job { id: format!("job_{i}"), body: format!(r#"{{"n":{i},"of":"é"}}"#) }).collect()
}

pub(crate) async fn next_event(events: &mut Box<dyn Subscription>) -> Event {
    timeout(LONG, events.next()).await.expect("an event comes").expect("the bus is open")
}

pub(crate) async fn next_job(worker: &mut Box<dyn Worker>) -> Box<dyn Delivery> {
    timeout(LONG, worker.next()).await.expect("a job comes").expect("the bus is open")
}

async fn is_quiet(worker: &mut Box<dyn Worker>) -> bool {
    timeout(QUIET, worker.next()).await.is_err()
}

/// The dead jobs, as soon as there are this many.
async fn await_dead(site: &Site, queue: &WorkQueue, count: usize) -> Vec<Job> {
    let begin = Instant::now();
    loop {
        let dead = site.bus.dead(queue, 100).await.unwrap();
        if dead.len() >= count {
            return dead;
        }
        assert!(begin.elapsed() < LONG, "{} of {count} jobs are dead", dead.len());
        sleep(Duration::from_millis(20)).await;
    }
}

async fn events_arrive_in_order_with_all_they_have(site: Site) {
    let mut events = site.subscribe("*").await;
    let sent: Vec<_> = (1..=100).map(|i| site.event("call.held", i)).collect();
    for part in sent.chunks(30) {
        site.bus.publish(part).await.unwrap();
    }
    for sent in sent {
        let found = next_event(&mut events).await;
        assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&sent).unwrap());
        assert_eq!(found.data.get(), sent.data.get());
    }
}

async fn a_subscriber_gets_what_is_like_its_pattern_and_nothing_else(site: Site) {
    let kinds = ["call.queued", "call.quiet", "offer.created", "call.queue.left", "call.ended", "last"];
    let mut subscribers = Vec::new();
    for (pattern, want) in [
        ("call.*", &["call.queued", "call.quiet", "call.queue.left", "call.ended"][..]),
        ("call.queued", &["call.queued"]),
        ("call.qu*e*d", &["call.queued"]),
        ("*.created", &["offer.created"]),
        ("*", &kinds[..5]),
        ("call", &[]),
    ] {
        // Each ends with the last event, so that what it does not get is known without a wait.
        subscribers.push((pattern, want, site.subscribe(pattern).await, site.subscribe("last").await));
    }
    let sent: Vec<_> = kinds.iter().zip(1..).map(|(kind, i)| site.event(kind, i)).collect();
    site.bus.publish(&sent).await.unwrap();
    site.bus.publish(&[event(&format!("other.{}", site.tag), 1)]).await.unwrap();
    for (pattern, want, mut events, mut end) in subscribers {
        assert_eq!(next_event(&mut end).await.kind, format!("{}.last", site.tag));
        let mut found = Vec::new();
        while let Ok(Some(event)) = timeout(QUIET, events.next()).await {
            found.push(event.kind.strip_prefix(&format!("{}.", site.tag)).unwrap().to_owned());
        }
        found.retain(|kind| kind != "last");
        assert_eq!(found, want, "{pattern}");
    }
}

async fn two_subscribers_get_every_event(site: Site) {
    let (mut one, mut two) = (site.subscribe("*").await, site.subscribe("call.*").await);
    let sent: Vec<_> = (1..=20).map(|i| site.event("call.held", i)).collect();
    site.bus.publish(&sent).await.unwrap();
    for sent in &sent {
        assert_eq!(next_event(&mut one).await.id, sent.id);
        assert_eq!(next_event(&mut two).await.id, sent.id);
    }
}

async fn an_event_without_a_subscriber_is_published_all_the_same(site: Site) {
    site.bus.publish(&[site.event("call.held", 1)]).await.unwrap();
    site.bus.publish(&[]).await.unwrap();
    let mut events = site.subscribe("*").await;
    site.bus.publish(&[site.event("call.held", 2)]).await.unwrap();
    assert_eq!(next_event(&mut events).await.sequence, 2, "events of before do not come");
}

async fn an_event_published_twice_arrives_twice_with_its_id(site: Site) {
    let mut events = site.subscribe("*").await;
    let sent = site.event("call.held", 1);
    site.bus.publish(&[sent.clone(), sent.clone()]).await.unwrap();
    site.bus.publish(std::slice::from_ref(&sent)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(next_event(&mut events).await.id, sent.id);
    }
}

async fn five_thousand_events_fit_in_one_publish(site: Site) {
    let mut events = site.subscribe("*").await;
    let sent: Vec<_> = (1..=5_000).map(|i| site.event("call.held", i)).collect();
    site.bus.publish(&sent).await.unwrap();
    for sent in &sent {
        let found = next_event(&mut events).await;
        assert_eq!((found.sequence, &found.id), (sent.sequence, &sent.id));
    }
}

async fn each_job_goes_to_one_of_two_workers(site: Site) {
    let queue = site.queue(&[]);
    let mut one = site.bus.work(&queue, 1).await.unwrap();
    let mut two = site.bus.work(&queue, 1).await.unwrap();
    site.bus.enqueue(&queue, &jobs(20)).await.unwrap();
    let (mut ids, mut shares) = (HashSet::new(), [0, 0]);
    for round in 0..10 {
        // Both hold a job at a time, so neither can have taken all.
        for (share, worker) in shares.iter_mut().zip([&mut one, &mut two]) {
            let delivery = next_job(worker).await;
            assert!(ids.insert(delivery.job().id.clone()), "round {round}: {:?} came twice", delivery.job());
            delivery.settle(Verdict::Done).await.unwrap();
            *share += 1;
        }
    }
    assert_eq!((ids.len(), shares), (20, [10, 10]));
    assert!(is_quiet(&mut one).await && is_quiet(&mut two).await);
}

async fn a_worker_holds_no_more_jobs_than_its_prefetch(site: Site) {
    let queue = site.queue(&[]);
    site.bus.enqueue(&queue, &jobs(5)).await.unwrap();
    let mut worker = site.bus.work(&queue, 2).await.unwrap();
    let (first, second) = (next_job(&mut worker).await, next_job(&mut worker).await);
    assert_eq!((first.job(), second.job()), (&jobs(2)[0], &jobs(2)[1]), "the oldest come first");
    assert!(is_quiet(&mut worker).await);
    second.settle(Verdict::Done).await.unwrap();
    let third = next_job(&mut worker).await;
    assert!(is_quiet(&mut worker).await);
    let mut other = site.bus.work(&queue, 2).await.unwrap();
    let fourth = next_job(&mut other).await;
    assert_eq!((third.job(), fourth.job()), (&jobs(4)[2], &jobs(4)[3]));
}

async fn a_job_that_is_done_does_not_come_again(site: Site) {
    let queue = site.queue(&[10]);
    let mut worker = site.bus.work(&queue, 5).await.unwrap();
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    let delivery = next_job(&mut worker).await;
    assert_eq!((delivery.job(), delivery.attempt()), (&jobs(1)[0], 1));
    delivery.settle(Verdict::Done).await.unwrap();
    assert!(is_quiet(&mut worker).await);
    assert!(site.bus.dead(&queue, 10).await.unwrap().is_empty());
}

async fn a_job_to_retry_comes_again_after_its_wait_and_is_dead_after_the_last(site: Site) {
    let queue = site.queue(&[700, 200]);
    let mut worker = site.bus.work(&queue, 5).await.unwrap();
    site.bus.enqueue(&queue, &jobs(2)).await.unwrap();
    let first = next_job(&mut worker).await;
    next_job(&mut worker).await.settle(Verdict::Done).await.unwrap();
    let mut begin = Instant::now();
    first.settle(Verdict::Retry).await.unwrap();
    for (attempt, wait) in [(2, 700), (3, 200)] {
        let again = next_job(&mut worker).await;
        assert_eq!((again.job(), again.attempt()), (&jobs(1)[0], attempt), "the same job");
        assert!(begin.elapsed() >= Duration::from_millis(wait - 20), "too early: {:?}", begin.elapsed());
        assert!(site.bus.dead(&queue, 10).await.unwrap().is_empty());
        begin = Instant::now();
        again.settle(Verdict::Retry).await.unwrap();
    }
    assert_eq!(site.bus.dead(&queue, 10).await.unwrap(), jobs(1));
    assert!(is_quiet(&mut worker).await);
}

async fn a_hopeless_job_is_dead_at_once(site: Site) {
    let queue = site.queue(&[10, 10]);
    let mut worker = site.bus.work(&queue, 5).await.unwrap();
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    next_job(&mut worker).await.settle(Verdict::Dead).await.unwrap();
    assert_eq!(site.bus.dead(&queue, 10).await.unwrap(), jobs(1));
    assert!(is_quiet(&mut worker).await);
}

async fn a_job_dropped_without_a_verdict_comes_again_as_the_same_attempt(site: Site) {
    let queue = site.queue(&[10, 10]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    next_job(&mut worker).await.settle(Verdict::Retry).await.unwrap();
    for _ in 0..3 {
        let delivery = next_job(&mut worker).await;
        assert_eq!((delivery.job(), delivery.attempt()), (&jobs(1)[0], 2));
        drop(delivery);
    }
    // Also when the worker ends with it, and another takes its place.
    let delivery = next_job(&mut worker).await;
    drop(worker);
    drop(delivery);
    let mut other = site.bus.work(&queue, 1).await.unwrap();
    let delivery = next_job(&mut other).await;
    assert_eq!((delivery.job(), delivery.attempt()), (&jobs(1)[0], 2));
    delivery.settle(Verdict::Done).await.unwrap();
}

async fn a_job_that_is_never_settled_is_dead_in_the_end(site: Site) {
    let queue = site.queue(&[10]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    site.bus.enqueue(&queue, &jobs(1)).await.unwrap();
    for _ in 0..=RETURNS_LIMIT {
        drop(next_job(&mut worker).await);
    }
    assert_eq!(await_dead(&site, &queue, 1).await, jobs(1));
    assert!(is_quiet(&mut worker).await);
}

async fn a_verdict_can_be_given_when_the_worker_is_gone(site: Site) {
    let queue = site.queue(&[]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    site.bus.enqueue(&queue, &jobs(2)).await.unwrap();
    let delivery = next_job(&mut worker).await;
    drop(worker);
    delivery.settle(Verdict::Done).await.unwrap();
    let mut other = site.bus.work(&queue, 5).await.unwrap();
    let rest = next_job(&mut other).await;
    assert_eq!(rest.job(), &jobs(2)[1]);
    assert!(is_quiet(&mut other).await);
}

async fn dead_jobs_stay_in_their_order_however_often_they_are_looked_at(site: Site) {
    let queue = site.queue(&[]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    site.bus.enqueue(&queue, &jobs(6)).await.unwrap();
    for i in 0..6 {
        let verdict = if i % 2 == 0 { Verdict::Dead } else { Verdict::Retry };
        next_job(&mut worker).await.settle(verdict).await.unwrap();
    }
    for limit in [3, 100, 1, 6, 4, 100] {
        let dead = site.bus.dead(&queue, limit).await.unwrap();
        assert_eq!(dead, jobs(6.min(limit)), "the oldest {limit}");
    }
}

async fn waiting_for_a_job_can_be_given_up(site: Site) {
    let queue = site.queue(&[]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    let mut events = site.subscribe("*").await;
    for i in 1..=20 {
        let wait = Duration::from_micros(i * 150);
        let (early_job, early_event) = (timeout(wait, worker.next()), timeout(wait, events.next()));
        let sent = site.event("call.held", i);
        let (batch, published) = (jobs(1), std::slice::from_ref(&sent));
        let (job, event, put, told) = tokio::join!(
            early_job,
            early_event,
            site.bus.enqueue(&queue, &batch),
            site.bus.publish(published)
        );
        put.unwrap();
        told.unwrap();
        let delivery = match job {
            Ok(delivery) => delivery.unwrap(),
            Err(_) => next_job(&mut worker).await,
        };
        let event = match event {
            Ok(event) => event.unwrap(),
            Err(_) => next_event(&mut events).await,
        };
        assert_eq!(event.sequence, i);
        delivery.settle(Verdict::Done).await.unwrap();
    }
    assert!(is_quiet(&mut worker).await);
}

async fn nothing_comes_from_a_bus_that_was_closed(site: Site) {
    let queue = site.queue(&[]);
    let mut worker = site.bus.work(&queue, 1).await.unwrap();
    let mut events = site.subscribe("*").await;
    drop(site.bus);
    assert!(timeout(LONG, worker.next()).await.expect("it ends").is_none());
    assert!(timeout(LONG, events.next()).await.expect("it ends").is_none());
}

async fn a_bus_that_is_there_answers(site: Site) {
    site.bus.ping().await.unwrap();
}
