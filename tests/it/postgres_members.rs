//! What only a server can show of nodes and shards: its own clock, frozen sessions, lost connections.

use std::time::{Duration, Instant};

use eml::domain::id::CallId;
use eml::domain::node::NodeRef;
use eml::domain::time::{Clock, Millis};
use eml::store::StoreError;
use eml::store::journal::{AppendOutcome, Journal as _};
use eml::store::members::{Change, Heart as _, Members};
use eml::store::postgres::PostgresStore;
use sqlx::PgConnection;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::members_contract::node;
use crate::samples::{Schema, append};

const LEASE: Millis = Millis::from_secs(60);
const SOON: Duration = Duration::from_secs(5);
const STORED: AppendOutcome = AppendOutcome::Stored;

/// A clock of the server's that a test can set.
const CLOCK: &str = "CREATE TABLE ahead (span interval NOT NULL); INSERT INTO ahead VALUES ('0'); \
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
    $$ SELECT pg_catalog.clock_timestamp() + span FROM ahead $$";

async fn open(schema: &Schema) -> PostgresStore {
    PostgresStore::open(&schema.url()).await.unwrap()
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.unwrap();
}

/// Ends all connections of a schema whose last statement is like this; answers how many.
async fn end_those_that_said(schema: &Schema, statement: &str) -> i64 {
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE $1 \
        AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()";
    let mut connection = schema.connect().await;
    sqlx::query_scalar(ended).bind(statement).fetch_one(&mut connection).await.unwrap()
}

async fn next(changes: &mut Receiver<Change>) -> Change {
    timeout(SOON, changes.recv()).await.expect("a change is told").unwrap()
}

#[tokio::test]
async fn leases_go_by_the_clock_of_the_server_whatever_the_nodes_clock_shows() {
    let Some(schema) = Schema::fresh().await else { return };
    schema.run(CLOCK).await;
    // Named last, the built-in functions give way to ours.
    let url = schema.url().replace("&application_name", "%2Cpg_catalog&application_name");
    for shown in ["3 hours", "-3 hours"] {
        let store = PostgresStore::open(&url).await.unwrap();
        schema.run(&format!("UPDATE ahead SET span = '{shown}'")).await;
        let a = store.register(&node("a"), LEASE).await.unwrap();
        let view = store.view().await.unwrap();
        let (now, ours) = (view.now.millis(), Clock.now().millis());
        assert!((now - ours).abs() > 2 * 3_600_000, "the server's clock shows {}, ours {ours}", view.now);
        assert_eq!(view.nodes[0].lease_until, view.nodes[0].started_at + LEASE);
        assert!(view.nodes[0].lease_until.since(view.now) > Millis::from_secs(50), "{view:?}");
        assert!(!store.declare_dead(&a, true).await.unwrap(), "its lease has just begun");
        schema.run("UPDATE ahead SET span = span + interval '59 seconds'").await;
        assert!(store.renew(&a, LEASE).await.unwrap());
        schema.run("UPDATE ahead SET span = span + interval '59 seconds'").await;
        assert!(!store.declare_dead(&a, true).await.unwrap(), "it was renewed");
        schema.run("UPDATE ahead SET span = span + interval '2 seconds'").await;
        assert!(store.declare_dead(&a, true).await.unwrap(), "now it is over");
    }
    schema.remove().await;
}

#[tokio::test]
async fn a_node_that_froze_within_a_batch_does_not_hold_up_its_death() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), LEASE).await.unwrap();
    for end in ["declared dead", "restarted"] {
        // A batch whose node says nothing more between its statement and its commit.
        let mut frozen = schema.connect().await;
        run(&mut frozen, "BEGIN; SELECT FROM nodes FOR KEY SHARE").await;
        let since = Instant::now();
        match end {
            "declared dead" => assert!(store.declare_dead(&a, false).await.unwrap()),
            _ => drop(store.register(&node("a"), LEASE).await.unwrap()),
        }
        assert!(since.elapsed() < Duration::from_secs(2), "{end} after {:?}", since.elapsed());
        assert!(sqlx::raw_sql("COMMIT").execute(&mut frozen).await.is_err(), "what it did is undone");
    }
    schema.remove().await;
}

