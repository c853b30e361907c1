//! Troubles that can only be made from inside: a full disk, a commit that fails, a lost head.

use serde_json::value::RawValue;

use super::*;
use crate::domain::id::{AgentId, FactId};
use crate::domain::record::{EntityKind, EntityRef, FactRecord, Summary};
use crate::domain::time::Timestamp;
use crate::store::journal::{Append, AppendOutcome, Journal};

async fn fresh() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{SCHEME}{}", folder.path().join("eml.db").display());
    let store = SqliteStore::open(&url).await.unwrap();
    (folder, store)
}

/// Facts of an agent session behind `after_seq`, each of a size in bytes.
fn append(entity: EntityRef, after_seq: u64, count: u64, size: usize) -> Append {
    let fact = |seq| FactRecord {
        id: FactId::fresh(),
        entity,
        seq,
        at: Timestamp::from_millis(0),
        kind: "agent.ready".into(),
        body: RawValue::from_string(format!("\"{}\"", "x".repeat(size))).unwrap(),
        cause: None,
    };
    let facts = (after_seq + 1..=after_seq + count).map(fact).collect();
    Append { entity, after_seq, facts, summary: Summary::Agent { open: true }, refs: Vec::new() }
}

async fn run(store: &SqliteStore, statement: &'static str) {
    let mut connection = store.writer.connection().await.unwrap();
    sqlx::query(statement).execute(&mut *connection).await.unwrap();
}

/// Checks that nothing was stored, and that the next append is.
async fn is_well_again(store: &SqliteStore, entity: EntityRef) {
    assert_eq!(store.last_position().await.unwrap(), 0);
    assert_eq!(store.append(vec![append(entity, 0, 2, 10)]).await.unwrap(), [AppendOutcome::Stored]);
    assert_eq!(store.facts(entity, 0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_stores_nothing_and_works_again_afterwards() {
    let (_folder, store) = fresh().await;
    let entity = EntityRef::from(AgentId::fresh());
    run(&store, "PRAGMA max_page_count = 1").await;
    let refused = store.append(vec![append(entity, 0, 100, 1_000)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    run(&store, "PRAGMA max_page_count = 1000000").await;
    is_well_again(&store, entity).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_unavailable_until_it_can() {
    let (_folder, store) = fresh().await;
    let entity = EntityRef::from(AgentId::fresh());
    run(&store, "PRAGMA query_only = ON").await;
    let refused = store.append(vec![append(entity, 0, 1, 10)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    run(&store, "PRAGMA query_only = OFF").await;
    is_well_again(&store, entity).await;
}

#[tokio::test]
async fn a_failing_commit_is_in_doubt_and_the_writer_works_again() {
    let (_folder, store) = fresh().await;
    let entity = EntityRef::from(AgentId::fresh());
    // A promise that is only checked, and broken, at the commit. All of it ends with the connection.
    run(&store, "CREATE TEMP TABLE parent (id INTEGER PRIMARY KEY)").await;
    run(&store, "CREATE TEMP TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    run(
        &store,
        "CREATE TEMP TRIGGER promise AFTER INSERT ON main.facts BEGIN INSERT INTO child VALUES (1); END",
    )
    .await;
    let doubtful = store.append(vec![append(entity, 0, 1, 10)]).await;
    assert!(matches!(doubtful, Err(StoreError::InDoubt(_))), "{doubtful:?}");
    is_well_again(&store, entity).await;
}

#[tokio::test]
async fn an_append_given_up_half_way_leaves_nothing_behind() {
    let (_folder, store) = fresh().await;
    let entity = EntityRef::from(AgentId::fresh());
    let mut transaction = store.writer.begin().await.unwrap();
    let statement =
        "INSERT INTO heads (entity_kind, entity_id, seq, is_open, shard) VALUES (2, x'00', 9, 1, 0)";
    sqlx::query(statement).execute(transaction.connection()).await.unwrap();
    drop(transaction);
    is_well_again(&store, entity).await;
    assert_eq!(store.open_entities(EntityKind::Agent, &[]).await.unwrap(), [entity]);
}

#[tokio::test]
async fn a_head_that_lost_count_cannot_make_two_facts_share_a_number() {
    let (_folder, store) = fresh().await;
    let (lost, fine) = (EntityRef::from(AgentId::fresh()), EntityRef::from(AgentId::fresh()));
    store.append(vec![append(lost, 0, 5, 10)]).await.unwrap();
    run(&store, "UPDATE heads SET seq = 2").await;
    let batch = vec![append(lost, 2, 1, 10), append(fine, 0, 1, 10), append(lost, 5, 1, 10)];
    let outcomes = store.append(batch).await.unwrap();
    let conflict = AppendOutcome::Conflict { found_seq: 5 };
    assert_eq!(outcomes, [conflict, AppendOutcome::Stored, AppendOutcome::Stored]);
    assert_eq!(store.append(vec![append(lost, 6, 1, 10)]).await.unwrap(), [AppendOutcome::Stored]);
}

#[tokio::test]
async fn lists_of_calls_use_an_index_and_sort_nothing() {
    let (_folder, store) = fresh().await;
    for (condition, index) in [
        ("1", "calls_by_start"),
        ("is_open = 1", "calls_open"),
        ("queue_id IN (x'00')", "calls_by_queue"),
        ("agent_id IN (x'00')", "calls_by_agent"),
        ("from_address = '+1'", "calls_by_from"),
        ("to_address = '+1'", "calls_by_to"),
        ("(started_at, id) < (5, x'00')", "calls_by_start"),
        ("queue_id IN (x'00') AND (started_at, id) < (5, x'00')", "calls_by_queue"),
    ] {
        let statement = format!(
            "EXPLAIN QUERY PLAN SELECT id, is_open, summary FROM calls WHERE 1 AND {condition} \
             ORDER BY started_at DESC, id DESC LIMIT 50"
        );
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_all(&store.readers).await.unwrap();
        let steps: Vec<_> = plan.iter().map(|step| step.3.as_str()).collect();
        assert!(steps.len() == 1 && steps[0].contains(index), "{condition}: {steps:?}");
    }
}

#[tokio::test]
async fn the_log_moves_into_the_file_beside_the_appends() {
    let (folder, store) = fresh().await;
    let size = || std::fs::metadata(folder.path().join("eml.db")).unwrap().len();
    let (entity, before) = (EntityRef::from(AgentId::fresh()), size());
    // About 2.4 MB, which is too little for the writer to move by itself.
    store.append(vec![append(entity, 0, 4_000, 600)]).await.unwrap();
    while store.checkpointer.is_moving() {
        tokio::task::yield_now().await;
    }
    assert!(size() > before + 2_000_000, "{before} bytes before, {} after", size());
}
