//! The corpus of provider sequences: in order, with everything doubled, and shuffled. Whatever the
//! order, the call ends with the same facts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eml::domain::id::CallId;
use eml::edge::auth::Holder;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use crate::support::{FakeTwilio, House, HouseSettings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsRecorded,
    Doubled,
    Shuffled(u64),
}

const ORDERS: [Order; 6] = [
    Order::AsRecorded,
    Order::Doubled,
    Order::Shuffled(1),
    Order::Shuffled(2),
    Order::Shuffled(3),
    Order::Shuffled(4),
];

struct Scenario {
    lines: Vec<Value>,
    facts: Value,
}

fn scenario(name: &str) -> Scenario {
    let folder = format!("{}/tests/fixtures/corpus", env!("CARGO_MANIFEST_DIR"));
    let index: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{folder}/index.json")).unwrap()).unwrap();
    let entry = index["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["file"].as_str().unwrap().starts_with(name));
    let entry = entry.unwrap();
    let text = std::fs::read_to_string(format!("{folder}/{}", entry["file"].as_str().unwrap())).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Scenario { lines, facts: entry["facts"].clone() }
}

/// Where each placeholder of the corpus is at our side.
fn path(placeholder: &str) -> &'static str {
    match placeholder {
        "{voice_url}" => "voice",
        "{fallback_url}" => "voice/fallback",
        "{status_url}" => "status",
        "{conference_url}" => "conference",
        "{wait_url}" => "wait",
        "{agent_twiml_url}" | "{outbound_twiml_url}" => "agent",
        "{dial_action_url}" | "{queue_action_url}" | "{record_action_url}" => "dial-action",
        "{recording_url}" => "recording",
        other => panic!("no path for {other}"),
    }
}

struct Play {
    house: House,
    fake: FakeTwilio,
    agents: HashMap<&'static str, Holder>,
    scenario: Scenario,
    order: Order,
}

impl Play {
    async fn set(name: &str, order: Order) -> Self {
        let scenario = scenario(name);
        let fake = FakeTwilio::start().await;
        let creates: Vec<Value> =
            scenario.lines.iter().filter(|line| line["kind"] == "rest").cloned().collect();
        let next = Arc::new(Mutex::new(creates.into_iter()));
        fake.answer(move |request| {
            let is_create = request.method == "POST" && request.path.ends_with("/Calls.json");
            if !is_create {
                return (200, json!({ "sid": "CA0", "status": "completed" }));
            }
            match next.lock().unwrap().next() {
                Some(line) => (201, line["respond"]["json"].clone()),
                None => (400, json!({ "code": 20001, "status": 400 })),
            }
        });
        let house =
            House::open(HouseSettings { api_base: fake.base.clone(), ..HouseSettings::default() }).await;
        let mut agents = HashMap::new();
        for name in ["ana", "ben", "cho"] {
            agents.insert(name, house.agent(name).await);
        }
        Self { house, fake, agents, scenario, order }
    }

    async fn post(&self, line: &Value) -> String {
        let fields: Vec<(String, String)> = serde_json::from_value(line["form"].clone()).unwrap();
        let (status, body) = self.house.webhook(path(line["path"].as_str().unwrap()), &fields).await;
        assert!(status.is_success(), "{line}: {status} {body}");
        if line["reply"] == "twiml" {
            assert!(body.starts_with("<?xml") && body.contains("<Response"), "{body}");
        }
        body
    }

    /// Posts the webhooks; the first one goes first, since nothing else exists before it.
    async fn post_all(&self, skip: usize) {
        let mut lines: Vec<_> =
            self.scenario.lines.iter().skip(skip).filter(|line| line["kind"] == "webhook").cloned().collect();
        match self.order {
            Order::AsRecorded => {}
            Order::Doubled => lines = lines.into_iter().flat_map(|line| [line.clone(), line]).collect(),
            Order::Shuffled(seed) => lines.shuffle(&mut StdRng::seed_from_u64(seed)),
        }
        for line in &lines {
            let first = self.post(line).await;
            if self.order == Order::Doubled {
                assert!(!first.is_empty() || line["reply"] == "ack");
            }
        }
    }

    fn call_id(&self) -> CallId {
        let sid = self.scenario.lines.iter().find(|line| line["kind"] == "webhook").unwrap();
        let fields: Vec<(String, String)> = serde_json::from_value(sid["form"].clone()).unwrap();
        CallId::derived("twilio", &fields.iter().find(|(name, _)| name == "CallSid").unwrap().1)
    }

