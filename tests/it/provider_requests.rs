//! Every kind of request that we make to the provider, shown to the independent judge, and what
//! becomes of calls when the provider's answers are lost.

use eml::domain::id::CallId;
use serde_json::json;

use crate::support::{House, Received, form};

fn creates(requests: &[Received]) -> usize {
    requests
        .iter()
        .filter(|request| request.method == "POST" && request.path.ends_with("/Calls.json"))
        .count()
}

#[tokio::test]
async fn every_kind_of_request_is_accepted_by_the_judge() {
    if std::env::var("CI").is_ok() {
        assert!(std::env::var("EML_TEST_JUDGE").is_ok(), "in CI the judge must be there");
    }
    let (house, fake) = House::with_fake().await;
    let (_, mut desk) = house.ready_agent("ana").await;
    let id = house.call_in("CA0000000000000000000000000000000a").await;
    let offer = desk.event("offer.created").await;
    desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    let place = fake.await_request("place", |request| request.path.ends_with("/Calls.json")).await;
    for (name, want) in
        [("To", "client:agent_ana"), ("From", "+12025550100"), ("Method", "POST"), ("Timeout", "15")]
    {
        assert_eq!(place.field(name), Some(want), "{name}");
    }
    assert!(place.field("Url").unwrap().contains(&format!("/webhooks/twilio/agent?call={id}&leg=leg_")));
    house.await_call(id, "named", |call| call["legs"][1]["provider_leg_id"].is_string()).await;
    let sid = house.call(id).await["legs"][1]["provider_leg_id"].as_str().unwrap().to_owned();
    let answered = form(&[("CallSid", &sid), ("CallStatus", "in-progress"), ("Direction", "outbound-api")]);
    let (_, document) = house.webhook(&format!("agent?call={id}"), &answered).await;
    assert!(document.contains("startConferenceOnEnter=\"true\""), "{document}");
    desk.event("call.connected").await;
    desk.ask("call.hold", json!({ "call_id": id })).await;
    desk.ask("call.resume", json!({ "call_id": id })).await;
    fake.await_request("resume", |request| request.field("Hold") == Some("false")).await;
    desk.ask("call.hangup", json!({ "call_id": id })).await;
    fake.await_request("end", |request| request.field("Status") == Some("completed")).await;
    // A call that waits too long is sent to another document, and one in doubt is looked for.
    let engine = &house.node().engine;
    let queue_id = house.queue_id.parse().unwrap();
    let second = house.call_in("CA0000000000000000000000000000000b").await;
    let full = eml::domain::call::CallCommand::QueueFull { queue_id };
    engine.call(second, full).await.unwrap();
    fake.await_request("redirect", |request| {
        request.field("Url").is_some() && !request.path.ends_with("/Calls.json")
    })
    .await;
    fake.answer(|request| {
        let is_create = request.method == "POST" && request.path.ends_with("/Calls.json");
        if is_create { (500, json!({})) } else { (200, json!({ "calls": [], "next_page_uri": null })) }
    });
    house.post("/calls/start", json!({ "to": "+12025550199" })).await;
    fake.await_request("find", |request| request.method == "GET" && request.path.ends_with("/Calls.json"))
        .await;
    fake.assert_judged();
    house.close().await;
}

#[tokio::test]
async fn a_leg_whose_placing_got_no_clear_answer_is_looked_for_and_never_placed_again() {
    let (house, fake) = House::with_fake().await;
    fake.answer(|request| {
        if request.method == "POST" && request.path.ends_with("/Calls.json") {
            return (503, json!({ "code": 20503, "status": 503 }));
        }
        let found =
            json!([{ "sid": "CAfound", "status": "ringing", "start_time": null, "date_created": null }]);
        (200, json!({ "calls": found, "next_page_uri": null, "sid": "CAfound", "status": "ringing" }))
    });
    let started = house.post("/calls/start", json!({ "to": "+12025550199" })).await;
    let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
    let call = house.await_call(id, "found", |call| call["provider_call_id"] == "CAfound").await;
    assert_eq!(call["legs"][0]["in_doubt"], json!(false));
    assert_eq!(creates(&fake.received()), 1);
    house.close().await;
}

#[tokio::test]
async fn a_leg_in_doubt_is_known_by_its_first_callback() {
    let (house, fake) = House::with_fake().await;
    fake.answer(|request| {
        let is_create = request.method == "POST" && request.path.ends_with("/Calls.json");
        (if is_create { 500 } else { 404 }, json!({ "code": 20404, "status": 404 }))
    });
    let started = house.post("/calls/start", json!({ "to": "+12025550199" })).await;
    let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
    let create = fake.await_request("place", |request| request.path.ends_with("/Calls.json")).await;
    let status_url = create.field("StatusCallback").unwrap().to_owned();
    let query = status_url.split_once('?').unwrap().1.split('#').next().unwrap().to_owned();
    let ringing = form(&[
        ("CallSid", "CAreal"),
        ("CallStatus", "ringing"),
        ("Direction", "outbound-api"),
        ("To", "+12025550199"),
        ("SequenceNumber", "1"),
    ]);
    house.webhook(&format!("status?{query}"), &ringing).await;
    let call = house.await_call(id, "named", |call| call["provider_call_id"] == "CAreal").await;
    assert_eq!(call["status"], "ringing");
    assert_eq!(creates(&fake.received()), 1);
    house.close().await;
}

#[tokio::test]
async fn a_create_that_was_refused_for_being_too_much_is_tried_again_and_one_refused_for_good_is_not() {
    let (house, fake) = House::with_fake().await;
    let mut tries = 0;
    fake.answer(move |request| {
        if request.method != "POST" || !request.path.ends_with("/Calls.json") {
            return (200, json!({ "sid": "CA1", "status": "in-progress", "calls": [] }));
        }
        tries += 1;
        match (request.field("To"), tries) {
            (Some("+12025550198"), _) => (400, json!({ "code": 21211, "status": 400 })),
            (_, 1) => (429, json!({ "code": 20429, "status": 429 })),
            _ => (201, json!({ "sid": "CA1", "status": "queued" })),
        }
    });
    let started = house.post("/calls/start", json!({ "to": "+12025550199" })).await;
    let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
    house.await_call(id, "placed at the second try", |call| call["provider_call_id"] == "CA1").await;
    let started = house.post("/calls/start", json!({ "to": "+12025550198" })).await;
    let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
    let call = house.await_call(id, "refused", |call| call["state"] == "ended").await;
    assert_eq!((&call["outcome"], &call["status"]), (&json!("failed"), &json!("failed")));
    house.close().await;
}
