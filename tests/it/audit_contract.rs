//! What every product for the audit trail does, and what is found when somebody was at its tables.

use eml::domain::id::{ClientId, UserId};
use eml::domain::identity::{Actor, AuditEntry, GENESIS, Sealed};
use eml::store::audit::{AuditFilter, ChainEnd, Wrong, verify};
use eml::store::{StoreError, Stores};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::samples::{File, Schema, at, on_every_product};

on_every_product! {
    an_empty_trail_is_whole
    entries_are_numbered_without_gaps_and_chained
    entries_come_back_byte_for_byte
    pages_go_back_from_the_newest
    a_filter_lets_through_what_it_says
    many_appends_at_a_time_make_one_chain
    a_chain_is_taken_over_as_it_is
    a_chain_that_was_made_anew_is_not_the_one_that_was_noted
}

fn entry(what: &str, millis: i64) -> AuditEntry {
    AuditEntry {
        at: at(millis),
        what: what.to_owned(),
        actor: Actor::Host,
        subject: None,
        ip: Some([192, 0, 2, 7].into()),
        request_id: Some("req-1".to_owned()),
        node: "node-1".to_owned(),
        details: json!({"agent": "said \"nul\u{0}\" and ünïcode", "tries": 3}).as_object().unwrap().clone(),
    }
}

async fn fill(stores: &Stores, count: i64) {
    for i in 1..=count {
        stores.audit.append_audit(vec![entry("user.created", i)]).await.unwrap();
    }
}

fn read(sealed: &[Sealed]) -> Vec<AuditEntry> {
    sealed.iter().map(|sealed| serde_json::from_str(&sealed.body).unwrap()).collect()
}

fn numbers(sealed: &[Sealed]) -> Vec<u64> {
    sealed.iter().map(|sealed| sealed.number).collect()
}

async fn an_empty_trail_is_whole(stores: Stores) {
    let end = ChainEnd { number: 0, hash: GENESIS };
    assert_eq!(stores.audit.append_audit(Vec::new()).await.unwrap(), 0);
    assert_eq!(stores.audit.audit_end().await.unwrap(), end);
    assert_eq!(verify(&*stores.audit, &[]).await.unwrap(), Ok(end));
    assert_eq!(stores.audit.audit_page(&AuditFilter::default(), None, 10).await.unwrap(), []);
}

async fn entries_are_numbered_without_gaps_and_chained(stores: Stores) {
    let some = |count: i64| (1..=count).map(|i| entry("user.created", i)).collect::<Vec<_>>();
    assert_eq!(stores.audit.append_audit(some(3)).await.unwrap(), 3);
    assert_eq!(stores.audit.append_audit(some(1)).await.unwrap(), 4);
    let all = stores.audit.audit_after(0, 10).await.unwrap();
    assert_eq!(numbers(&all), [1, 2, 3, 4]);
    // The first hash by hand: 32 zeros, the number, the body.
    let input = [&[0; 32][..], &1_u64.to_be_bytes(), all[0].body.as_bytes()].concat();
    assert_eq!(all[0].hash[..], *aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input).as_ref());
    let mut end = ChainEnd::default();
    all.iter().for_each(|entry| end.follow(entry).unwrap());
    assert_eq!(stores.audit.audit_end().await.unwrap(), end);
    assert_eq!(verify(&*stores.audit, &[]).await.unwrap(), Ok(end));
    assert_eq!(numbers(&stores.audit.audit_after(1, 2).await.unwrap()), [2, 3]);
    assert_eq!(stores.audit.audit_after(4, 2).await.unwrap(), []);
}

async fn entries_come_back_byte_for_byte(stores: Stores) {
    let written = [
        entry("user.created", 1),
        AuditEntry { actor: Actor::Unknown, ip: None, request_id: None, ..entry("user.login_failed", 2) },
        AuditEntry { ip: Some("2001:db8::1".parse().unwrap()), ..entry("role.changed", 3) },
    ];
    stores.audit.append_audit(written.to_vec()).await.unwrap();
    let found = stores.audit.audit_after(0, 10).await.unwrap();
    assert_eq!(read(&found), written);
    for (found, written) in found.iter().zip(&written) {
        assert_eq!(found.body, serde_json::to_string(written).unwrap());
    }
}

async fn pages_go_back_from_the_newest(stores: Stores) {
    fill(&stores, 5).await;
    let any = AuditFilter::default();
    for (before, want) in
        [(None, vec![5, 4]), (Some(4), vec![3, 2]), (Some(2), vec![1]), (Some(1), vec![]), (Some(0), vec![])]
    {
        let page = stores.audit.audit_page(&any, before, 2).await.unwrap();
        assert_eq!(numbers(&page), want, "before {before:?}");
    }
}

