//! The judge judged: a sound history has no violation, and each planted one is found by its rule.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Rule, check, false_takeovers};
use crate::chaos::history::{
    AgentLog, Entity, Handover, History, Injected, News, NodeChange, Order, Rules, Run, Seen, Webhook, Write,
};

const SECOND: i64 = 1_000_000;

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn run(node: &str, incarnation: u128) -> Run {
    Run { node: node.to_owned(), incarnation: uuid(incarnation) }
}

fn news(sid: &str, status: &str) -> News {
    News::of_fields(&json!({ "CallSid": sid, "CallStatus": status }))
}

/// A history in the making: a cluster whose clock moves one second with each fact.
struct Story(History);

impl Story {
    fn new() -> Self {
        let rules = Rules {
            is_cluster: true,
            slack: 5 * SECOND,
            patience: 10 * SECOND,
            grace: 4 * SECOND,
            blur: SECOND,
        };
        Self(History { rules, ..History::default() })
    }

    fn now(&self) -> i64 {
        self.0.writes.len() as i64 * SECOND
    }

    fn fact(&mut self, entity: Entity, kind: &str, tag: &str, body: Value) -> &mut Write {
        let seq = 1 + self.0.writes.iter().filter(|write| write.entity == entity).count() as u64;
        let at = self.now() + SECOND;
        self.0.writes.push(Write {
            at,
            transaction: at,
            entity,
            seq,
            kind: kind.to_owned(),
            tag: tag.to_owned(),
            body,
            node_at: at / 1_000,
            cause: Some(Uuid::now_v7()),
            writer: "n1".to_owned(),
            writer_status: Some("alive".to_owned()),
            shard: 7,
            owner: Some("n1".to_owned()),
        });
        self.0.writes.last_mut().unwrap()
    }

    fn call(&mut self, id: u128, kind: &str, tag: &str, body: Value) {
        self.fact(Entity::Call(uuid(id)), kind, tag, body);
    }

    fn agent(&mut self, id: u128, kind: &str, tag: &str, body: Value) {
        self.fact(Entity::Agent(uuid(id)), kind, tag, body);
    }

    fn until(&self, seconds: i64) -> String {
        let at = eml::domain::time::Timestamp::from_millis((self.now() + SECOND) / 1_000 + seconds * 1_000);
        at.to_string()
    }

    fn arrives(&mut self, id: u128) {
        let sid = format!("CA{id}");
        let routing = json!({ "routing": { "priority": 0, "skills": {} } });
        self.call(id, "call.received", "received", routing);
        let fields = json!({ "fields": { "CallSid": sid, "CallStatus": "ringing" } });
        self.call(id, "call.carrier_reported", "carrier_reported", fields);
        let at = self.now();
        self.0.webhooks.push(Webhook { at, path: "voice".to_owned(), news: news(&sid, "ringing"), node: 1 });
        self.call(id, "call.queued", "queued", json!({ "queue_id": "que_1" }));
    }

    fn is_offered(&mut self, id: u128, agent: u128) {
        let offer = json!({ "offer_id": format!("ofr_{id}"), "agent_id": format!("agt_{agent}") });
        self.call(id, "call.offered", "offered", offer);
    }

    fn is_taken(&mut self, id: u128, agent: u128) {
        let body = json!({ "offer_id": format!("ofr_{id}"), "agent_id": format!("agt_{agent}"), "outcome": "accepted" });
        self.call(id, "call.offer_ended", "offer_ended", body);
    }

    fn ends(&mut self, id: u128) {
        self.call(id, "call.ended", "ended", json!({}));
        self.call(id, "call.completed", "completed", Value::Null);
    }

