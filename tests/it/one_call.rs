//! One call, end to end, over real HTTP and real sockets, in front of the loopback carrier.

use eml::domain::id::CallId;
use eml::edge::loopback::{CallPlan, Outcome, PhonePlan, Status};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{House, NUMBER};

fn plan(talk_ms: Option<u64>, patience_ms: u64) -> CallPlan {
    CallPlan {
        from: "+12025550143".to_owned(),
        to: NUMBER.to_owned(),
        talk_ms,
        patience_ms: Some(patience_ms),
        ..CallPlan::default()
    }
}

#[tokio::test]
async fn a_call_is_offered_answered_held_ended_and_stands_in_the_history() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (caller, mut desk) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(None, 10_000)).unwrap();
    let id = CallId::derived("twilio", &sid);

    let offer = desk.event("offer.created").await;
    assert_eq!(offer["data"]["call"]["from"], "+12025550143");
    assert_eq!(offer["data"]["call"]["queue_name"], "support");
    assert_eq!(offer["data"]["reason"]["strategy"], "longest_idle");
    desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    desk.event("offer.accepted").await;
    desk.event("call.ringing").await;
    desk.event("call.connected").await;
    let agents = house.get("/agents").await;
    assert_eq!(agents["data"][0]["routing_status"], "interacting");
    assert_eq!(agents["data"][0]["current_call_ids"], json!([id.to_string()]));

    desk.ask("call.hold", json!({ "call_id": id })).await;
    desk.event("call.held").await;
    assert_eq!(house.call(id).await["state"], "held");
    let (status, _) = house.request(Method::POST, &format!("/calls/{id}/resume"), Value::Null, &caller).await;
    assert_eq!(status, StatusCode::OK);
    desk.event("call.resumed").await;

    assert!(carrier.hang_up(&sid));
    let ended = desk.event("call.ended").await;
    assert!(ended["data"]["wrap_up_until"].is_string());
    desk.ask("call.disposition", json!({ "call_id": id, "note": "asked for the bill" })).await;
    desk.ask("wrap_up.complete", json!({ "call_id": id })).await;
    desk.event("wrap_up.ended").await;

    let call = house.await_call(id, "the call is over", |call| call["state"] == "ended").await;
    for (field, want) in [
        ("status", json!("completed")),
        ("outcome", json!("answered")),
        ("exit_reason", json!("answered")),
        ("ended_by", json!("caller")),
        ("agent_id", json!(caller.agent_id)),
        ("note", json!("asked for the bill")),
    ] {
        assert_eq!(call[field], want, "{field} of {call:#}");
    }
    assert_eq!(call["legs"].as_array().unwrap().len(), 2);
    assert!(call["hold_ms"].as_u64().unwrap() > 0);
    let history = house.get(&format!("/calls/history?agent={}", caller.agent_id.unwrap())).await;
    assert_eq!(history["data"][0]["id"], json!(id));
    assert_eq!(house.get("/calls/active").await["data"], json!([]));
    let timeline = house.timeline(id).await;
    let numbers: Vec<_> = timeline.iter().map(|row| row["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=timeline.len() as u64).collect::<Vec<_>>());
    assert!(timeline.iter().any(|row| row["type"] == "call.offered" && row["data"]["reason"]["ready"] == 1));
    house.close().await;
}

#[tokio::test]
async fn when_the_agent_hangs_up_the_customer_is_hung_up() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (_, mut desk) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(None, 10_000)).unwrap();
    let id = CallId::derived("twilio", &sid);
    let offer = desk.event("offer.created").await;
    desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    desk.event("call.connected").await;
    desk.ask("call.hangup", json!({ "call_id": id })).await;
    desk.event("call.ended").await;
    let gone = carrier
        .await_leg_state(&sid, |leg| leg.status == Status::Completed, std::time::Duration::from_secs(5))
        .await;
    assert!(gone.is_ok(), "the customer is still on the line");
    assert_eq!(house.call(id).await["ended_by"], "agent");
    house.close().await;
}

#[tokio::test]
async fn an_offer_that_is_let_pass_goes_to_the_next_agent_and_keeps_its_place() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (_, mut ana) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(Some(200), 10_000)).unwrap();
    let id = CallId::derived("twilio", &sid);
    let offer = ana.event("offer.created").await;
    let (ben, mut desk) = house.ready_agent("ben").await;
    ana.ask("offer.reject", json!({ "offer_id": offer["data"]["offer_id"], "reason": "not mine" })).await;
    ana.event("offer.rejected").await;
    let second = desk.event("offer.created").await;
    assert_eq!(second["data"]["call"]["queued_at"], offer["data"]["call"]["queued_at"], "its place is kept");
    let late = ana.try_ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    assert_eq!(late["problem"]["code"], "EML-3004", "{late}");
    desk.ask("offer.accept", json!({ "offer_id": second["data"]["offer_id"] })).await;
    desk.event("call.ended").await;
    let call = house.await_call(id, "ben had it", |call| call["outcome"] == "answered").await;
    assert_eq!(call["agent_id"], json!(ben.agent_id));
    house.close().await;
}