async fn a_filter_lets_through_what_it_says(stores: Stores) {
    let (ann, ben, desk) = (UserId::fresh(), UserId::fresh(), ClientId::fresh());
    let about = |id: UserId| Some(id.to_string());
    let by = |id| Actor::User { id };
    let written = [
        AuditEntry { subject: about(ann), ..entry("user.created", 10) },
        AuditEntry { actor: by(ann), subject: about(ann), ..entry("user.login_succeeded", 20) },
        AuditEntry { actor: by(ann), subject: about(ben), ..entry("user.disabled", 30) },
        AuditEntry { actor: Actor::Unknown, subject: about(ben), ..entry("user.login_failed", 40) },
        AuditEntry { actor: Actor::Client { id: desk }, ..entry("client.token_issued", 50) },
        AuditEntry { actor: by(ann), ..entry("users.listed", 60) },
    ];
    stores.audit.append_audit(written.to_vec()).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let none = AuditFilter::default;
    for (filter, want) in [
        (none(), vec![6, 5, 4, 3, 2, 1]),
        (AuditFilter { what: text("user.created"), ..none() }, vec![1]),
        (AuditFilter { what: text("user.*"), ..none() }, vec![4, 3, 2, 1]),
        (AuditFilter { what: text("user.login*"), ..none() }, vec![4, 2]),
        (AuditFilter { what: text("*"), ..none() }, vec![6, 5, 4, 3, 2, 1]),
        (AuditFilter { what: text("user"), ..none() }, vec![]),
        (AuditFilter { what: text("user.%"), ..none() }, vec![]),
        (AuditFilter { what: text("user_created"), ..none() }, vec![]),
        (AuditFilter { actor: about(ann), ..none() }, vec![6, 3, 2]),
        (AuditFilter { actor: Some(desk.to_string()), ..none() }, vec![5]),
        (AuditFilter { actor: text("host"), ..none() }, vec![1]),
        (AuditFilter { actor: text("unknown"), ..none() }, vec![4]),
        (AuditFilter { subject: about(ben), ..none() }, vec![4, 3]),
        (AuditFilter { subject: text("' OR 1=1 --"), ..none() }, vec![]),
        (AuditFilter { from: Some(at(30)), until: Some(at(50)), ..none() }, vec![4, 3]),
        (AuditFilter { from: Some(at(61)), ..none() }, vec![]),
        (AuditFilter { what: text("user.*"), actor: about(ann), from: Some(at(21)), ..none() }, vec![3]),
    ] {
        let found = stores.audit.audit_page(&filter, None, 10).await.unwrap();
        assert_eq!(numbers(&found), want, "{filter:?}");
        let matching = written.iter().filter(|entry| filter.matches(entry)).count();
        assert_eq!(matching, want.len(), "{filter:?}");
    }
    let second = AuditFilter { what: text("user.*"), ..none() };
    assert_eq!(numbers(&stores.audit.audit_page(&second, Some(3), 1).await.unwrap()), [2]);
}

async fn many_appends_at_a_time_make_one_chain(stores: Stores) {
    let appends = (0..40).map(|i| {
        let stores = stores.clone();
        let entries: Vec<_> = (0..3).map(|_| entry(&format!("test.{i}"), i)).collect();
        tokio::spawn(async move { stores.audit.append_audit(entries).await.unwrap() })
    });
    let mut lasts: Vec<_> = join_all(appends).await.into_iter().map(Result::unwrap).collect();
    lasts.sort_unstable();
    assert_eq!(lasts, (1..=40).map(|i| i * 3).collect::<Vec<_>>());
    assert_eq!(verify(&*stores.audit, &[]).await.unwrap().unwrap().number, 120);
    let all = read(&stores.audit.audit_after(0, 200).await.unwrap());
    // What was appended together stands together.
    assert!(all.chunks(3).all(|together| together.iter().all(|entry| entry.what == together[0].what)));
}

