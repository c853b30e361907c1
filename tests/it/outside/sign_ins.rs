//! Whole sign-ins with a real provider, through its own pages.

use eml::config::Oidc;
use eml::domain::directory::User;
use eml::domain::id::UserId;
use eml::domain::identity::RoleName;
use eml::store::records::{RecordKind, StoredRecord};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::browser::{Browser, Page};
use super::provider::{RealProvider, Setup};
use super::stand::{CALLBACK, Stand, ann, code, open_section, roles, section, token};

/// The usual provider.
const USUAL: Setup =
    Setup { client_auth: "client_secret_basic", algorithm: "RS256", id_token_has_all: false };

/// Signs in through the pages of the provider.
async fn sign_in(stand: &Stand, browser: &mut Browser, login: &str) -> Page {
    let page = stand.set_out(browser, "").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    let back = browser.sign_in(page.location(), login, CALLBACK).await;
    stand.come_back(browser, &back).await
}

#[tokio::test]
async fn somebody_new_becomes_a_user_and_stays_that_user() {
    let Some(provider) = RealProvider::start(CALLBACK, &USUAL) else { return };
    provider.people(&json!({ "ann-1": ann(&["leads", "whatever"]) }));
    let stand = Stand::open(open_section(&provider.issuer)).await;
    let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert_eq!(page.headers["cache-control"], "no-store");
    let first = page.json();
    assert_eq!((&first["user"]["login"], &first["user"]["name"]), (&json!("ann"), &json!("Ann Other")));
    assert_eq!(roles(&first), ["supervisor"]);
    let (status, profile) = stand.ask(Method::GET, "/users/profile", token(&first)).await;
    assert_eq!((status, &profile["id"]), (StatusCode::OK, &first["user"]["id"]));
    let (status, _) =
        stand.post("/auth/refresh", &json!({ "refresh_token": first["refresh_token"] }), None).await;
    assert_eq!(status, StatusCode::OK);

    // Another name and login there: the same person.
    let mut changed = ann(&["desk"]);
    changed["preferred_username"] = "anna".into();
    provider.people(&json!({ "ann-1": changed }));
    let again = sign_in(&stand, &mut Browser::new(), "ann-1").await.json();
    assert_eq!(again["user"]["id"], first["user"]["id"]);
    assert_eq!(roles(&again), ["agent"], "roles follow the groups");
    let (status, _) = stand.ask(Method::GET, "/users/profile", token(&first)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a token with the roles of before is refused");

    provider.people(&json!({ "ann-1": ann(&["whatever"]) }));
    let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
    assert_eq!(
        (page.status, code(&page)),
        (StatusCode::FORBIDDEN, "EML-2003".to_owned()),
        "no group, no role"
    );
    let (status, _) = stand.ask(Method::GET, "/users/profile", token(&again)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let noted = stand.noted().await;
    let whats: Vec<_> = noted.iter().map(|(what, _)| what.as_str()).collect();
    for what in ["user.created", "user.identity_linked", "user.login_succeeded", "user.roles_changed"] {
        assert!(whats.contains(&what), "{what} is noted: {whats:?}");
    }
    stand.close().await;
}

#[tokio::test]
async fn every_kind_of_provider_can_be_signed_in_with() {
    for (client_auth, algorithm, id_token_has_all) in [
        ("client_secret_post", "ES256", true),
        ("none", "EdDSA", false),
        ("client_secret_basic", "PS256", true),
    ] {
        let setup = Setup { client_auth, algorithm, id_token_has_all };
        let Some(provider) = RealProvider::start(CALLBACK, &setup) else { return };
        provider.people(&json!({ "ann-1": ann(&["desk"]) }));
        let mut section = open_section(&provider.issuer);
        if client_auth == "none" {
            section.client_secret = String::new();
        }
        let stand = Stand::open(section).await;
        let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
        assert_eq!(page.status, StatusCode::OK, "{client_auth} {algorithm}: {}", page.body);
        assert_eq!(roles(&page.json()), ["agent"], "{client_auth} {algorithm}");
        stand.close().await;
    }
}

#[tokio::test]
async fn nobody_new_comes_in_where_users_are_not_made() {
    let Some(provider) = RealProvider::start(CALLBACK, &USUAL) else { return };
    provider.people(&json!({ "ann-1": ann(&["leads"]) }));
    let stand = Stand::open(Oidc { create_users: false, ..open_section(&provider.issuer) }).await;
    let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
    assert_eq!((page.status, code(&page)), (StatusCode::FORBIDDEN, "EML-2016".to_owned()));
    assert!(stand.node.engine.stores().records.all(RecordKind::User).await.unwrap().is_empty());
    assert_eq!(stand.times("user.login_failed").await, 1);

    let mut browser = Browser::new();
    let page = stand.set_out(&mut browser, "").await;
    let back = browser.turn_down(page.location(), CALLBACK).await;
    let page = stand.come_back(&mut browser, &back).await;
    assert_eq!((page.status, code(&page)), (StatusCode::UNAUTHORIZED, "EML-2005".to_owned()), "turned down");
    stand.close().await;
}

/// A user of ours with an address.
async fn user(stand: &Stand, login: &str, email: &str, verified: bool) -> UserId {
    let user = User {
        id: UserId::fresh(),
        login: login.to_owned(),
        name: login.to_owned(),
        email: Some(email.parse().unwrap()),
        email_verified: verified,
        roles: [RoleName::admin()].into(),
        epoch: 0,
        password_hash: "$2b$04$only-looks-like-one".to_owned(),
        enabled: true,
    };
    let now = stand.node.engine.clock().now();
    let records = &stand.node.engine.stores().records;
    let record = |key: &str, id, body| StoredRecord {
        id,
        key: key.to_owned(),
        body,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let own = record(login, user.id.uuid(), serde_json::to_value(&user).unwrap());
    records.insert(RecordKind::User, own).await.unwrap();
    let address = record(email, UserId::fresh().uuid(), json!({ "user_id": user.id }));
    records.insert(RecordKind::Email, address).await.unwrap();
    user.id
}

#[tokio::test]
async fn an_address_leads_to_its_user_only_if_both_sides_verified_it_and_the_section_says_so() {
    let Some(provider) = RealProvider::start(CALLBACK, &USUAL) else { return };
    let mut unverified = ann(&["leads"]);
    unverified["email_verified"] = false.into();
    for (why, link_by_email, claims, ours_is_verified, want) in [
        ("all of it", true, ann(&["leads"]), true, Ok(())),
        ("the section does not say so", false, ann(&["leads"]), true, Err("EML-2016")),
        ("the provider did not verify it", true, unverified, true, Err("EML-2016")),
        ("we did not verify it", true, ann(&["leads"]), false, Err("EML-2016")),
    ] {
        provider.people(&json!({ "ann-1": claims }));
        let stand = Stand::open(Oidc { link_by_email, ..section(&provider.issuer) }).await;
        let ours = user(&stand, "boss", "ann@example.org", ours_is_verified).await;
        let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
        match want {
            Ok(()) => {
                assert_eq!(page.json()["user"]["id"], json!(ours), "{why}: {}", page.body);
                assert_eq!(roles(&page.json()), ["admin"], "{why}: a user of before keeps its roles");
                // Linked now: the address does not matter any more.
                provider.people(&json!({ "ann-1": { "email": "other@example.org" } }));
                let again = sign_in(&stand, &mut Browser::new(), "ann-1").await;
                assert_eq!(again.json()["user"]["id"], json!(ours), "{why}");
            }
            Err(refusal) => assert_eq!(code(&page), refusal, "{why}: {}", page.body),
        }
        stand.close().await;
    }
}

#[tokio::test]
async fn an_address_of_another_user_is_not_taken_over_by_somebody_new() {
    let Some(provider) = RealProvider::start(CALLBACK, &USUAL) else { return };
    provider.people(&json!({ "ann-1": ann(&["leads"]), "boss": { "groups": ["desk"] } }));
    let stand = Stand::open(open_section(&provider.issuer)).await;
    let boss = user(&stand, "ann", "ann@example.org", true).await;
    let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
    assert_eq!((page.status, code(&page)), (StatusCode::CONFLICT, "EML-1009".to_owned()), "{}", page.body);

    // A login that is taken is no way in either: somebody else gets another.
    let mut other = ann(&["desk"]);
    other["email"] = "second@example.org".into();
    provider.people(&json!({ "ann-2": other }));
    let page = sign_in(&stand, &mut Browser::new(), "ann-2").await.json();
    assert_ne!(page["user"]["id"], json!(boss));
    assert_eq!(page["user"]["login"], "second@example.org");
    stand.close().await;
}

#[tokio::test]
async fn a_user_who_is_disabled_stays_out() {
    let Some(provider) = RealProvider::start(CALLBACK, &USUAL) else { return };
    provider.people(&json!({ "ann-1": ann(&["desk"]) }));
    let stand = Stand::open(open_section(&provider.issuer)).await;
    sign_in(&stand, &mut Browser::new(), "ann-1").await;
    let records = &stand.node.engine.stores().records;
    let mut stored = records.all(RecordKind::User).await.unwrap().remove(0);
    stored.body["enabled"] = false.into();
    records.update(RecordKind::User, stored).await.unwrap();
    let page = sign_in(&stand, &mut Browser::new(), "ann-1").await;
    assert_eq!((page.status, code(&page)), (StatusCode::UNAUTHORIZED, "EML-2005".to_owned()));
    stand.close().await;
}