    /// Checks the facts that the index names.
    async fn check(&self, id: CallId, name: &str) {
        let facts = &self.scenario.facts;
        let agent = facts.get("agent").map(|agent| self.agent_id(agent));
        let expected = [
            ("outcome", facts.get("caller_outcome").or_else(|| facts.get("outcome")).cloned()),
            ("wait_s", facts.get("wait_s").cloned()),
            ("talk_s", facts.get("talk_s").cloned()),
            ("ended_by", facts.get("ended_by").cloned()),
            ("agent_id", agent),
            ("legs", facts.get("legs").cloned()),
            ("status", facts.get("final_status").cloned()),
        ];
        let seen = |call: &Value| -> HashMap<&'static str, Value> {
            let seconds = |field: &str| call[field].as_u64().map_or(json!(0), |ms| json!((ms + 500) / 1000));
            HashMap::from([
                ("outcome", call["outcome"].clone()),
                ("wait_s", seconds("wait_ms")),
                ("talk_s", seconds("talk_ms")),
                ("ended_by", call["ended_by"].clone()),
                ("agent_id", call["agent_id"].clone()),
                ("legs", json!(call["legs"].as_array().map_or(0, Vec::len))),
                ("status", call["status"].clone()),
            ])
        };
        let why = format!("{name} {:?}: wanted {expected:?}", self.order);
        let call = self
            .house
            .await_call(id, &why, |call| {
                let seen = seen(call);
                expected.iter().all(|(field, want)| want.as_ref().is_none_or(|want| seen[field] == *want))
            })
            .await;
        assert!(call["ended_at"].is_string(), "{why}: {call:#}");
        self.check_attempts(&call, &why);
        self.fake.assert_judged();
    }

    fn agent_id(&self, named: &Value) -> Value {
        let name = named.as_str().and_then(|name| name.strip_prefix("agent_"));
        name.map_or(Value::Null, |name| json!(self.agents[name].agent_id))
    }

    fn check_attempts(&self, call: &Value, why: &str) {
        let Some(attempts) = self.scenario.facts.get("attempts").and_then(Value::as_array) else { return };
        for attempt in attempts {
            let (who, how) = (attempt[0].as_str().unwrap(), attempt[1].as_str().unwrap());
            let address = if who.starts_with('+') { who.to_owned() } else { format!("client:{who}") };
            let legs = call["legs"].as_array().unwrap();
            let leg = legs
                .iter()
                .find(|leg| leg["address"] == json!(address))
                .unwrap_or_else(|| panic!("{why}: {address}"));
            let seen =
                if leg["answered_at"].is_string() { json!("answered") } else { leg["end_reason"].clone() };
            assert_eq!(seen, json!(how.replace('-', "_")), "{why}: {leg}");
        }
    }
}

/// Sequences in which nothing of ours takes part but the answers to webhooks.
async fn observed(name: &str) {
    for order in ORDERS {
        let play = Play::set(name, order).await;
        play.post(&play.scenario.lines[0].clone()).await;
        play.post_all(1).await;
        play.check(play.call_id(), name).await;
        play.house.close().await;
    }
}

/// Sequences in which an agent of ours is called by our request.
async fn placed(name: &str) {
    for order in ORDERS {
        let play = Play::set(name, order).await;
        let mut desk = play.house.desk(&play.agents["ana"], None).await;
        desk.ask("agent.set_activity", json!({ "activity": "available" })).await;
        let first = play.post(&play.scenario.lines[0].clone()).await;
        assert!(first.contains("<Conference"), "{first}");
        let offer = desk.event("offer.created").await;
        desk.ask("offer.accept", json!({ "offer_id": offer["data"]["offer_id"] })).await;
        let create =
            play.fake.await_request("the agent's leg", |request| request.path.ends_with("/Calls.json")).await;
        let wanted =
            &play.scenario.lines.iter().find(|line| line["kind"] == "rest").unwrap()["expect"]["form"];
        assert_eq!(create.field("To"), wanted["To"].as_str());
        assert_eq!(create.field("From"), wanted["From"].as_str());
        play.post_all(1).await;
        play.check(play.call_id(), name).await;
        if name == "tw_16" && order == Order::AsRecorded {
            let cancel = |request: &crate::support::Received| request.field("Status") == Some("canceled");
            play.fake.await_request("the ringing leg is called off", cancel).await;
        }
        let creates = play
            .fake
            .received()
            .iter()
            .filter(|request| request.path.ends_with("/Calls.json") && request.method == "POST")
            .count();
        assert_eq!(creates, 1, "{name} {order:?}: no leg is placed twice");
        play.house.close().await;
    }
}

