//! The audit trail of a whole node: what is noted, how it is listed, told and checked.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use eml::domain::id::UserId;
use eml::domain::identity::{Actor, AuditEntry};
use eml::store::audit::AuditFilter;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::samples::at;
use crate::support::{House, HouseSettings};

fn entry(what: &str) -> AuditEntry {
    AuditEntry {
        at: at(0),
        what: what.to_owned(),
        actor: Actor::User { id: UserId::from_uuid(uuid::Uuid::nil()) },
        subject: None,
        ip: Some([192, 0, 2, 7].into()),
        request_id: Some("req-1".to_owned()),
        node: "node-1".to_owned(),
        details: json!({ "tries": 3 }).as_object().unwrap().clone(),
    }
}

fn whats(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_admin_does_to_the_set_up_is_listed_with_who_where_and_what() {
    let house = House::bare(HouseSettings::default()).await;
    let admin = house.admin();
    let skill = house.post("/skills", json!({ "name": "billing" })).await;
    let path = format!("/skills/{}", skill["id"].as_str().unwrap());
    let send = |method, body: Option<Value>| {
        let request = house.http.request(method, format!("{}{path}", house.base));
        let request = request.bearer_auth(house.token(&admin)).header("if-match", "*");
        let request = request.header("x-request-id", "req-of-test");
        async move {
            match body {
                Some(body) => request.json(&body).send().await.unwrap().status(),
                None => request.send().await.unwrap().status(),
            }
        }
    };
    assert_eq!(send(Method::PATCH, Some(json!({ "name": "sales" }))).await, StatusCode::OK);
    assert_eq!(send(Method::PATCH, Some(json!({ "name": 7 }))).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send(Method::DELETE, None).await, StatusCode::NO_CONTENT);
    let list = house.get("/audit?what=skill.*").await;
    assert_eq!(whats(&list), ["skill.removed", "skill.changed", "skill.created"]);
    let changed = &list["data"][1];
    assert_eq!(changed["subject"], skill["id"]);
    assert_eq!(changed["actor"], json!({ "kind": "user", "id": admin.user_id.to_string() }));
    assert_eq!(changed["details"], json!({ "before": { "name": "billing" }, "after": { "name": "sales" } }));
    assert_eq!((&changed["ip"], &changed["request_id"]), (&json!("127.0.0.1"), &json!("req-of-test")));
    assert_eq!(changed["hash"].as_str().unwrap().len(), 64);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_goes_back_page_by_page_and_refuses_what_makes_no_sense() {
    let house = House::bare(HouseSettings::default()).await;
    let audit = &house.node().engine.stores().audit;
    audit.append_audit((0..5).map(|i| entry(&format!("test.{i}"))).collect()).await.unwrap();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = house.get(&format!("/audit?what=test.*&limit=2{cursor}")).await;
        found.extend(whats(&page).into_iter().map(ToOwned::to_owned));
        match page["page"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["test.4", "test.3", "test.2", "test.1", "test.0"]);
    let nil = UserId::from_uuid(uuid::Uuid::nil());
    assert_eq!(whats(&house.get(&format!("/audit?actor={nil}&what=test.3")).await), ["test.3"]);
    assert_eq!(whats(&house.get("/audit?until=1999-01-01T00:00:00Z").await), Vec::<&str>::new());
    for query in ["what=a*b", "from=yesterday", "limit=0", "limit=201", "cursor=x", "who=me"] {
        let (status, problem) =
            house.request(Method::GET, &format!("/audit?{query}"), Value::Null, &house.admin()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
    }
    let agent = eml::edge::auth::Holder::agent(UserId::fresh(), eml::domain::id::AgentId::fresh());
    let (status, _) = house.request(Method::GET, "/audit", Value::Null, &agent).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let status = house.http.get(format!("{}/audit", house.base)).send().await.unwrap().status();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_told_of_every_entry_in_order_from_when_somebody_listens() {
    let house = House::bare(HouseSettings::default()).await;
    let stores = house.node().engine.stores().clone();
    stores.audit.append_audit(vec![entry("test.before")]).await.unwrap();
    // Whatever was noted before anybody listened is passed over.
    let passed_over = async || {
        let cursors = stores.journal.cursors("audit").await.unwrap();
        cursors == [(0, stores.audit.audit_end().await.unwrap().number)]
    };
    for _ in 0..200 {
        if passed_over().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(passed_over().await, "nobody listened, so it is not kept for later");
    let mut events = stores.bus.subscribe("test.*").await.unwrap();
    let appends = (0..20).map(|i| {
        let entries = (0..10).map(|j| entry(&format!("test.{i}.{j}"))).collect();
        stores.audit.append_audit(entries)
    });
    for last in join_all(appends).await {
        last.unwrap();
    }
    let mut told = Vec::new();
    for _ in 0..200 {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap().unwrap();
        assert_eq!(event.id, format!("aud_{}", event.sequence));
        told.push((event.sequence, event.kind.clone(), event.data.get().to_owned()));
    }
    let any = AuditFilter { what: Some("test.*".to_owned()), ..AuditFilter::default() };
    let mut kept = stores.audit.audit_page(&any, None, 200).await.unwrap();
    kept.reverse();
    for (kept, (number, kind, data)) in kept.iter().zip(&told) {
        let entry: AuditEntry = serde_json::from_str(&kept.body).unwrap();
        assert_eq!((kept.number, &entry.what), (*number, kind));
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["ip"], &data["details"]), (&json!("192.0.2.7"), &json!({ "tries": 3 })));
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_that_are_noted_at_once_are_all_there_before_their_answers() {
    let house = House::bare(HouseSettings::default()).await;
    let answers = (0..40).map(|i| house.post("/skills", json!({ "name": format!("skill {i}") })));
    assert_eq!(join_all(answers).await.len(), 40);
    let list = house.get("/audit?what=skill.created&limit=200").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 40);
    let stores = house.node().engine.stores();
    assert!(eml::store::audit::verify(&*stores.audit, &[]).await.unwrap().is_ok());
    house.close().await;
}

fn eml(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eml"));
    command.args(["--data-dir", folder.to_str().unwrap()]).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_names_the_first_entry_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = eml(folder.path(), &["audit", "verify"]);
    assert!(!nothing.status.success(), "there is no store yet");
    let url = format!("sqlite://{}", folder.path().join("eml.db").display());
    let stores = eml::store::open(&url).await.unwrap();
    stores.audit.append_audit((0..5).map(|i| entry(&format!("test.{i}"))).collect()).await.unwrap();
    let whole = eml(folder.path(), &["audit", "verify"]);
    let said = String::from_utf8(whole.stdout).unwrap();
    assert!(whole.status.success() && said.contains("5 entries"), "{said}");
    let end = said.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    stores.audit.append_audit(vec![entry("test.5")]).await.unwrap();
    assert!(eml(folder.path(), &["audit", "verify", "--known", &end]).status.success());
    let other = format!("5:{}", "ab".repeat(32));
    let made_anew = eml(folder.path(), &["audit", "verify", "--known", &end, "--known", &other]);
    assert!(String::from_utf8_lossy(&made_anew.stderr).contains("entry 5 was changed"));
    drop(stores);
    let mut intruder = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let change = "DROP TRIGGER audit_is_not_changed; \
                  UPDATE audit SET body = replace(body, '\"tries\":3', '\"tries\":0') WHERE number = 4";
    sqlx::raw_sql(change).execute(&mut intruder).await.unwrap();
    let broken = eml(folder.path(), &["audit", "verify"]);
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(!broken.status.success() && said.contains("entry 4 was changed"), "{said}");
}
