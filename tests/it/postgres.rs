//! What only a server can show: two nodes on it, the fence between them, months, migrations.

use std::time::Duration;

use eml::domain::address::Address;
use eml::domain::id::CallId;
use eml::domain::record::CallSummary;
use eml::domain::time::{Millis, Timestamp};
use eml::store::journal::{Append, AppendOutcome, Journal as _};
use eml::store::members::Members as _;
use eml::store::postgres::PostgresStore;
use eml::store::{StoreError, history::History as _, migrations};
use sqlx::PgConnection;

use crate::members_contract::node;
use crate::samples::{Schema, append, append_summary, at, call, name};

const STORED: AppendOutcome = AppendOutcome::Stored;
const LEASE: Millis = Millis::from_secs(60);
/// Longer than anything here takes, shorter than the limits of the server.
const SOON: Duration = Duration::from_secs(5);

async fn open(schema: &Schema) -> PostgresStore {
    PostgresStore::open(&schema.url()).await.unwrap()
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.unwrap();
}

/// Waits until this many others wait for a lock that this connection holds; with `behind`, for a lock
/// of those who wait for it.
async fn await_waiting(holder: &mut PgConnection, observer: &mut PgConnection, behind: bool) {
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(holder).await.unwrap();
    let direct = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))";
    let second = "SELECT count(*) FROM pg_stat_activity AS waiting WHERE EXISTS (SELECT \
                  FROM unnest(pg_blocking_pids(waiting.pid)) AS blocking WHERE $1 = ANY(pg_blocking_pids(blocking)))";
    let wait = async {
        loop {
            let query = sqlx::query_scalar::<_, i64>(if behind { second } else { direct }).bind(pid);
            if query.fetch_one(&mut *observer).await.unwrap() == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("somebody waits");
}

#[tokio::test]
async fn an_incarnation_writes_until_it_is_declared_dead_or_replaced() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = open(&schema).await;
    let (id, other) = (CallId::fresh(), CallId::fresh());
    let first = store.register(&node("node-1"), LEASE).await.unwrap();
    let fenced = store.fenced(first.clone());
    assert_eq!(fenced.append(vec![append(id, 0, 2)]).await.unwrap(), [STORED]);
    assert!(store.renew(&first, LEASE).await.unwrap());

    assert!(store.declare_dead(&first, false).await.unwrap());
    let refused = fenced.append(vec![append(id, 2, 1), append(other, 0, 1)]).await;
    assert!(matches!(&refused, Err(error @ StoreError::Fenced(_)) if !error.is_transient()), "{refused:?}");
    assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), 2);
    assert!(!store.renew(&first, LEASE).await.unwrap(), "dead is for good");

    let second = store.register(&node("node-1"), LEASE).await.unwrap();
    assert!(matches!(fenced.append(vec![append(id, 2, 1)]).await, Err(StoreError::Fenced(_))));
    assert!(!store.declare_dead(&first, false).await.unwrap(), "another incarnation lives");
    assert_eq!(store.fenced(second.clone()).append(vec![append(id, 2, 1)]).await.unwrap(), [STORED]);
    store.register(&node("node-1"), LEASE).await.unwrap();
    let replaced = store.fenced(second).append(vec![append(id, 3, 1)]).await;
    assert!(matches!(replaced, Err(StoreError::Fenced(_))), "{replaced:?}");
    schema.remove().await;
}

#[tokio::test]
async fn a_batch_that_waits_is_refused_when_its_incarnation_dies_meanwhile() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id) = (open(&schema).await, CallId::fresh());
    let fence = store.register(&node("node-1"), LEASE).await.unwrap();
    let (mut killer, mut observer) = (schema.connect().await, schema.connect().await);
    run(&mut killer, "BEGIN; SELECT FROM nodes FOR UPDATE").await;
    let fenced = store.fenced(fence);
    let waiting = tokio::spawn(async move { fenced.append(vec![append(id, 0, 1)]).await });
    await_waiting(&mut killer, &mut observer, false).await;
    run(&mut killer, "UPDATE nodes SET status = 'dead'; COMMIT").await;
    let refused = waiting.await.unwrap();
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    assert_eq!(store.last_position().await.unwrap(), 0);
    schema.remove().await;
}

