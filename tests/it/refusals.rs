//! Bad input and bad times: a clear answer, nothing stored that should not be, never a stuck call.

use eml::domain::id::CallId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use crate::support::{House, HouseSettings, NUMBER, PUBLIC, TOKEN, form};

fn inbound(sid: &str) -> Vec<(String, String)> {
    form(&[
        ("CallSid", sid),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", "anonymous"),
        ("To", NUMBER),
    ])
}

#[tokio::test]
async fn a_webhook_that_the_provider_did_not_sign_is_refused_and_nothing_is_stored() {
    let (house, _fake) = House::with_fake().await;
    let target = "/webhooks/twilio/voice";
    let good =
        eml::edge::providers::twilio::signature::sign(TOKEN, &format!("{PUBLIC}{target}"), &inbound("CA1"));
    for (why, fields, signature) in [
        ("no signature", inbound("CA1"), ""),
        ("another's signature", inbound("CA1"), "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
        ("changed fields", inbound("CA2"), good.as_str()),
    ] {
        let (status, body) = house.post_form(target, &fields, signature).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{why}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], "EML-4001", "{why}");
        assert!(problem["request_id"].as_str().unwrap().starts_with("req_"));
    }
    assert_eq!(house.get("/calls/history").await["data"], json!([]));
    assert_eq!(house.node().engine.stores().journal.last_position().await.unwrap(), 0);
    let figures = house.node().engine.metrics().encode();
    assert!(figures.contains(r#"provider="twilio",result="bad_signature"} 3"#), "{figures}");
    house.close().await;
}

#[tokio::test]
async fn malformed_unknown_and_huge_requests_get_a_clear_answer() {
    let (house, _fake) = House::with_fake().await;
    let (status, body) = house.webhook("voice", &form(&[("From", "+12025550143")])).await;
    assert_eq!((status, body.contains("EML-4002")), (StatusCode::BAD_REQUEST, true), "{body}");
    let (status, _) = house.webhook("no-such-path", &inbound("CA1")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, body) =
        house.webhook("status", &form(&[("CallSid", "CAunknown"), ("CallStatus", "completed")])).await;
    assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""), "unknown calls are acknowledged");
    let huge = "x".repeat(10 * 1024 * 1024);
    for path in ["/webhooks/twilio/voice", "/auth/login"] {
        // The connection may be cut before all of it is sent; what is answered must be a refusal.
        let sent = house.http.post(format!("{}{path}", house.base)).body(huge.clone()).send().await;
        if let Ok(response) = sent {
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        }
    }
    for (method, path, body, status, code) in [
        (
            Method::POST,
            "/calls/start",
            json!({ "to": "2025550143" }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "EML-1014",
        ),
        (
            Method::POST,
            "/calls/start",
            json!({ "to": "+12025550143", "too": 1 }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "EML-1006",
        ),
        (Method::POST, "/calls/start", json!({ "to": 7 }), StatusCode::UNPROCESSABLE_ENTITY, "EML-1002"),
        (
            Method::GET,
            "/calls/call_7ywhq02ymabe1t6r2dbmp2gskx",
            Value::Null,
            StatusCode::NOT_FOUND,
            "EML-3001",
        ),
        (Method::GET, "/calls/history?limit=0", Value::Null, StatusCode::BAD_REQUEST, "EML-1016"),
        (Method::GET, "/calls/history?cursor=x", Value::Null, StatusCode::BAD_REQUEST, "EML-1015"),
        (Method::DELETE, "/calls/start", Value::Null, StatusCode::METHOD_NOT_ALLOWED, "EML-1004"),
        (Method::GET, "/nowhere", Value::Null, StatusCode::NOT_FOUND, "EML-1003"),
        (Method::POST, "/queues", json!({ "name": "support" }), StatusCode::CONFLICT, "EML-1009"),
    ] {
        let (got, problem) = house.request(method, path, body, &house.admin()).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_call_is_checked_as_it_would_be_started_and_not_made() {
    let (house, fake) = House::with_fake().await;
    let plan = house.post("/calls/check", json!({ "to": "+12025550143", "queue": "support" })).await;
    let want = json!({
        "to": "+12025550143", "from": NUMBER, "provider": "twilio", "queue_id": house.queue_id, "agent_id": null,
    });
    assert_eq!(plan, want);
    for body in [
        json!({ "to": "2025550143" }),
        json!({ "to": "+12025550143", "from": "nobody" }),
        json!({ "to": "+12025550143", "queue": "none" }),
        json!({ "to": "+12025550143", "provider": "none" }),
        json!({ "to": "+12025550143", "agent_id": eml::domain::id::AgentId::fresh() }),
        json!({ "to": 7 }),
        json!({ "too": "+12025550143" }),
        json!({}),
    ] {
        let asked = house.request(Method::POST, "/calls/check", body.clone(), &house.admin()).await;
        let started = house.request(Method::POST, "/calls/start", body.clone(), &house.admin()).await;
        assert!(asked.0.is_client_error(), "{body}: {}", asked.1);
        assert_eq!((asked.0, &asked.1["code"]), (started.0, &started.1["code"]), "{body}");
        assert_eq!(asked.1["errors"], started.1["errors"], "{body}");
    }
    assert_eq!(house.get("/calls/active").await["data"], json!([]));
    assert!(fake.received().is_empty(), "the provider was asked for nothing");
    house.close().await;
}

#[tokio::test]
async fn callbacks_after_the_end_are_kept_and_change_nothing() {
    let (house, _fake) = House::with_fake().await;
    let id = house.call_in("CA1").await;
    let over = form(&[
        ("CallSid", "CA1"),
        ("CallStatus", "completed"),
        ("Direction", "inbound"),
        ("SequenceNumber", "0"),
    ]);
    house.webhook("status", &over).await;
    let before = house.await_call(id, "it is over", |call| call["state"] == "ended").await;
    let late = form(&[
        ("CallSid", "CA1"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("SequenceNumber", "9"),
    ]);
    let (status, _) = house.webhook("status", &late).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(house.call(id).await, before);
    let timeline = house.timeline(id).await;
    let last = timeline.last().unwrap();
    assert_eq!(last["type"], "call.carrier_reported");
    assert_eq!(last["data"]["fields"]["SequenceNumber"], "9");
    house.close().await;
}

#[tokio::test]
async fn a_number_that_leads_nowhere_is_refused_without_being_answered() {
    let (house, _fake) = House::with_fake().await;
    let mut fields = inbound("CA1");
    fields[4].1 = "+12025550999".to_owned();
    let (status, body) = house.webhook("voice", &fields).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("<Reject/>"), "{body}");
    let call = house.call(CallId::derived("twilio", "CA1")).await;
    assert_eq!((&call["outcome"], &call["state"]), (&json!("rejected"), &json!("ended")));
    house.close().await;
}

#[tokio::test]
async fn roles_may_do_what_the_table_says_and_nothing_else() {
    let (house, _fake) = House::with_fake().await;
    let ana = house.agent("ana").await;
    for (method, path, body) in [
        (Method::POST, "/queues", json!({ "name": "mine" })),
        (Method::GET, "/users/list", Value::Null),
        (Method::POST, "/users/register", json!({ "login": "x", "password": "longenough", "role": "admin" })),
    ] {
        let (status, problem) = house.request(method, path, body, &ana).await;
        assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("EML-2003")), "{path}");
    }
    let naked = house.http.get(format!("{}/calls/history", house.base)).send().await.unwrap();
    assert_eq!(naked.status(), StatusCode::UNAUTHORIZED);
    let id = house.call_in("CA1").await;
    let (status, problem) =
        house.request(Method::POST, &format!("/calls/{id}/hangup"), Value::Null, &ana).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("EML-3003")));
    house.close().await;
}