async fn a_chain_is_taken_over_as_it_is(stores: Stores) {
    fill(&stores, 4).await;
    let all = stores.audit.audit_after(0, 10).await.unwrap();
    let copy = eml::store::open("memory:").await.unwrap();
    assert_eq!(copy.audit.adopt_audit(all[..2].to_vec()).await.unwrap(), 2);
    for wrong in [&all[..2], &all[3..], &[Sealed { body: "{}".to_owned(), ..all[2].clone() }]] {
        let refused = copy.audit.adopt_audit(wrong.to_vec()).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert_eq!(copy.audit.adopt_audit(all[2..].to_vec()).await.unwrap(), 4);
    assert_eq!(copy.audit.audit_after(0, 10).await.unwrap(), all);
    // And back, into a product of the kind that is tested.
    let more = copy.audit.append_audit(vec![entry("user.created", 5)]).await.unwrap();
    let more = copy.audit.audit_after(more - 1, 1).await.unwrap();
    assert_eq!(stores.audit.adopt_audit(more.clone()).await.unwrap(), 5);
    assert_eq!(stores.audit.audit_after(4, 1).await.unwrap(), more);
    assert!(verify(&*stores.audit, &[]).await.unwrap().is_ok());
}

async fn a_chain_that_was_made_anew_is_not_the_one_that_was_noted(stores: Stores) {
    fill(&stores, 3).await;
    let noted = stores.audit.audit_end().await.unwrap();
    fill(&stores, 2).await;
    assert!(verify(&*stores.audit, &[noted]).await.unwrap().is_ok());
    let other = ChainEnd { hash: [7; 32], ..noted };
    let broken = verify(&*stores.audit, &[other]).await.unwrap().unwrap_err();
    assert_eq!((broken.number, broken.why), (3, Wrong::Hash));
    let longer = ChainEnd { number: 9, ..noted };
    let broken = verify(&*stores.audit, &[longer]).await.unwrap().unwrap_err();
    assert_eq!((broken.number, broken.why), (6, Wrong::Missing));
}

/// Statements that an intruder with the right to do anything would run on a trail of five entries, and
/// what is found then.
const TAMPERING: &[(&str, u64, Wrong)] = &[
    ("UPDATE audit SET body = replace(body, 'req-1', 'req-2') WHERE number = 3", 3, Wrong::Hash),
    ("UPDATE audit SET body = 'no JSON' WHERE number = 4", 4, Wrong::Columns),
    ("UPDATE audit SET what = 'harmless' WHERE number = 2", 2, Wrong::Columns),
    ("UPDATE audit SET actor = 'unknown' WHERE number = 2", 2, Wrong::Columns),
    ("UPDATE audit SET subject = 'usr_1' WHERE number = 1", 1, Wrong::Columns),
    ("UPDATE audit SET at = at - 1 WHERE number = 5", 5, Wrong::Columns),
    ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE number = 1) WHERE number = 2", 2, Wrong::Hash),
    ("DELETE FROM audit WHERE number = 1", 1, Wrong::Missing),
    ("DELETE FROM audit WHERE number = 3", 3, Wrong::Missing),
    ("DELETE FROM audit WHERE number = 5", 5, Wrong::Missing),
    ("DELETE FROM audit", 1, Wrong::Missing),
    ("DELETE FROM audit WHERE number = 4; UPDATE audit SET number = 4 WHERE number = 5", 4, Wrong::Hash),
];

async fn finds(stores: &Stores, tampering: &(&str, u64, Wrong)) {
    let (statements, number, why) = tampering;
    let broken = verify(&*stores.audit, &[]).await.unwrap().expect_err(statements);
    assert_eq!((broken.number, broken.why), (*number, *why), "{statements}");
}

#[tokio::test]
async fn tampering_with_a_file_is_found() {
    for tampering in TAMPERING {
        let file = File::fresh();
        let stores = file.open().await;
        fill(&stores, 5).await;
        let mut intruder = SqliteConnection::connect(&format!("sqlite://{}", file.path())).await.unwrap();
        let run = |statements: &str| sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        let refused = run(tampering.0).execute(&mut intruder).await.unwrap_err();
        assert!(refused.to_string().contains("audit entries are never"), "{refused}");
        assert!(verify(&*stores.audit, &[]).await.unwrap().is_ok());
        let open = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed; ";
        run(&format!("{open}{}", tampering.0)).execute(&mut intruder).await.unwrap();
        finds(&stores, tampering).await;
    }
}

#[tokio::test]
async fn tampering_with_a_database_is_found() {
    for tampering in TAMPERING {
        let Some(schema) = Schema::fresh().await else { return };
        let stores = schema.open().await;
        fill(&stores, 5).await;
        let mut intruder = schema.connect().await;
        for statements in [tampering.0, "TRUNCATE audit"] {
            let refused = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut intruder).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("audit entries are never"), "{refused}");
        }
        assert!(verify(&*stores.audit, &[]).await.unwrap().is_ok());
        schema.run(&format!("DROP TRIGGER audit_stays ON audit; {}", tampering.0)).await;
        finds(&stores, tampering).await;
        schema.remove().await;
    }
}

#[tokio::test]
async fn entries_that_were_cut_off_stay_missing_when_others_follow() {
    let file = File::fresh();
    let stores = file.open().await;
    fill(&stores, 5).await;
    let mut intruder = SqliteConnection::connect(&format!("sqlite://{}", file.path())).await.unwrap();
    let cut = "DROP TRIGGER audit_is_not_removed; DELETE FROM audit WHERE number > 3";
    sqlx::raw_sql(cut).execute(&mut intruder).await.unwrap();
    fill(&stores, 2).await;
    let broken = verify(&*stores.audit, &[]).await.unwrap().unwrap_err();
    assert_eq!((broken.number, broken.why), (4, Wrong::Missing));
}