#[tokio::test]
async fn declaring_dead_waits_for_the_batch_under_way() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id) = (open(&schema).await, CallId::fresh());
    let fence = store.register(&node("node-1"), LEASE).await.unwrap();
    let fenced = store.fenced(fence.clone());
    assert_eq!(fenced.append(vec![append(id, 0, 1)]).await.unwrap(), [STORED]);
    let (mut holder, mut observer) = (schema.connect().await, schema.connect().await);
    run(&mut holder, "BEGIN; SELECT FROM heads FOR UPDATE").await;
    let batch = tokio::spawn(async move { fenced.append(vec![append(id, 1, 1)]).await });
    await_waiting(&mut holder, &mut observer, false).await;
    let killer = store.clone();
    let death = tokio::spawn(async move { killer.declare_dead(&fence, false).await });
    await_waiting(&mut holder, &mut observer, true).await;
    run(&mut holder, "ROLLBACK").await;
    assert_eq!(batch.await.unwrap().unwrap(), [STORED]);
    assert!(death.await.unwrap().unwrap());
    schema.remove().await;
}

#[tokio::test]
async fn a_beat_and_a_batch_do_not_wait_for_each_other() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id) = (open(&schema).await, CallId::fresh());
    let fence = store.register(&node("node-1"), LEASE).await.unwrap();
    let mut beating = schema.connect().await;
    run(&mut beating, "BEGIN; UPDATE nodes SET lease_until = 7").await;
    let fenced = store.fenced(fence.clone());
    let batch = tokio::time::timeout(SOON, fenced.append(vec![append(id, 0, 1)])).await;
    assert_eq!(batch.expect("no waiting").unwrap(), [STORED]);
    run(&mut beating, "ROLLBACK; BEGIN; SELECT FROM nodes FOR KEY SHARE").await;
    let beat = tokio::time::timeout(SOON, store.renew(&fence, LEASE)).await;
    assert!(beat.expect("no waiting").unwrap());
    run(&mut beating, "ROLLBACK").await;
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_begin_the_same_entities_never_both_succeed_nor_block() {
    let Some(schema) = Schema::fresh().await else { return };
    let (one, two) = tokio::join!(open(&schema), open(&schema));
    for _ in 0..30 {
        let ids = [(); 6].map(|()| CallId::fresh());
        let batch = |ids: &mut dyn Iterator<Item = &CallId>| -> Vec<Append> {
            ids.map(|id| Append { refs: vec![name(&id.to_string())], ..append(*id, 0, 2) }).collect()
        };
        let (forward, mut backward) = (batch(&mut ids.iter()), batch(&mut ids.iter().rev()));
        backward.iter_mut().for_each(a_month_later);
        let (one, two) = (one.clone(), two.clone());
        let one = tokio::spawn(async move { one.append(forward).await.unwrap() });
        let two = tokio::spawn(async move { two.append(backward).await.unwrap() });
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let lost = AppendOutcome::Conflict { found_seq: 2 };
        for pair in one.iter().zip(two.iter().rev()) {
            assert!([(&STORED, &lost), (&lost, &STORED)].contains(&pair), "{pair:?}");
        }
    }
    assert_eq!(one.read_after(0, &[], 1_000).await.unwrap().len(), 30 * 6 * 2);
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_behind_conflicts_and_the_rest_of_its_batch_is_stored_under_contention() {
    let Some(schema) = Schema::fresh().await else { return };
    let (one, two) = tokio::join!(open(&schema), open(&schema));
    let id = CallId::fresh();
    let write = |store: PostgresStore, is_late: bool| async move {
        let (mut seq, mut stored, mut own) = (0, 0, 0);
        while stored < 25 {
            let mut next = append(id, seq, 1);
            if is_late {
                a_month_later(&mut next);
            }
            let outcomes = store.append(vec![append(CallId::fresh(), 0, 1), next]).await.unwrap();
            assert_eq!(outcomes[0], STORED);
            own += 1;
            match outcomes[1] {
                AppendOutcome::Stored => (seq, stored) = (seq + 1, stored + 1),
                AppendOutcome::Conflict { found_seq } => {
                    assert!(found_seq > seq, "{found_seq} after {seq}");
                    seq = found_seq;
                }
            }
        }
        own
    };
    let (first, second) =
        tokio::join!(tokio::spawn(write(one.clone(), false)), tokio::spawn(write(two, true)));
    let facts = one.facts(id.into(), 0, 1_000).await.unwrap();
    assert_eq!(facts.iter().map(|fact| fact.seq).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    let all = one.read_after(0, &[], 10_000).await.unwrap();
    assert_eq!(all.len(), 50 + first.unwrap() + second.unwrap());
    schema.remove().await;
}

/// Moves facts into another partition, so that only the head can tell that their number is given.
fn a_month_later(append: &mut Append) {
    for fact in &mut append.facts {
        fact.at = fact.at + Millis::from_secs(31 * 86_400);
    }
}

/// An append of one fact for each of these times.
fn at_times(id: CallId, after_seq: u64, times: &[&str]) -> Append {
    let mut append = append(id, after_seq, times.len() as u64);
    for (fact, at) in append.facts.iter_mut().zip(times) {
        fact.at = at.parse().unwrap();
    }
    append
}

async fn months(schema: &Schema) -> Vec<String> {
    let statement = "SELECT inhrelid::regclass::text FROM pg_inherits \
                     WHERE inhparent = 'facts'::regclass ORDER BY 1";
    sqlx::query_scalar(statement).fetch_all(&mut schema.connect().await).await.unwrap()
}

#[tokio::test]
async fn facts_lie_in_the_months_of_their_time_which_are_made_when_missing() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id) = (open(&schema).await, CallId::fresh());
    let ahead = months(&schema).await;
    assert_eq!(ahead.len(), 3, "made when opening: {ahead:?}");
    let times =
        ["2031-02-28T23:59:59.999Z", "2031-03-01T00:00:00Z", "2019-07-04T12:00:00Z", "1969-12-31T23:59:59Z"];
    assert_eq!(store.append(vec![at_times(id, 0, &times)]).await.unwrap(), [STORED]);
    let made = months(&schema).await;
    for month in ["facts_2031_02", "facts_2031_03", "facts_2019_07", "facts_1969_12"] {
        assert!(made.iter().any(|table| table == month), "{month} in {made:?}");
    }
    let found = store.facts(id.into(), 0, 10).await.unwrap();
    let want: Vec<Timestamp> = times.iter().map(|at| at.parse().unwrap()).collect();
    assert_eq!(found.iter().map(|fact| fact.at).collect::<Vec<_>>(), want, "by number, whatever their time");
    assert_eq!(store.read_after(0, &[], 10).await.unwrap().len(), 4);
    schema.remove().await;
}