    /// An agent logs on, is offered a call, takes it, and is done with it.
    fn works(&mut self, agent: u128, call: u128) {
        let named = json!({ "offer_id": format!("ofr_{call}"), "call_id": format!("call_{call}") });
        let deadline = self.until(15);
        let offer = json!({
            "offer_id": format!("ofr_{call}"), "call": { "id": format!("call_{call}") }, "deadline": deadline,
        });
        self.agent(agent, "offer.created", "offer_created", offer);
        self.is_offered(call, agent);
        self.agent(agent, "offer.accepted", "offer_accepted", named.clone());
        self.is_taken(call, agent);
        let until = self.until(10);
        let over = json!({ "call_id": named["call_id"], "wrap_up_until": until });
        self.agent(agent, "agent.call_ended", "call_ended", over);
        self.agent(agent, "agent.wrap_up_ended", "wrap_up_ended", named);
    }

    fn begins(&mut self, agent: u128) {
        self.agent(agent, "agent.connected", "socket_opened", json!({}));
        self.agent(agent, "agent.state_changed", "activity_set", json!({ "available": true }));
    }

    /// The client of an agent, having seen everything since its first fact.
    fn watched(&mut self, agent: u128) {
        let facts = self.0.writes.iter().filter(|write| write.entity == Entity::Agent(uuid(agent)));
        let mut seen = vec![(0, Seen::Hello { node: 1, resumed: false, sequence: 1 })];
        for fact in facts.skip(1) {
            let kind = eml::domain::agent::socket_event(&fact.kind).to_owned();
            seen.push((fact.at, Seen::Event { sequence: fact.seq, kind, data: fact.body.clone() }));
        }
        self.0.agents.push(AgentLog { agent: uuid(agent), seen });
    }
}

/// Two calls, one after the other, and an agent who takes both.
fn sound() -> History {
    let mut story = Story::new();
    story.begins(1);
    story.arrives(11);
    story.works(1, 11);
    story.ends(11);
    story.arrives(12);
    story.works(1, 12);
    story.ends(12);
    story.watched(1);
    let accept = json!({ "offer_id": "ofr_11" });
    let answer = Seen::Answer { kind: "offer.accept".to_owned(), data: accept, is_ack: true };
    let end = story.0.end();
    story.0.agents[0].seen.push((end, answer));
    story.0.orders.push(Order {
        at: SECOND,
        node: "n1".to_owned(),
        attempt: Some("att_1".to_owned()),
        path: "Calls".to_owned(),
        is_done: true,
    });
    story.0.nodes.push(NodeChange { at: 0, run: run("n1", 1), status: "alive".to_owned() });
    story.0
}

fn position(history: &History, tag: &str) -> usize {
    history.writes.iter().position(|write| write.tag == tag).unwrap()
}

#[test]
fn a_sound_history_has_no_violation() {
    assert_eq!(check(&sound()), []);
}

/// Plants something and asks whether the rule, and at best only that, is found broken.
fn finds(rule: Rule, why: &str, plant: impl FnOnce(&mut History)) {
    let mut history = sound();
    plant(&mut history);
    let found = check(&history);
    assert!(found.iter().any(|violation| violation.rule == rule), "{why}: {found:?}");
}

#[test]
fn each_planted_violation_of_owners_is_found() {
    finds(Rule::OnlyTheOwnerWrites, "another node owned the shard", |history| {
        history.writes[3].owner = Some("n2".to_owned());
    });
    finds(Rule::FencedWriteNothing, "the writer was declared dead", |history| {
        history.writes[3].writer_status = Some("dead".to_owned());
    });
    finds(Rule::FencedWriteNothing, "nobody knows the writer", |history| {
        history.writes[3].writer_status = None;
    });
    finds(Rule::ShardsAreTakenFromNobodyAlive, "a living owner was robbed", |history| {
        history.handovers.push(Handover {
            at: SECOND,
            shard: 7,
            from: Some(run("n1", 1)),
            from_status: Some("alive".to_owned()),
            to: Some(run("n2", 2)),
            by: "n2".to_owned(),
        });
    });
    finds(Rule::CommandsAreDoneOnce, "one command led to two batches", |history| {
        let cause = history.writes[2].cause;
        history.writes[3].cause = cause;
        let entity = history.writes[2].entity;
        history.writes[3].entity = entity;
    });
    finds(Rule::AttemptsAreDoneOnce, "two nodes placed one attempt", |history| {
        let again = Order { node: "n2".to_owned(), ..history.orders[0].clone() };
        history.orders.push(again);
    });
    finds(Rule::FencedOrderNothing, "an order came after the death of its node", |history| {
        history.nodes.push(NodeChange { at: 3 * SECOND, run: run("n1", 1), status: "dead".to_owned() });
        history.nodes.push(NodeChange { at: 9 * SECOND, run: run("n1", 2), status: "alive".to_owned() });
        let late = Order { at: 5 * SECOND, attempt: None, ..history.orders[0].clone() };
        history.orders.push(late);
    });
}

