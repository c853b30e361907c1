//! The figures of the production stores: `cargo bench --bench stores [-- NAME…]`.
//!
//! Names: `append rows ack relay archive`; all of them without a name. It needs real servers, whose
//! addresses `scripts/services up DIR` writes to `DIR/env`. What is compared runs in turns within one
//! run, so that a busy machine is busy for both; medians are told.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made should stop")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures are far below 2^52"
)]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eml::actors::{self, AgentLimits, Engine, EngineSettings, WriterSettings};
use eml::domain::event::Event;
use eml::domain::id::{AgentId, CallId, FactId};
use eml::domain::record::{EntityRef, FactRecord, Summary};
use eml::domain::time::{Clock, Millis};
use eml::store::archive::ArchiveBatch;
use eml::store::journal::{Append, Journal as _};
use eml::store::postgres::PostgresStore;
use eml::store::{Stores, archive, bus};
use eml::telemetry::Metrics;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgPool};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: [&str; 5] = ["append", "rows", "ack", "relay", "archive"];
/// Facts of one batch where batches are large, and of one append.
const BATCH: usize = 5_000;
const FACTS: u64 = 10;
/// Rounds of a comparison, whose median counts.
const ROUNDS: usize = 7;

fn main() {
    let named: Vec<_> = std::env::args().skip(1).filter(|name| NAMES.contains(&name.as_str())).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in NAMES {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        runtime.block_on(async {
            match name {
                "append" => append().await,
                "rows" => rows().await,
                "ack" => ack().await,
                "relay" => relay().await,
                "archive" => archived().await,
                other => unreachable!("{other} is not in NAMES"),
            }
        });
    }
}