#[tokio::test]
async fn tw_01_a_caller_waits_in_a_conference_and_an_agent_answers() {
    placed("tw_01").await;
}

#[tokio::test]
async fn tw_02_a_dialled_agent_answers_and_hangs_up() {
    observed("tw_02").await;
}

#[tokio::test]
async fn tw_03_a_caller_gives_up_in_the_provider_s_queue() {
    observed("tw_03").await;
}

#[tokio::test]
async fn tw_04_an_agent_s_phone_is_busy_and_the_caller_leaves_a_message() {
    observed("tw_04").await;
}

#[tokio::test]
async fn tw_05_the_first_agent_does_not_answer_and_the_second_does() {
    observed("tw_05").await;
}

#[tokio::test]
async fn tw_13_everything_arrives_two_or_three_times() {
    for order in ORDERS {
        let play = Play::set("tw_13", order).await;
        let first = play.post(&play.scenario.lines[0].clone()).await;
        let second = play.post(&play.scenario.lines[1].clone()).await;
        assert_eq!(first, second, "the same question gets the same document");
        play.post_all(2).await;
        play.check(play.call_id(), "tw_13").await;
        let timeline = play.house.timeline(play.call_id()).await;
        let reports = timeline.iter().filter(|row| row["type"] == "call.carrier_reported").count();
        assert_eq!(json!(reports), play.scenario.facts["unique_events"]);
        play.house.close().await;
    }
}

#[tokio::test]
async fn tw_14_callbacks_of_an_outbound_call_arrive_in_any_order() {
    for order in ORDERS {
        let play = Play::set("tw_14", order).await;
        let started =
            play.house.post("/calls/start", json!({ "to": "+12025550143", "from": "+12025550100" })).await;
        let id: CallId = started["id"].as_str().unwrap().parse().unwrap();
        play.fake.await_request("the customer's leg", |request| request.path.ends_with("/Calls.json")).await;
        play.house.await_call(id, "the leg has its name", |call| call["provider_call_id"].is_string()).await;
        play.post_all(1).await;
        play.check(id, "tw_14").await;
        let timeline = play.house.timeline(id).await;
        let answered = timeline.iter().any(|row| {
            let moved = &row["data"];
            moved["status"] == "connected" && moved["carrier_at"] == "2026-03-02T09:00:09.000Z"
        });
        assert!(answered, "the answer time is known: {timeline:#?}");
        play.house.close().await;
    }
}

#[tokio::test]
async fn tw_15_three_agents_ring_at_once_and_one_answers() {
    observed("tw_15").await;
}

#[tokio::test]
async fn tw_16_the_caller_is_gone_while_the_agent_s_phone_rings() {
    placed("tw_16").await;
}

#[tokio::test]
async fn tw_17_the_provider_asks_the_fallback_address() {
    for order in ORDERS {
        let play = Play::set("tw_17", order).await;
        // The first request was answered with 500 elsewhere; we only see the second.
        play.post(&play.scenario.lines[1].clone()).await;
        play.post_all(2).await;
        play.check(play.call_id(), "tw_17").await;
        play.house.close().await;
    }
}

#[tokio::test]
async fn tw_22_callers_may_be_words_or_sip_addresses() {
    for order in ORDERS {
        let play = Play::set("tw_22", order).await;
        let number = json!({ "address": "sip:support@eml.sip.twilio.com", "queue_id": play.house.queue_id });
        play.house.post("/numbers", number).await;
        play.post_all(0).await;
        let rows = play.house.get("/calls/history").await["data"].clone();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), 2, "{order:?}: {rows:#?}");
        let legs: usize = rows.iter().map(|row| row["legs"].as_array().unwrap().len()).sum();
        assert_eq!(json!(legs), play.scenario.facts["legs"]);
        let from: Vec<_> = rows.iter().map(|row| row["from"].as_str().unwrap().to_owned()).collect();
        assert!(from.iter().any(|from| from == "anonymous"), "{from:?}");
        assert!(from.iter().any(|from| from.starts_with("sip:")), "{from:?}");
        play.house.close().await;
    }
}