#[test]
fn a_handover_by_its_owner_and_a_claim_from_the_dead_are_sound() {
    let mut history = sound();
    for (from_status, by) in [("draining", "n1"), ("dead", "n2"), ("left", "n2")] {
        history.handovers.push(Handover {
            at: SECOND,
            shard: 7,
            from: Some(run("n1", 1)),
            from_status: Some(from_status.to_owned()),
            to: Some(run("n2", 2)),
            by: by.to_owned(),
        });
    }
    assert_eq!(check(&history), []);
}

#[test]
fn each_planted_violation_of_calls_is_found() {
    finds(Rule::AcknowledgedIsStored, "an acknowledged webhook has no fact", |history| {
        history.webhooks[0].news = news("CA11", "completed");
    });
    finds(Rule::NumbersHaveNoGap, "a number is left out", |history| {
        let last = history.writes.len() - 1;
        history.writes[last].seq += 1;
    });
    finds(Rule::NumbersHaveNoGap, "a number is used twice", |history| {
        let last = history.writes.len() - 1;
        history.writes[last].seq -= 1;
    });
    finds(Rule::OneAgentPerCall, "a call that an agent has is offered again", |history| {
        let again = history.writes[position(history, "offered")].clone();
        let at = position(history, "offer_ended");
        history.writes.insert(at + 1, again);
    });
    finds(Rule::CallsReachAnOutcome, "a call is not over", |history| {
        history.writes.retain(|write| write.tag != "completed" || write.entity != Entity::Call(uuid(12)));
    });
    finds(Rule::CallsReachAnOutcome, "the database calls it open", |history| {
        history.open.push(Entity::Call(uuid(11)));
    });
}

/// One agent, two calls, served in the order given.
fn served(order: [u128; 2]) -> History {
    let mut story = Story::new();
    story.begins(1);
    story.arrives(11);
    story.arrives(12);
    for call in order {
        story.works(1, call);
        story.ends(call);
    }
    story.0
}

#[test]
fn overtaking_is_found_and_the_order_of_arrival_is_sound() {
    assert_eq!(check(&served([11, 12])), []);
    let found = check(&served([12, 11]));
    assert!(found.iter().any(|violation| violation.rule == Rule::PlacesAreKept), "{found:?}");
}

#[test]
fn a_call_of_another_class_may_be_served_first() {
    let mut history = served([12, 11]);
    let first = history.writes.iter_mut().find(|write| write.entity == Entity::Call(uuid(11))).unwrap();
    first.body = json!({ "routing": { "priority": -1, "skills": {} } });
    assert_eq!(check(&history), []);
}

/// A call waits for this many seconds beside a ready agent.
fn waiting(seconds: i64) -> Story {
    let mut story = Story::new();
    story.begins(1);
    story.arrives(11);
    let since = story.now();
    story.call(11, "call.ended", "ended", json!({}));
    story.call(11, "call.completed", "completed", Value::Null);
    for write in story.0.writes.iter_mut().filter(|write| write.at > since) {
        write.at += seconds * SECOND;
        write.node_at += seconds * 1_000;
    }
    story
}

#[test]
fn waiting_beside_a_ready_agent_is_found_unless_a_fault_explains_it() {
    assert_eq!(check(&waiting(8).0), []);
    let mut history = waiting(30).0;
    let found = check(&history);
    assert!(found.iter().any(|violation| violation.rule == Rule::NobodyWaitsForNothing), "{found:?}");
    let what = "kill".to_owned();
    history.faults.push(Injected { what, nodes: Vec::new(), from: 6 * SECOND, until: 30 * SECOND });
    assert_eq!(check(&history), []);
}

