//! `eml move`: an embedded installation in another store, whole.

use std::path::Path;
use std::process::{Command, Output};

use eml::domain::id::{CommandId, FactId};
use eml::domain::record::{EntityKind, FactRecord, Summary};
use eml::store::Stores;
use eml::store::history::CallFilter;
use eml::store::journal::{Append, AppendOutcome, Journal as _};
use eml::store::records::RecordKind;
use eml::store::sqlite::SqliteStore;

use crate::samples::{Schema, name};
use crate::support::{House, HouseSettings, NUMBER, form};

fn run(folder: &Path, to: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eml"));
    command.args(["--data-dir", folder.to_str().unwrap(), "move", "--to", to]).output().unwrap()
}

/// Three calls, of which one is over.
async fn fill(folder: &Path) {
    let house = House::open(HouseSettings {
        store_url: Some(format!("sqlite://{}", folder.join("eml.db").display())),
        folder: Some(folder.to_owned()),
        ..HouseSettings::default()
    })
    .await;
    for n in 0..3 {
        let sid = format!("CAmove{n}");
        let fields = |status: &'static str, sequence: &'static str| {
            form(&[
                ("CallSid", sid.as_str()),
                ("CallStatus", status),
                ("Direction", "inbound"),
                ("From", "+12025550143"),
                ("To", NUMBER),
                ("SequenceNumber", sequence),
            ])
        };
        let (status, _) = house.webhook("voice", &fields("ringing", "0")).await;
        assert!(status.is_success());
        if n == 0 {
            let (status, _) = house.webhook("status", &fields("completed", "1")).await;
            assert!(status.is_success());
        }
    }
    house.close().await;
    a_fact_with_a_cause(folder).await;
}

/// Tells a call once more what it knows, at somebody's command.
async fn a_fact_with_a_cause(folder: &Path) {
    let store = SqliteStore::open(&format!("sqlite://{}", folder.join("eml.db").display())).await.unwrap();
    let entity = store.open_entities(EntityKind::Call, &[]).await.unwrap()[0];
    let facts = store.facts(entity, 0, 100).await.unwrap();
    let known = facts.iter().find(|fact| &*fact.kind == "call.carrier_reported").unwrap().clone();
    let after_seq = facts.last().unwrap().seq;
    let repeated =
        FactRecord { id: FactId::fresh(), seq: after_seq + 1, cause: Some(CommandId::fresh()), ..known };
    let summary = Summary::Unchanged { open: true };
    let append = Append { entity, after_seq, facts: vec![repeated], summary, refs: Vec::new() };
    assert_eq!(store.append(vec![append]).await.unwrap(), [AppendOutcome::Stored]);
    store.close().await;
}

async fn same_everywhere(one: &Stores, other: &Stores) {
    for kind in RecordKind::ALL {
        let (mut here, mut there) =
            (one.records.all(kind).await.unwrap(), other.records.all(kind).await.unwrap());
        for records in [&mut here, &mut there] {
            records.sort_by_key(|record| record.id);
            // A copy is a new record of its store.
            records.iter_mut().for_each(|record| record.version = 1);
        }
        assert_eq!(here, there, "{kind:?}");
    }
    let any = CallFilter::default();
    let calls = one.history.calls(&any, None, true, 100).await.unwrap();
    assert_eq!(calls.len(), 3);
    assert_eq!(other.history.calls(&any, None, true, 100).await.unwrap(), calls);
    for call in &calls {
        let facts = one.journal.facts(call.id.into(), 0, 100).await.unwrap();
        let copied = other.journal.facts(call.id.into(), 0, 100).await.unwrap();
        let text = |facts: &[FactRecord]| {
            facts
                .iter()
                .map(|fact| (fact.id, fact.seq, fact.at, fact.cause, fact.body.get().to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(text(&copied), text(&facts));
        let known = name(call.provider_call_id.as_deref().unwrap());
        assert_eq!(other.journal.resolve(&known).await.unwrap(), Some(call.id.into()));
    }
    let open = one.journal.open_entities(EntityKind::Call, &[]).await.unwrap().len();
    assert_eq!(other.journal.open_entities(EntityKind::Call, &[]).await.unwrap().len(), open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_installation_moves_whole_and_only_into_an_empty_store() {
    let Some(schema) = Schema::fresh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let missing = run(folder.path(), &schema.url());
    assert!(!missing.status.success(), "there is nothing to move yet");
    fill(folder.path()).await;
    let moved = run(folder.path(), &schema.url());
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    assert!(String::from_utf8_lossy(&moved.stdout).contains("same checksum"));
    let here =
        eml::store::open(&format!("sqlite://{}", folder.path().join("eml.db").display())).await.unwrap();
    same_everywhere(&here, &schema.open().await).await;
    let again = run(folder.path(), &schema.url());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    schema.remove().await;
}