#[tokio::test]
async fn a_fact_far_outside_of_the_calendar_is_refused() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id) = (open(&schema).await, CallId::fresh());
    let mut far = append(id, 0, 1);
    far.facts[0].at = Timestamp::from_millis(i64::MAX);
    let refused = store.append(vec![far]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(store.append(vec![append(id, 0, 1)]).await.unwrap(), [STORED]);
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_is_made_by_two_nodes_at_once_beside_a_batch_and_again_after_it_was_dropped() {
    let Some(schema) = Schema::fresh().await else { return };
    let (one, two) = tokio::join!(open(&schema), open(&schema));
    let (first, second) = (CallId::fresh(), CallId::fresh());
    let mut busy = schema.connect().await;
    run(&mut busy, "BEGIN; LOCK TABLE facts IN ROW EXCLUSIVE MODE").await;
    let (left, right) = tokio::time::timeout(SOON, async {
        tokio::join!(
            one.append(vec![at_times(first, 0, &["2033-05-05T00:00:00Z"])]),
            two.append(vec![at_times(second, 0, &["2033-05-06T00:00:00Z"])]),
        )
    })
    .await
    .expect("a batch under way holds nobody up");
    assert_eq!((left.unwrap(), right.unwrap()), (vec![STORED], vec![STORED]));
    run(&mut busy, "ROLLBACK").await;
    schema.run("DROP TABLE facts_2033_05").await;
    assert_eq!(one.append(vec![at_times(first, 1, &["2033-05-07T00:00:00Z"])]).await.unwrap(), [STORED]);
    schema.remove().await;
}

#[tokio::test]
async fn facts_of_one_entity_are_looked_for_only_since_its_first_month() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, old, young) = (open(&schema).await, CallId::fresh(), CallId::fresh());
    let months: Vec<_> = (1..=9).map(|month| format!("2030-0{month}-01T00:00:00Z")).collect();
    let months: Vec<_> = months.iter().map(String::as_str).collect();
    store
        .append(vec![at_times(old, 0, &months), at_times(young, 0, &["2030-09-02T00:00:00Z"])])
        .await
        .unwrap();
    let statement = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT seq FROM facts \
        WHERE entity_kind = 1 AND entity_id = $1 AND seq > 0 \
        AND at >= (SELECT since FROM heads WHERE entity_kind = 1 AND entity_id = $1) ORDER BY seq LIMIT 10";
    let mut connection = schema.connect().await;
    for (id, want) in [(young, 1), (old, 9)] {
        let plan: Vec<String> =
            sqlx::query_scalar(statement).bind(id.uuid()).fetch_all(&mut connection).await.unwrap();
        let scanned =
            plan.iter().filter(|line| line.contains("on facts_2030") && !line.contains("never executed"));
        assert_eq!(scanned.count(), want, "{plan:#?}");
    }
    schema.remove().await;
}