#[tokio::test]
async fn who_renews_while_others_want_it_dead_lives_on() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), Millis(0)).await.unwrap();
    let mut batch = schema.connect().await;
    // Busy, not silent, so it is waited for.
    run(&mut batch, "BEGIN; SELECT FROM nodes FOR KEY SHARE").await;
    let busy = tokio::spawn(async move {
        run(&mut batch, "SELECT pg_sleep(0.6)").await;
        run(&mut batch, "COMMIT").await;
    });
    let (killer, dying) = (store.clone(), a.clone());
    let death = tokio::spawn(async move { killer.declare_dead(&dying, true).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let renewed = timeout(Duration::from_millis(300), store.renew(&a, LEASE)).await;
    assert!(renewed.expect("it does not wait behind them").unwrap());
    assert!(!death.await.unwrap(), "its lease goes on");
    busy.await.unwrap();
    schema.remove().await;
}

#[tokio::test]
async fn a_renewal_changes_one_row_within_its_page() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), LEASE).await.unwrap();
    let mut heart = store.heart();
    for _ in 0..200 {
        assert!(heart.renew(&a, LEASE, SOON).await.unwrap());
    }
    drop(heart);
    let mut observer = schema.connect().await;
    let counted = async {
        loop {
            let counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
                          WHERE relid = 'nodes'::regclass";
            let counts: (i64, i64) = sqlx::query_as(counts).fetch_one(&mut observer).await.unwrap();
            if counts.0 >= 200 {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (updates, within) = timeout(SOON, counted).await.expect("the server counts");
    // Another test's transaction may keep old versions of the row for a moment, until the page is full.
    assert!(updates == 200 && within >= 180, "{within} of {updates} within their page");
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heart_beats_in_time_or_says_so_and_goes_on_afterwards() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), LEASE).await.unwrap();
    let mut heart = store.heart();
    assert!(heart.renew(&a, LEASE, SOON).await.unwrap());
    assert_eq!(end_those_that_said(&schema, "UPDATE nodes SET lease_until%").await, 1);
    assert!(heart.renew(&a, LEASE, SOON).await.unwrap(), "a lost connection is opened again at once");

    let mut holder = schema.connect().await;
    run(&mut holder, "BEGIN; SELECT FROM nodes FOR UPDATE").await;
    let since = Instant::now();
    let late = heart.renew(&a, LEASE, Duration::from_millis(200)).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    run(&mut holder, "ROLLBACK").await;
    assert!(heart.renew(&a, LEASE, SOON).await.unwrap());
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heart_and_a_take_over_wait_for_no_list() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), LEASE).await.unwrap();
    let mut holder = schema.connect().await;
    run(&mut holder, "BEGIN; LOCK TABLE records IN ACCESS EXCLUSIVE MODE").await;
    // More than there are connections for.
    let lists: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let _ =
                    eml::store::records::Records::all(&store, eml::store::records::RecordKind::User).await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let acted = timeout(Duration::from_secs(1), async {
        assert!(store.heart().renew(&a, LEASE, SOON).await.unwrap());
        let b = store.register(&node("b"), LEASE).await.unwrap();
        assert!(store.declare_dead(&a, false).await.unwrap());
        store.claim(&b, &[1, 2]).await.unwrap()
    });
    assert_eq!(acted.await.expect("no waiting"), [1, 2]);
    run(&mut holder, "ROLLBACK").await;
    for list in lists {
        list.await.unwrap();
    }
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_goes_on_after_a_lost_connection_and_says_that_some_was_missed() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, other) = (open(&schema).await, open(&schema).await);
    let mut changes = store.changes();
    assert_eq!(next(&mut changes).await, Change::Unknown);
    other.register(&node("a"), LEASE).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes, "by another node");
    for round in 0..3 {
        assert_eq!(end_those_that_said(&schema, "%current_schema()::text%").await, 1, "the listening one");
        // Once when it broke, and once when it is back.
        assert_eq!(next(&mut changes).await, Change::Unknown, "{round}");
        assert_eq!(next(&mut changes).await, Change::Unknown, "{round}");
        other.register(&node("a"), LEASE).await.unwrap();
        assert_eq!(next(&mut changes).await, Change::Nodes, "{round}");
    }
    store.close().await;
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_beside_ours_in_the_same_database_is_not_heard() {
    let (Some(schema), Some(other)) = (Schema::fresh().await, Schema::fresh().await) else { return };
    let (store, stranger) = (open(&schema).await, open(&other).await);
    let mut changes = store.changes();
    assert_eq!(next(&mut changes).await, Change::Unknown);
    let b = stranger.register(&node("b"), LEASE).await.unwrap();
    let a = store.register(&node("a"), LEASE).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    assert!(changes.is_empty(), "one change of ours");
    assert_eq!(store.view().await.unwrap().nodes[0].at, a);
    assert!(!store.renew(&b, LEASE).await.unwrap());
    schema.remove().await;
    other.remove().await;
}