#[test]
fn each_planted_violation_of_agents_is_found() {
    finds(Rule::AcknowledgedIsStored, "an acknowledged acceptance has no fact", |history| {
        let data = json!({ "offer_id": "ofr_99" });
        let answer = Seen::Answer { kind: "offer.accept".to_owned(), data, is_ack: true };
        history.agents[0].seen.push((SECOND, answer));
    });
    finds(Rule::OneReservationPerAgent, "a second offer comes during a call", |history| {
        let mut again = history.writes[position(history, "offer_created")].clone();
        again.body["call"]["id"] = json!("call_98");
        let at = position(history, "offer_accepted");
        history.writes.insert(at + 1, again);
    });
    finds(Rule::DeadlinesAreKept, "an offer rings for ever", |history| {
        let entity = Entity::Agent(uuid(1));
        history.writes.retain(|write| write.entity != entity || !matches!(&*write.tag, "offer_accepted"));
        history.writes.last_mut().unwrap().at += 60 * SECOND;
    });
    finds(Rule::DeadlinesAreKept, "after-call work ends a minute late", |history| {
        let at = position(history, "wrap_up_ended");
        for write in &mut history.writes[at..] {
            write.at += 60 * SECOND;
        }
    });
    finds(Rule::DeadlinesAreKept, "an agent without a socket keeps its place", |history| {
        let mut gone = history.writes[position(history, "socket_opened")].clone();
        gone.tag = "socket_closed".to_owned();
        let (seq, at) = history
            .writes
            .iter()
            .filter(|write| write.entity == gone.entity)
            .fold((0, 0), |_, write| (write.seq, write.at));
        (gone.seq, gone.at) = (seq + 1, at);
        history.writes.push(gone);
        history.writes[0].at = 0;
        history.agents[0].seen.push((at + 60 * SECOND, Seen::Gone));
    });
    finds(Rule::EventsAreWhole, "an event is missing", |history| {
        history.agents[0].seen.remove(2);
    });
    finds(Rule::EventsAreWhole, "an event comes twice", |history| {
        let again = history.agents[0].seen[2].clone();
        history.agents[0].seen.insert(3, again);
    });
    finds(Rule::EventsAreWhole, "a session begins before what was seen", |history| {
        let hello = Seen::Hello { node: 2, resumed: false, sequence: 1 };
        history.agents[0].seen.push((SECOND, hello));
    });
    finds(Rule::EventsAreWhole, "a connected client has not got the last event", |history| {
        let last = history.agents[0].seen.iter().rposition(|(_, seen)| matches!(seen, Seen::Event { .. }));
        history.agents[0].seen.remove(last.unwrap());
    });
    finds(Rule::EventsAreFacts, "an event is not in the journal", |history| {
        if let (_, Seen::Event { kind, .. }) = &mut history.agents[0].seen[2] {
            *kind = "offer.canceled".to_owned();
        }
    });
}

#[test]
fn a_client_that_went_and_resumed_has_seen_everything() {
    let mut history = sound();
    let back = [(0, Seen::Gone), (0, Seen::Hello { node: 2, resumed: true, sequence: 3 })];
    history.agents[0].seen.splice(3..3, back);
    assert_eq!(check(&history), []);
}

#[test]
fn a_death_without_a_fault_is_a_false_takeover() {
    let mut history = sound();
    history.nodes.push(NodeChange { at: 60 * SECOND, run: run("n1", 1), status: "dead".to_owned() });
    assert_eq!(false_takeovers(&history).len(), 1);
    let fault = Injected {
        what: "kill".to_owned(),
        nodes: vec!["n1".to_owned()],
        from: 59 * SECOND,
        until: 60 * SECOND,
    };
    history.faults.push(fault.clone());
    assert_eq!(false_takeovers(&history), [""; 0]);
    history.faults[0].nodes = vec!["n2".to_owned()];
    assert_eq!(false_takeovers(&history).len(), 1);
}
