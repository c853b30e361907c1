//! `eml move`: an embedded installation in another store, whole.

use std::path::Path;
use std::process::{Command, Output};

use eml::domain::id::{CommandId, FactId};
use eml::domain::identity::{Actor, AuditEntry};
use eml::domain::record::{EntityKind, FactRecord, Summary};
use eml::domain::time::{Clock, Millis, Timestamp};
use eml::store::Stores;
use eml::store::grants::{Grant, GrantKind, Revocation};
use eml::store::history::CallFilter;
use eml::store::journal::{Append, AppendOutcome, Journal as _};
use eml::store::records::RecordKind;
use eml::store::sqlite::SqliteStore;
use uuid::Uuid;

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
    let_people_in(house.node().engine.stores()).await;
    house.close().await;
    a_fact_with_a_cause(folder).await;
}

const SUBJECT: Uuid = Uuid::from_u128(7);

/// Grants of which one is over, counters, a revocation, and acts.
async fn let_people_in(stores: &Stores) {
    let now = Clock.now();
    for (kind, key, seconds) in
        [(GrantKind::Session, "one", 900), (GrantKind::Factor, "one", 900), (GrantKind::Session, "over", 0)]
    {
        let grant = Grant {
            kind,
            key: key.to_owned(),
            subject: SUBJECT,
            body: serde_json::json!({ "generation": 3 }),
            version: 1,
            created_at: now,
            expires_at: now + Millis::from_secs(seconds),
        };
        stores.grants.put(grant).await.unwrap();
    }
    for _ in 0..3 {
        stores.grants.count("tries", Millis::from_secs(900), 9, now).await.unwrap();
    }
    let until = now + Millis::from_secs(900);
    stores.grants.revoke(Revocation { subject: SUBJECT, least_epoch: 4, at: now, until }).await.unwrap();
    let act = |what: &str| AuditEntry {
        at: now,
        what: what.to_owned(),
        actor: Actor::Host,
        subject: None,
        ip: None,
        request_id: None,
        node: "node-1".to_owned(),
        details: serde_json::Map::new(),
    };
    stores.audit.append_audit(vec![act("user.created"), act("user.disabled")]).await.unwrap();
}

/// The same people get in, and no others; what they did is told with the same hashes.
async fn same_people(one: &Stores, other: &Stores) {
    let now = Clock.now();
    for kind in GrantKind::ALL {
        let here = one.grants.about(kind, SUBJECT, now).await.unwrap();
        assert_eq!(here.len(), usize::from(matches!(kind, GrantKind::Session | GrantKind::Factor)));
        assert_eq!(other.grants.about(kind, SUBJECT, now).await.unwrap(), here);
    }
    for stores in [one, other] {
        let counted = stores.grants.count("tries", Millis::from_secs(900), 9, now).await.unwrap();
        assert!(counted.count == 4 && counted.resets_after < Millis::from_secs(900), "{counted:?}");
        let (revoked, _) = stores.grants.revoked_since(Timestamp::from_millis(0)).await.unwrap();
        assert!(revoked.iter().any(|revoked| revoked.subject == SUBJECT && revoked.least_epoch == 4));
        assert!(eml::store::audit::verify(&*stores.audit, &[]).await.unwrap().unwrap().number >= 4);
    }
    let entries = one.audit.audit_after(0, 100).await.unwrap();
    assert_eq!(other.audit.audit_after(0, 100).await.unwrap(), entries);
    let told = one.journal.cursors("audit").await.unwrap();
    assert_eq!(other.journal.cursors("audit").await.unwrap(), told);
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
    let there = schema.open().await;
    same_everywhere(&here, &there).await;
    same_people(&here, &there).await;
    let again = run(folder.path(), &schema.url());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    schema.remove().await;
}