fn server(name: &str) -> String {
    std::env::var(format!("EML_TEST_{name}")).unwrap_or_else(|_| panic!("EML_TEST_{name} is not set"))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time since the machine started, in microseconds: of this process, and of PostgreSQL with all
/// of its processes, those that have ended included.
struct Spent {
    engine: f64,
    store: f64,
}

impl Spent {
    fn now() -> Self {
        let numbers = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let stats = numbers.filter_map(|number| std::fs::read_to_string(format!("/proc/{number}/stat")).ok());
        let store = stats.filter(|stat| stat.contains("(postgres)")).map(|stat| ticks(&stat, 4)).sum();
        Self { engine: ticks(&std::fs::read_to_string("/proc/self/stat").unwrap(), 2), store }
    }

    /// Per fact since then.
    fn per_fact(&self, facts: f64) -> String {
        let now = Self::now();
        let (engine, store) = ((now.engine - self.engine) / facts, (now.store - self.store) / facts);
        format!("CPU per fact {engine:.1} us here, {store:.1} us in the store")
    }
}

/// User and system time of a process, fields 14 and 15 of its line; with `count` 4 that of its ended
/// children too.
fn ticks(stat: &str, count: usize) -> f64 {
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(count);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// A database of this run.
async fn database() -> (String, PgPool) {
    let admin = PgPool::connect(&server("POSTGRES")).await.unwrap();
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.unwrap();
    let mut url = url::Url::parse(&server("POSTGRES")).unwrap();
    url.set_path(&name);
    (url.to_string(), PgPool::connect(url.as_str()).await.unwrap())
}

fn fact(entity: EntityRef, seq: u64) -> FactRecord {
    let body = format!(
        r#"{{"leg_moved":{{"leg_id":"leg_01m86pzwmkes2reptwpzmja5vf","status":"connected","end":null,"carrier_at":"2026-11-24T12:02:50.000Z","n":{seq}}}}}"#
    );
    FactRecord {
        id: FactId::fresh(),
        entity,
        seq,
        at: Clock.now(),
        kind: "call.leg_moved".into(),
        body: RawValue::from_string(body).unwrap(),
        cause: None,
    }
}

/// An append of a new entity. A session's, so that only facts and heads are compared with rows.
fn fresh_append(facts: u64) -> Append {
    let entity = EntityRef::from(AgentId::fresh());
    Append {
        entity,
        after_seq: 0,
        facts: (1..=facts).map(|seq| fact(entity, seq)).collect(),
        summary: Summary::Agent { open: true },
        refs: Vec::new(),
    }
}

fn batch() -> Vec<Append> {
    (0..BATCH as u64 / FACTS).map(|_| fresh_append(FACTS)).collect()
}

/// The rows of a batch in the text format of COPY.
fn copy_text(batch: &[Append]) -> String {
    let mut text = String::new();
    for fact in batch.iter().flat_map(|append| &append.facts) {
        let shard = eml::domain::placement::shard_of(fact.entity);
        let (seq, at, kind) = (fact.seq, fact.at.millis(), fact.entity.kind.code());
        let (entity, id) = (fact.entity.id, fact.id.uuid());
        let (word, body) = (&fact.kind, fact.body.get());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{seq}\t{at}\t{entity}\t{id}\t{shard}\t{kind}\t{word}\t{body}");
    }
    text
}

/// Durable facts per second: batches of the journal, raw COPY of the same rows into a table with the
/// same indexes, single INSERTs over 10 connections.
async fn append() {
    let (url, pool) = database().await;
    let store = PostgresStore::open(&url).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE raw (LIKE facts INCLUDING ALL); ALTER TABLE raw ALTER position SET DEFAULT nextval('facts_position')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let columns = "seq, at, entity_id, fact_id, shard, entity_kind, kind, body";
    let (mut ours, mut copies, mut singles) = (Vec::new(), Vec::new(), Vec::new());
    let (mut of_batches, mut of_copies, mut of_singles) = (String::new(), String::new(), String::new());
    let mut raw_connection = pool.acquire().await.unwrap();
    for round in 0..=ROUNDS {
        let batches: Vec<_> = (0..4).map(|_| batch()).collect();
        let (started, spent) = (Instant::now(), Spent::now());
        for batch in batches {
            store.append(batch).await.unwrap();
        }
        let own = 4.0 * BATCH as f64 / started.elapsed().as_secs_f64();
        of_batches = spent.per_fact(4.0 * BATCH as f64);
        let texts: Vec<_> = (0..4).map(|_| copy_text(&batch())).collect();
        let (started, spent) = (Instant::now(), Spent::now());
        for text in &texts {
            let mut copy =
                raw_connection.copy_in_raw(&format!("COPY raw ({columns}) FROM STDIN")).await.unwrap();
            copy.send(text.as_bytes()).await.unwrap();
            copy.finish().await.unwrap();
        }
        let raw = 4.0 * BATCH as f64 / started.elapsed().as_secs_f64();
        of_copies = spent.per_fact(4.0 * BATCH as f64);
        let spent = Spent::now();
        let single = single_inserts(&url, columns).await;
        of_singles = spent.per_fact(600.0);
        if round > 0 {
            ours.push(own);
            copies.push(raw);
            singles.push(single);
        }
    }
    let (own, raw, single) = (median(&mut ours), median(&mut copies), median(&mut singles));
    println!(
        "append: {own:.0} facts/s in batches of {BATCH}, raw COPY {raw:.0}/s ({:.2} of it), single INSERTs over 10 \
         connections {single:.0}/s ({:.0} x)",
        own / raw,
        own / single
    );
    println!("append: batches {of_batches}; COPY {of_copies}; single INSERTs {of_singles}");
}

async fn single_inserts(url: &str, columns: &str) -> f64 {
    const EACH: usize = 60;
    let insert = format!("INSERT INTO raw ({columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(<sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap());
    }
    let started = Instant::now();
    let tasks = connections.into_iter().map(|mut connection| {
        let insert = insert.clone();
        tokio::spawn(async move {
            for fact in fresh_append(EACH as u64).facts {
                let query = sqlx::query(AssertSqlSafe(insert.clone()))
                    .bind(fact.seq as i64)
                    .bind(fact.at.millis())
                    .bind(fact.entity.id)
                    .bind(fact.id.uuid())
                    .bind(0_i16)
                    .bind(2_i16)
                    .bind(fact.kind.to_string())
                    .bind(fact.body.get().to_owned());
                query.execute(&mut connection).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    10.0 * EACH as f64 / started.elapsed().as_secs_f64()
}

/// Whether a row costs the same when there are many: `EML_BENCH_ROWS` of them, 1,000,000 by default.
async fn rows() {
    let all: usize =
        std::env::var("EML_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let (url, pool) = database().await;
    let store = PostgresStore::open(&url).await.unwrap();
    let tenth = all / 10 / BATCH;
    for part in 1..=10 {
        let started = Instant::now();
        for _ in 0..tenth {
            store.append(batch()).await.unwrap();
        }
        let rate = (tenth * BATCH) as f64 / started.elapsed().as_secs_f64();
        println!("rows: {} of {all} stored, {rate:.0} facts/s", part * tenth * BATCH);
    }
    drop(pool);
}

fn engine_settings() -> EngineSettings {
    EngineSettings {
        node: "bench".to_owned(),
        writer: WriterSettings { flush_rows: 1_024, flush_after: Millis(0), queue_rows: 20_000 },
        park_after: Millis::from_secs(30),
        max_active_calls: 1_000_000,
        replay_events: 100,
        agents: AgentLimits {
            grace: Millis::from_secs(20),
            missed_limit: 2,
            reject_backoff: Millis::from_secs(10),
            busy_backoff: Millis::from_secs(60),
        },
    }
}

/// Appends at a steady rate of facts, 4 each; answers how long each waited, in milliseconds.
async fn steady(engine: &Engine, per_second: u64, length: Duration) -> Vec<f64> {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let (began, mut sent) = (Instant::now(), 0);
    let mut tasks = tokio::task::JoinSet::new();
    while began.elapsed() < length {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * per_second as f64 / 4.0) as u64;
        while sent < due {
            sent += 1;
            let (engine, waits) = (engine.clone(), waits.clone());
            tasks.spawn(async move {
                let append = fresh_append(4);
                let asked = Instant::now();
                engine.writer().append(append).await.unwrap();
                waits.lock().unwrap().push(asked.elapsed().as_secs_f64() * 1_000.0);
            });
        }
    }
    while tasks.join_next().await.is_some() {}
    let mut waits = std::mem::take(&mut *waits.lock().unwrap());
    waits.sort_by(f64::total_cmp);
    waits
}

/// How long an append waits for its acknowledgement at steady rates.
async fn ack() {
    let (url, _pool) = database().await;
    let stores = eml::store::open(&url).await.unwrap();
    let engine = actors::start(engine_settings(), stores, Metrics::new(), None).await.unwrap();
    steady(&engine, 2_000, Duration::from_secs(2)).await;
    for rate in [5_000, 20_000] {
        let spent = Spent::now();
        let waits = steady(&engine, rate, Duration::from_secs(10)).await;
        let spent = spent.per_fact(waits.len() as f64 * 4.0);
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        println!(
            "ack: {rate} facts/s asked, {:.0}/s stored: p50 {:.1} ms, p99 {:.1} ms; {spent}",
            waits.len() as f64 * 4.0 / 10.0,
            at(0.5),
            at(0.99)
        );
    }
}

fn events(count: usize) -> Vec<Event> {
    let entity = EntityRef::from(CallId::fresh());
    (1..=count as u64).map(|seq| Event::of(&fact(entity, seq), "bench")).collect()
}

/// Events per second to a quorum queue: the bus in pages of 2,000, and a bare publisher that awaits
/// its confirms in the same pages. Then the lag of the whole relay at 5,000 facts/s.
async fn relay() {
    const PAGE: usize = 2_000;
    let url = server("RABBIT");
    let bus = bus::open(&url).await.unwrap();
    bus.publish(&events(1)).await.unwrap();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    quorum.insert("x-max-length".into(), AMQPValue::LongInt(10_000));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = format!("bench_{}", uuid::Uuid::now_v7().simple());
    channel.queue_declare(queue.as_str().into(), durable, quorum).await.unwrap();
    let bind = QueueBindOptions::default();
    let (name, key) = (queue.as_str().into(), "call.leg_moved".into());
    channel.queue_bind(name, "eml.events".into(), key, bind, FieldTable::default()).await.unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let page = events(PAGE);
        let started = Instant::now();
        bus.publish(&page).await.unwrap();
        let own = PAGE as f64 / started.elapsed().as_secs_f64();
        let page: Vec<_> = page.iter().map(|event| serde_json::to_vec(event).unwrap()).collect();
        let started = Instant::now();
        let mut confirms = Vec::new();
        for body in &page {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish(
                "eml.events".into(),
                "call.leg_moved".into(),
                options,
                body,
                properties,
            );
            confirms.push(sent.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        if round > 0 {
            ours.push(own);
            bare.push(PAGE as f64 / started.elapsed().as_secs_f64());
        }
    }
    let (own, plain) = (median(&mut ours), median(&mut bare));
    println!("relay: {own:.0} events/s, bare publisher {plain:.0}/s ({:.2} of it)", own / plain);
    relay_lag(bus).await;
    channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
}

async fn relay_lag(bus: Arc<dyn bus::Bus>) {
    let (url, _pool) = database().await;
    let stores = Stores { bus, ..eml::store::open(&url).await.unwrap() };
    let metrics = Metrics::new();
    let engine = actors::start(engine_settings(), stores, metrics.clone(), None).await.unwrap();
    steady(&engine, 5_000, Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = metrics.encode();
    let buckets = text.lines().filter(|line| line.starts_with("eml_relay_lag_seconds_bucket"));
    let counts: Vec<(String, f64)> = buckets
        .map(|line| {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let bound = labels.split_once("le=\"").unwrap().1.split('"').next().unwrap();
            (bound.to_owned(), count.parse().unwrap())
        })
        .collect();
    let all = counts.last().unwrap().1;
    let bound = |share: f64| counts.iter().find(|(_, count)| *count >= all * share).unwrap().0.clone();
    println!(
        "relay: lag at 5000 facts/s: p50 <= {} s, p99 <= {} s of {all} deliveries",
        bound(0.5),
        bound(0.99)
    );
}

/// Facts per second into the archive.
async fn archived() {
    let mut url = url::Url::parse(&server("MONGO")).unwrap();
    url.set_path(&format!("bench_{}", uuid::Uuid::now_v7().simple()));
    let archive = archive::open(url.as_str()).await.unwrap();
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let facts: Vec<_> = batch().into_iter().flat_map(|append| append.facts).collect();
        let started = Instant::now();
        archive.store(&ArchiveBatch { facts, ..ArchiveBatch::default() }).await.unwrap();
        if round > 0 {
            rates.push(BATCH as f64 / started.elapsed().as_secs_f64());
        }
    }
    println!("archive: {:.0} facts/s in batches of {BATCH}", median(&mut rates));
}