#[tokio::test]
async fn a_claim_waits_for_one_under_way_and_sees_whose_it_became() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let a = store.register(&node("a"), LEASE).await.unwrap();
    let mut first = schema.connect().await;
    // Another node, which registers and claims while the claim of `a` is waiting already.
    run(&mut first, "BEGIN; SELECT FROM shards WHERE shard < 3 FOR UPDATE").await;
    let (claimer, claiming) = (store.clone(), a.clone());
    let claim = tokio::spawn(async move { claimer.claim(&claiming, &[0, 1, 2, 3]).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!claim.is_finished());
    let b: NodeRef = store.register(&node("b"), LEASE).await.unwrap();
    let taken = sqlx::query("UPDATE shards SET node_id = 'b', incarnation = $1 WHERE shard < 2")
        .bind(b.incarnation)
        .execute(&mut first);
    assert_eq!(taken.await.unwrap().rows_affected(), 2);
    run(&mut first, "COMMIT").await;
    assert_eq!(claim.await.unwrap(), [2, 3]);
    assert_eq!(store.view().await.unwrap().owners[1], Some(b));
    schema.remove().await;
}

#[tokio::test]
async fn facts_of_many_entities_are_found_by_index_and_only_since_their_months() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let ids: Vec<_> = (0..300).map(|_| CallId::fresh()).collect();
    let mut batch: Vec<_> = ids.iter().map(|id| append(*id, 0, 3)).collect();
    let mut old = append(CallId::fresh(), 0, 1);
    old.facts[0].at = "2024-01-01T00:00:00Z".parse().unwrap();
    batch.push(old);
    assert!(store.append(batch).await.unwrap().iter().all(|outcome| *outcome == STORED));
    schema.run("ANALYZE facts; ANALYZE heads").await;
    let statement = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT fact.* \
        FROM unnest($1::smallint[], $2::uuid[]) AS wanted (kind, id) \
        JOIN heads ON entity_kind = wanted.kind AND entity_id = wanted.id \
        CROSS JOIN LATERAL (SELECT position FROM facts WHERE facts.entity_kind = heads.entity_kind \
        AND facts.entity_id = heads.entity_id AND at >= heads.since OFFSET 0) AS fact";
    let plan: Vec<String> = sqlx::query_scalar(statement)
        .bind(vec![1_i16; 50])
        .bind(ids.iter().take(50).map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(&mut schema.connect().await)
        .await
        .unwrap();
    let scan = |month: &str| plan.iter().find(|line| line.contains(month)).unwrap();
    assert!(scan("on facts_2026_09").contains("Index Scan"), "{plan:#?}");
    assert!(scan("on facts_2024_01").contains("never executed"), "{plan:#?}");
    schema.remove().await;
}
