//! Clients as admins manage them.

use std::time::Duration;

use eml::domain::id::UserId;
use eml::edge::auth::Holder;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{self, code, exchange, post, robot, user, web, with_token};
use crate::support::House;

async fn change(house: &House, id: &str, patch: Value) -> (StatusCode, Value) {
    send(house, Method::PATCH, &format!("/clients/{id}"), patch).await
}

/// Sends a change that knows whatever version there is.
async fn send(house: &House, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = house.http.request(method, format!("{}{path}", house.base)).header("if-match", "*");
    let answer = request.bearer_auth(house.token(&house.admin())).json(&body).send().await.unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_secret_is_shown_once_and_never_again() {
    let house = world::house().await;
    let robot = robot(&house).await;
    let secret = robot.secret.clone().unwrap();
    let shown = house.get(&format!("/clients/{}", robot.id)).await;
    let listed = house.get("/clients").await;
    let stores = house.node().engine.stores();
    let kept = stores.records.all(eml::store::records::RecordKind::Client).await.unwrap();
    for text in [shown.to_string(), listed.to_string(), format!("{kept:?}"), world::trail_text(&house).await]
    {
        assert!(!text.contains(&secret), "{text}");
    }
    for text in [shown.to_string(), listed.to_string()] {
        assert!(!text.contains("hash"), "{text}");
    }
    // Nor is it kept to answer a request that comes again.
    let body =
        json!({ "name": "Once", "confidential": true, "grants": ["client_credentials"], "scopes": ["own"] });
    let request = house.http.post(format!("{}/clients", house.base)).header("idempotency-key", "once");
    let made = request.bearer_auth(house.token(&house.admin())).json(&body).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    let claim = eml::store::records::Claim {
        key: &format!("{}\n/clients\nonce", house.admin().user_id),
        request_hash: "",
        now: house.node().engine.clock().now(),
        expired_before: eml::domain::time::Timestamp::from_millis(0),
        abandoned_before: eml::domain::time::Timestamp::from_millis(0),
    };
    let kept = stores.records.claim_key(claim).await.unwrap();
    let secret = made["client_secret"].as_str().unwrap();
    assert!(kept.is_none_or(|kept| !kept.body.contains(secret)), "the answer was kept with its secret");
    house.close().await;
}

#[tokio::test]
async fn another_secret_takes_over_at_once_or_after_a_while() {
    let house = world::house().await;
    let mut robot = robot(&house).await;
    let own = [("grant_type", "client_credentials")];
    let path = format!("/clients/{}/secret", robot.id);
    let old = robot.secret.clone();
    let (status, renewed) = send(&house, Method::POST, &path, json!({ "overlap_ms": 60_000 })).await;
    assert_eq!(status, StatusCode::OK, "{renewed}");
    assert!(renewed["earlier_secret_until"].is_string(), "{renewed}");
    assert_eq!(post(&house, "/oauth/token", &robot, &own).await.0, StatusCode::OK, "the old one still works");
    robot.secret = renewed["client_secret"].as_str().map(ToOwned::to_owned);
    assert_ne!(robot.secret, old);
    assert_eq!(post(&house, "/oauth/token", &robot, &own).await.0, StatusCode::OK, "the new one works");
    let (_, renewed) = send(&house, Method::POST, &path, json!({})).await;
    for secret in [old, robot.secret.clone()] {
        robot.secret = secret;
        assert_eq!(post(&house, "/oauth/token", &robot, &own).await.0, StatusCode::UNAUTHORIZED);
    }
    robot.secret = renewed["client_secret"].as_str().map(ToOwned::to_owned);
    assert_eq!(post(&house, "/oauth/token", &robot, &own).await.0, StatusCode::OK);
    let public = world::device(&house).await;
    let (status, _) = send(&house, Method::POST, &format!("/clients/{}/secret", public.id), json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "a client without a secret gets none");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_is_disabled_or_removed_has_no_tokens_a_second_later() {
    let house = world::house().await;
    let (web, robot) = (web(&house).await, robot(&house).await);
    user(&house, "sue", "supervisor").await;
    let own = [("grant_type", "client_credentials")];
    let tokens = async || {
        let (_, robots) = post(&house, "/oauth/token", &robot, &own).await;
        let (_, given) = exchange(&house, &web, &code(&house, &web, "sue").await).await;
        (robots["access_token"].clone(), given["access_token"].clone(), given["refresh_token"].clone())
    };
    let both = async |(robots, users): (&Value, &Value)| {
        (with_token(&house, "/calls/active", robots).await, with_token(&house, "/users/profile", users).await)
    };
    let (robots, users, refresh) = tokens().await;
    assert_eq!(both((&robots, &users)).await, (StatusCode::OK, StatusCode::OK));
    for client in [&robot, &web] {
        let (status, changed) = change(&house, &client.id, json!({ "enabled": false })).await;
        assert_eq!((status, &changed["enabled"]), (StatusCode::OK, &json!(false)), "{changed}");
        let (status, _) = post(&house, "/oauth/token", client, &own).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(both((&robots, &users)).await, (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    for client in [&robot, &web] {
        change(&house, &client.id, json!({ "enabled": true })).await;
    }
    assert_eq!(both((&robots, &users)).await, (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    // Tokens say the second in which they were made.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str().unwrap())];
    let (status, fresh) = post(&house, "/oauth/token", &web, &form).await;
    assert_eq!(status, StatusCode::OK, "{fresh}");
    let (robots, _, _) = tokens().await;
    let users = &fresh["access_token"];
    assert_eq!(both((&robots, users)).await, (StatusCode::OK, StatusCode::OK), "what comes later is good");
    change(&house, &web.id, json!({ "scopes": ["own"] })).await;
    assert_eq!(with_token(&house, "/users/profile", users).await, StatusCode::UNAUTHORIZED);
    for client in [&robot, &web] {
        let (status, _) = send(&house, Method::DELETE, &format!("/clients/{}", client.id), Value::Null).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(with_token(&house, "/calls/active", &robots).await, StatusCode::UNAUTHORIZED);
    house.close().await;
}

#[tokio::test]
async fn nobody_makes_a_client_that_may_do_more_than_its_maker() {
    let house = world::house().await;
    house
        .request(
            Method::PUT,
            "/roles/gatekeeper",
            json!({ "permissions": ["own", "clients:write", "calls:read"] }),
            &house.admin(),
        )
        .await;
    let keeper =
        Holder { user_id: UserId::fresh(), roles: ["gatekeeper".parse().unwrap()].into(), agent_id: None };
    let body = |scopes: &[&str]| json!({ "name": "Mine", "confidential": true, "grants": ["client_credentials"], "scopes": scopes });
    let (status, made) = house.request(Method::POST, "/clients", body(&["calls:read"]), &keeper).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, _) = house.request(Method::POST, "/clients", body(&["users:write"]), &keeper).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let robot = robot(&house).await;
    let as_keeper = async |method: Method, path: String, body: Value| {
        let request = house.http.request(method, format!("{}{path}", house.base)).header("if-match", "*");
        request.bearer_auth(house.token(&keeper)).json(&body).send().await.unwrap().status()
    };
    for (method, path, body) in [
        (Method::PATCH, format!("/clients/{}", robot.id), json!({ "name": "Taken over" })),
        (Method::POST, format!("/clients/{}/secret", robot.id), json!({})),
    ] {
        let status = as_keeper(method, path.clone(), body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: the client may do more than the caller");
    }
    let own = format!("/clients/{}", made["id"].as_str().unwrap());
    let status = as_keeper(Method::PATCH, own.clone(), json!({ "scopes": ["users:write"] })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(as_keeper(Method::PATCH, own, json!({ "scopes": ["own"] })).await, StatusCode::OK);
    let sue =
        Holder { user_id: UserId::fresh(), roles: ["supervisor".parse().unwrap()].into(), agent_id: None };
    for (method, path) in [
        (Method::GET, "/clients".to_owned()),
        (Method::POST, "/clients".to_owned()),
        (Method::GET, format!("/clients/{}", robot.id)),
        (Method::PATCH, format!("/clients/{}", robot.id)),
        (Method::DELETE, format!("/clients/{}", robot.id)),
    ] {
        let (status, _) = house.request(method.clone(), &path, body(&["own"]), &sue).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_makes_no_sense_or_is_not_the_callers_to_set_is_refused_by_name() {
    let house = world::house().await;
    let fine = json!({
        "name": "App", "confidential": true, "grants": ["authorization_code"], "scopes": ["own"],
        "redirect_uris": ["https://app.example.org/back"],
    });
    for (field, value, pointer) in [
        ("name", json!(""), "/name"),
        ("grants", json!(["implicit"]), "/grants/0"),
        ("grants", json!([]), "/grants"),
        ("scopes", json!(["calls:*"]), "/scopes"),
        ("scopes", json!([]), "/scopes"),
        ("redirect_uris", json!([]), "/redirect_uris"),
        ("redirect_uris", json!(["http://app.example.org/back"]), "/redirect_uris/0"),
        ("redirect_uris", json!(["https://app.example.org/back", "javascript:alert(1)"]), "/redirect_uris/1"),
        ("confidential", json!("yes"), "/confidential"),
        ("id", json!("cli_01h455vb4pex5vsknk084sn02q"), "/id"),
        ("secret_hash", json!("00"), "/secret_hash"),
        ("client_secret", json!("00"), "/client_secret"),
        ("enabled", json!(true), "/enabled"),
    ] {
        let mut body = fine.clone();
        body[field] = value.clone();
        let (status, problem) = house.request(Method::POST, "/clients", body, &house.admin()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {value}: {problem}");
        let found = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(found.starts_with(pointer), "{field} {value}: {problem}");
    }
    let app = world::client(&house, fine).await;
    for patch in [json!({ "confidential": false }), json!({ "secret_hash": "00" }), json!({ "id": "x" })] {
        let (status, problem) = change(&house, &app.id, patch.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{patch}: {problem}");
    }
    let (status, _) =
        house.request(Method::PATCH, &format!("/clients/{}", app.id), json!({}), &house.admin()).await;
    assert_eq!(status, StatusCode::PRECONDITION_REQUIRED);
    house.close().await;
}