#[tokio::test]
async fn a_caller_named_with_nul_harms_no_batch() {
    let Some(schema) = Schema::fresh().await else { return };
    let (store, id, other) = (open(&schema).await, CallId::fresh(), CallId::fresh());
    let odd = CallSummary { from: Address::reported("a\0b"), ..call(id, at(0)) };
    let mut odd = append_summary(0, odd);
    odd.refs.push(name("CA\0"));
    assert_eq!(store.append(vec![odd, append(other, 0, 1)]).await.unwrap(), [STORED, STORED]);
    assert_eq!(store.call(id).await.unwrap().unwrap().from, Address::reported("a\0b"));
    assert_eq!(store.resolve(&name("CA\0")).await.unwrap(), Some(id.into()));
    schema.remove().await;
}

#[tokio::test]
async fn migrations_are_pending_until_they_are_applied_and_nodes_that_start_together_take_turns() {
    let Some(schema) = Schema::fresh().await else { return };
    let pending = migrations::status(&schema.url()).await.unwrap();
    assert!(pending.len() >= 6 && pending.iter().all(|step| step.applied_at.is_none()), "{pending:?}");
    let url = schema.url();
    let (one, two, three) = tokio::join!(migrations::up(&url), migrations::up(&url), open(&schema));
    let applied = one.unwrap();
    assert!(applied.iter().all(|step| step.applied_at.is_some_and(|at| at.millis() > 0)), "{applied:?}");
    assert_eq!(two.unwrap(), applied);
    three.ping().await.unwrap();

    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (299901010000, 'later', true, '', 0)";
    schema.run(newer).await;
    let refused = eml::store::open(&url).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    schema.remove().await;
}

#[tokio::test]
async fn a_unix_socket_leads_to_the_same_tables() {
    let Some(schema) = Schema::fresh().await else { return };
    let id = CallId::fresh();
    open(&schema).await.append(vec![append(id, 0, 2)]).await.unwrap();
    let shown = "SELECT current_setting('unix_socket_directories')";
    let folders: String = sqlx::query_scalar(shown).fetch_one(&mut schema.connect().await).await.unwrap();
    let folder = folders.split(',').next().unwrap().trim();
    let store = PostgresStore::open(&format!("{}&host={folder}", schema.url())).await.unwrap();
    assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), 2);
    schema.remove().await;
}

#[tokio::test]
async fn a_wrong_login_is_refused_and_a_closed_port_unavailable() {
    let Some(schema) = Schema::fresh().await else { return };
    let mut url = url::Url::parse(&schema.url()).unwrap();
    url.set_password(Some("wrong")).unwrap();
    let refused = eml::store::open(url.as_str()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let away = eml::store::open("postgres://eml:secret@127.0.0.1:1/eml").await.map(drop);
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    schema.remove().await;
}

#[tokio::test]
async fn connections_name_the_program_unless_the_url_does() {
    let Some(schema) = Schema::fresh().await else { return };
    let named = schema.url();
    let plain = named.split("&application_name").next().unwrap();
    let mut observer = schema.connect().await;
    for (url, name) in [(plain, "eml"), (&*named, named.rsplit('=').next().unwrap())] {
        let store = PostgresStore::open(url).await.unwrap();
        store.append(vec![append(CallId::fresh(), 0, 1)]).await.unwrap();
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()";
        let ours: i64 = sqlx::query_scalar(count).bind(name).fetch_one(&mut observer).await.unwrap();
        assert!(ours > 0, "{name}");
    }
    schema.remove().await;
}