#[tokio::test]
async fn people_sign_in_with_a_password_and_nobody_learns_which_part_was_wrong() {
    let (house, _fake) = House::with_fake().await;
    house
        .post(
            "/users/register",
            json!({ "login": "Sue", "password": "correct horse of the river", "role": "supervisor" }),
        )
        .await;
    let login = |login: &str, password: &str| {
        let body = json!({ "login": login, "password": password });
        house.http.post(format!("{}/auth/login", house.base)).json(&body).send()
    };
    let good: Value = login("sue", "correct horse of the river").await.unwrap().json().await.unwrap();
    assert_eq!(good["token_type"], "Bearer");
    let token = good["access_token"].as_str().unwrap();
    let profile =
        house.http.get(format!("{}/users/profile", house.base)).bearer_auth(token).send().await.unwrap();
    assert_eq!(profile.json::<Value>().await.unwrap()["login"], "sue");
    let (wrong, unknown) = (login("sue", "x").await.unwrap(), login("bob", "x").await.unwrap());
    assert_eq!((wrong.status(), unknown.status()), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    let plain = |mut problem: Value| {
        problem["request_id"] = Value::Null;
        problem
    };
    assert_eq!(plain(wrong.json().await.unwrap()), plain(unknown.json().await.unwrap()));
    let fresh = json!({ "refresh_token": good["refresh_token"] });
    let fresh = house.http.post(format!("{}/auth/refresh", house.base)).json(&fresh).send().await.unwrap();
    assert_eq!(fresh.status(), StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn while_facts_cannot_be_stored_nothing_is_acknowledged_and_the_caller_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eml.db");
    let settings = HouseSettings {
        store_url: Some(format!("sqlite://{}", file.display())),
        folder: Some(folder.path().to_owned()),
        ..HouseSettings::default()
    };
    let house = House::open(settings).await;
    let first = house.call_in("CA1").await;

    let mut lock = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    let (status, _) = house.webhook("voice", &inbound("CA2")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "the provider asks the fallback address next");
    let (status, body) = house.webhook("voice/fallback", &inbound("CA2")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("<Say>") && body.contains("<Hangup/>"), "the safe document: {body}");
    let over = form(&[("CallSid", "CA1"), ("CallStatus", "completed"), ("Direction", "inbound")]);
    let (status, _) = house.webhook("status", &over).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "the provider comes again");
    let ready = house.http.get(format!("{}/health/ready", house.base)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let live = house.http.get(format!("{}/health/live", house.base)).send().await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);

    lock.execute("ROLLBACK").await.unwrap();
    house.await_call(first, "nothing happened to it", |call| call["state"] == "queued").await;
    let (status, _) = house.webhook("status", &over).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    house.await_call(first, "it ends after all", |call| call["state"] == "ended").await;
    let ready = house.http.get(format!("{}/health/ready", house.base)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    house.close().await;
}
