//! What only a file can show: it survives, it can be locked, it can be foreign.

use eml::domain::id::CallId;
use eml::domain::record::EntityKind;
use eml::store::history::CallFilter;
use eml::store::journal::AppendOutcome;
use eml::store::{StoreError, migrations};
use sqlx::{Connection, SqliteConnection};

use crate::samples::{File, append, name};

async fn connect(file: &File) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", file.path())).await.unwrap()
}

#[tokio::test]
async fn everything_is_there_after_opening_the_file_again() {
    let (file, id) = (File::fresh(), CallId::fresh());
    let mut sent = append(id, 0, 3);
    sent.refs.push(name("CA1"));
    file.open().await.journal.append(vec![sent]).await.unwrap();

    let stores = file.open().await;
    assert_eq!(stores.journal.facts(id.into(), 0, 10).await.unwrap().len(), 3);
    assert_eq!(stores.journal.open_entities(EntityKind::Call, &[]).await.unwrap(), [id.into()]);
    assert_eq!(stores.journal.resolve(&name("CA1")).await.unwrap(), Some(id.into()));
    assert_eq!(stores.history.count(&CallFilter::default()).await.unwrap(), 1);
    assert_eq!(stores.journal.append(vec![append(id, 3, 1)]).await.unwrap(), [AppendOutcome::Stored]);
    assert_eq!(stores.journal.last_position().await.unwrap(), 4);
}

#[tokio::test]
async fn two_programs_on_one_file_never_both_write_one_entity() {
    let (file, id) = (File::fresh(), CallId::fresh());
    let (one, two) = (file.open().await, file.open().await);
    for after_seq in 0..10 {
        let (one, two) = tokio::join!(
            one.journal.append(vec![append(id, after_seq, 1)]),
            two.journal.append(vec![append(id, after_seq, 1)]),
        );
        let outcomes = [one.unwrap()[0], two.unwrap()[0]];
        let stored = outcomes.iter().filter(|outcome| **outcome == AppendOutcome::Stored).count();
        assert_eq!(stored, 1, "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_locked_file_is_unavailable_stores_nothing_and_works_again_afterwards() {
    let (file, id) = (File::fresh(), CallId::fresh());
    let stores = file.open().await;
    let mut other = connect(&file).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    let refused = stores.journal.append(vec![append(id, 0, 2)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(stores.journal.ping().await, Err(StoreError::Unavailable(_))));
    assert!(stores.journal.facts(id.into(), 0, 10).await.unwrap().is_empty(), "reading still works");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(stores.journal.append(vec![append(id, 0, 2)]).await.unwrap(), [AppendOutcome::Stored]);
    stores.journal.ping().await.unwrap();
}

#[tokio::test]
async fn a_corrupt_row_is_named() {
    let (file, id) = (File::fresh(), CallId::fresh());
    let stores = file.open().await;
    stores.journal.append(vec![append(id, 0, 2)]).await.unwrap();
    let mut other = connect(&file).await;
    sqlx::query("UPDATE facts SET body = '{' WHERE seq = 2").execute(&mut other).await.unwrap();
    sqlx::query("UPDATE calls SET summary = '{}'").execute(&mut other).await.unwrap();

    let Err(StoreError::Corrupt { table, column, id: row }) = stores.journal.facts(id.into(), 0, 10).await
    else {
        panic!("a broken body must not be read");
    };
    assert_eq!((table, column, &*row), ("facts", "body", "2"));
    let Err(StoreError::Corrupt { table, column, id: row }) = stores.history.call(id).await else {
        panic!("a broken summary must not be read");
    };
    assert_eq!((table, column, row), ("calls", "summary", id.uuid().simple().to_string()));
}

#[tokio::test]
async fn an_orphan_is_kept() {
    let file = File::fresh();
    let stores = file.open().await;
    stores.records.keep_orphan("twilio", "status", "CallSid=CA9", crate::samples::at(1)).await.unwrap();
    let found: (String, String, String, i64) =
        sqlx::query_as("SELECT provider, name, fields, at FROM orphan_events")
            .fetch_one(&mut connect(&file).await)
            .await
            .unwrap();
    assert_eq!(
        found,
        ("twilio".into(), "status".into(), "CallSid=CA9".into(), crate::samples::at(1).millis())
    );
}

#[tokio::test]
async fn a_file_of_a_newer_or_another_program_is_refused() {
    let file = File::fresh();
    drop(file.open().await);
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (299901010000, 'later', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut connect(&file).await).await.unwrap();
    let refused = eml::store::open(&format!("sqlite://{}", file.path())).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "this is no database, only a text that is long enough to be looked at".repeat(20))
        .unwrap();
    let refused = eml::store::open(&format!("sqlite://{}", path.display())).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_url_of_no_product_is_refused_with_the_ones_there_are() {
    for url in ["", "mysql://db/eml", "sqlite://", "sqlite:eml.db", "sqlite://a.db?mode=ro", "memory"] {
        let Err(StoreError::Refused(text)) = eml::store::open(url).await.map(drop) else {
            panic!("{url} must be refused");
        };
        assert!(text.contains("sqlite://PATH"), "{url}: {text}");
    }
}

#[tokio::test]
async fn migrations_are_pending_until_they_are_applied_and_asking_makes_no_file() {
    let file = File::fresh();
    let url = format!("sqlite://{}", file.path());
    let pending = migrations::status(&url).await.unwrap();
    assert!(pending.len() >= 4 && pending.iter().all(|step| step.applied_at.is_none()), "{pending:?}");
    assert!(!std::path::Path::new(&file.path()).exists());
    let applied = migrations::up(&url).await.unwrap();
    assert!(applied.iter().all(|step| step.applied_at.is_some_and(|at| at.millis() > 0)), "{applied:?}");
    assert_eq!(migrations::status(&url).await.unwrap(), applied);
    assert_eq!(migrations::status("memory:").await.unwrap(), []);
    assert!(matches!(migrations::up("mysql://db/eml").await, Err(StoreError::Refused(_))));
}