#[tokio::test]
async fn an_offer_nobody_answers_times_out_and_the_second_makes_the_agent_not_ready() {
    let (house, carrier) = House::with_carrier(|settings| {
        settings.routing.reject_backoff_ms = eml::domain::time::Millis(100);
    })
    .await;
    let queue = house.get(&format!("/queues/{}", house.queue_id)).await;
    let request = house.http.patch(format!("{}/queues/{}", house.base, house.queue_id));
    let request = request.bearer_auth(house.token(&house.admin())).header("if-match", "\"v1\"");
    let changed = request.json(&json!({ "ring_timeout_ms": 1_000 })).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK, "{queue}");
    let (_, mut desk) = house.ready_agent("ana").await;
    carrier.place_call(plan(None, 30_000)).unwrap();
    desk.event("offer.created").await;
    desk.event("offer.timeout").await;
    // The same call is not offered to the same agent at once; another one is.
    carrier.place_call(plan(None, 30_000)).unwrap();
    desk.event("offer.created").await;
    desk.event("offer.timeout").await;
    let state = desk.event("agent.state_changed").await;
    assert_eq!(state["data"]["name"], "not_ready");
    assert_eq!(state["data"]["reason"], "missed_offers");
    house.close().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_takes_the_offer_back() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (_, mut desk) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(None, 10_000)).unwrap();
    let id = CallId::derived("twilio", &sid);
    desk.event("offer.created").await;
    assert!(carrier.hang_up(&sid));
    desk.event("offer.canceled").await;
    let call = house.await_call(id, "abandoned", |call| call["state"] == "ended").await;
    assert_eq!((&call["outcome"], &call["exit_reason"]), (&json!("abandoned"), &json!("abandoned")));
    assert_eq!(call["agent_id"], Value::Null);
    house.close().await;
}

#[tokio::test]
async fn an_agent_whose_phone_is_busy_gives_the_call_back_to_the_queue() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    carrier.set_phone("agent_ana", PhonePlan { outcome: Outcome::Busy, ..PhonePlan::default() });
    let (_, mut ana) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(Some(100), 10_000)).unwrap();
    let offer = ana.event("offer.created").await;
    let (ben, mut desk) = house.ready_agent("ben").await;
    ana.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    let failed = ana.event("call.failed").await;
    assert_eq!(failed["data"]["busy"], json!(true));
    let offer = desk.event("offer.created").await;
    desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    desk.event("call.ended").await;
    let call = house
        .await_call(CallId::derived("twilio", &sid), "ben had it", |call| call["outcome"] == "answered")
        .await;
    assert_eq!(call["agent_id"], json!(ben.agent_id));
    assert_eq!(call["legs"].as_array().unwrap().len(), 3);
    house.close().await;
}

#[tokio::test]
async fn a_lost_socket_comes_back_and_misses_nothing() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (caller, mut desk) = house.ready_agent("ana").await;
    let sid = carrier.place_call(plan(None, 20_000)).unwrap();
    let id = CallId::derived("twilio", &sid);
    let offer = desk.event("offer.created").await;
    desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
    desk.event("call.connected").await;
    let last = desk.last_sequence;
    desk.close().await;
    let (status, _) =
        house.request(Method::POST, &format!("/calls/{id}/hold"), Value::Null, &house.admin()).await;
    assert_eq!(status, StatusCode::OK);
    let mut desk = house.desk(&caller, Some(last)).await;
    assert_eq!(desk.hello["data"]["resumed"], json!(true));
    assert_eq!(desk.hello["data"]["snapshot"]["calls"][0]["state"], "held");
    desk.event("agent.disconnected").await;
    desk.event("call.held").await;
    desk.event("agent.connected").await;
    // A number that the session never reached cannot be resumed from.
    let other = house.desk(&caller, Some(1_000_000)).await;
    assert_eq!(other.hello["data"]["resumed"], json!(false));
    house.close().await;
}

#[tokio::test]
async fn a_repeated_command_gets_the_same_reply_and_is_done_once() {
    let (house, _carrier) = House::with_carrier(|_| {}).await;
    let (caller, mut desk) = house.ready_agent("ana").await;
    let start = json!({ "to": "+12025550199" });
    let first = desk.ask_as("same", "call.start", start.clone()).await;
    let second = desk.ask_as("same", "call.start", start.clone()).await;
    assert_eq!(first, second);
    let mut again = house.desk(&caller, None).await;
    let third = again.ask_as("same", "call.start", start).await;
    assert_eq!(third["data"]["id"], first["data"]["id"], "also over another socket");
    assert_eq!(house.get("/calls/history").await["data"].as_array().unwrap().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn an_outbound_call_joins_its_agent_and_the_customer() {
    let (house, carrier) = House::with_carrier(|_| {}).await;
    let (caller, mut desk) = house.ready_agent("ana").await;
    carrier.set_phone("+12025550199", PhonePlan { talk_ms: Some(300), ..PhonePlan::default() });
    let started = desk.ask("call.start", json!({ "to": "+12025550199", "context": { "ticket": 7 } })).await;
    let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
    desk.event("call.started").await;
    desk.event("call.connected").await;
    desk.event("call.ended").await;
    let call = house.await_call(id, "it was answered", |call| call["outcome"] == "answered").await;
    assert_eq!(call["direction"], "outbound");
    assert_eq!(call["ended_by"], "callee");
    assert_eq!(call["agent_id"], json!(caller.agent_id));
    assert_eq!(call["context"], json!({ "ticket": 7 }));
    house.close().await;
}

#[tokio::test]
async fn a_key_makes_a_creating_request_happen_once() {
    let (house, _carrier) = House::with_carrier(|_| {}).await;
    let send = |body: Value| {
        let request =
            house.http.post(format!("{}/calls/start", house.base)).bearer_auth(house.token(&house.admin()));
        request.header("idempotency-key", "k1").json(&body).send()
    };
    let first = send(json!({ "to": "+12025550199" })).await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let first: Value = first.json().await.unwrap();
    let second = send(json!({ "to": "+12025550199" })).await.unwrap();
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(second.json::<Value>().await.unwrap()["id"], first["id"]);
    let other = send(json!({ "to": "+12025550198" })).await.unwrap();
    assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(house.get("/calls/history").await["data"].as_array().unwrap().len(), 1);
    house.close().await;
}
