//! Calls in every phase, met with every command; and the stories behind the rules.

mod order;
mod pairs;
mod stories;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::*;
use crate::domain::address::Address;
use crate::domain::agent::{AgentCommand, CallNews, OfferOutcome};
use crate::domain::id::{AgentId, CallId, LegId, OfferId, QueueId};
use crate::domain::machine::{Decision, Machine};
use crate::domain::time::{Millis, Timestamp};

/// The second of the story that is told, from its beginning.
fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + second * 1000)
}

fn agent() -> AgentId {
    AgentId::derived("test", "a")
}

fn stranger() -> AgentId {
    AgentId::derived("test", "b")
}

fn offer_id(n: u32) -> OfferId {
    OfferId::derived("test", &n.to_string())
}

fn queue_id(name: &str) -> QueueId {
    QueueId::derived("test", name)
}

fn routing(overflow: Overflow) -> Routing {
    Routing {
        queue_id: queue_id("first"),
        queue_name: "first".into(),
        priority: 0,
        skills: BTreeMap::new(),
        ring: Millis::from_secs(15),
        max_wait: Millis::from_secs(300),
        overflow,
        wrap_up: Millis::from_secs(30),
    }
}

fn onward() -> Overflow {
    let next = Routing { queue_id: queue_id("second"), ..routing(Overflow::Hangup) };
    Overflow::Queue(Box::new(next))
}

fn raw(key: u64) -> RawEvent {
    RawEvent { key, name: "news".into(), fields: RawValue::from_string("{}".to_owned()).unwrap() }
}

fn arrive(routing: Option<Routing>) -> CallCommand {
    CallCommand::Arrive(Box::new(Arrival {
        provider: "test".into(),
        provider_call_id: "CAcustomer".into(),
        from: Address::reported("+12025550143"),
        to: Address::reported("+12025550100"),
        routing,
        fallback: None,
        raw: raw(1),
    }))
}

fn dial(routing: Option<Routing>, with_agent: bool) -> CallCommand {
    CallCommand::Dial(Box::new(DialRequest {
        provider: "test".into(),
        to: Address::reported("+12025550143"),
        from: Address::reported("+12025550100"),
        routing,
        agent: with_agent.then(|| (agent(), Address::reported("client:a"))),
        ring: Millis::from_secs(20),
        wrap_up: Millis::from_secs(5),
        context: None,
    }))
}

fn offer(n: u32, agent_id: AgentId, deadline: Timestamp) -> CallCommand {
    CallCommand::Offer(Box::new(OfferMade {
        offer_id: offer_id(n),
        queue_id: Some(queue_id("first")),
        agent_id,
        address: Address::reported("client:a"),
        deadline,
        reason: OfferReason {
            strategy: "longest_idle".into(),
            ready: 1,
            idle_ms: Millis(0),
            required: BTreeMap::new(),
            waiting: 1,
        },
    }))
}

fn settled(n: u32, outcome: OfferOutcome) -> CallCommand {
    CallCommand::OfferSettled { offer_id: offer_id(n), agent_id: agent(), outcome }
}

fn answered(offer: Option<u32>, view: AgentView) -> CallCommand {
    CallCommand::Answered { agent_id: agent(), offer_id: offer.map(offer_id), view }
}

fn ordered(leg_id: LegId, kind: OrderKind, result: OrderResult) -> CallCommand {
    CallCommand::Ordered { leg_id, kind, result }
}

fn named(name: &str) -> OrderResult {
    OrderResult::Done { provider_id: Some(name.into()) }
}

fn control(control: Control) -> CallCommand {
    CallCommand::Control { by: By::Operator, control }
}

/// News about a leg, by the provider's name of it and ours.
fn told(key: u64, provider_id: &str, leg_id: Option<LegId>, second: i64, news: News) -> CallCommand {
    CallCommand::Carrier(Box::new(CarrierNews {
        leg: LegHint { leg_id, provider_id: Some(provider_id.into()), ..LegHint::default() },
        room: None,
        occurred_at: Some(at(second)),
        news,
        raw: raw(key),
    }))
}

fn status(status: LegStatus) -> News {
    News::Leg { status, end: None, answered_for: None }
}

fn over(end: LegEnd, seconds: u64) -> News {
    News::Leg {
        status: LegStatus::Ended,
        end: Some(end),
        answered_for: (seconds > 0).then_some(Millis::from_secs(seconds)),
    }
}

/// A call and all that happened to it.
#[derive(Clone)]
struct Told {
    call: Call,
    facts: Vec<(CallFact, Timestamp)>,
}

impl Told {
    fn new() -> Self {
        Self { call: Call::vacant(CallId::derived("test", "CAcustomer").into()), facts: Vec::new() }
    }

    /// Does what is asked and tells it: facts, effects, and the document if one was asked for.
    fn step(&mut self, second: i64, command: CallCommand) -> String {
        let Decision { facts, effects, reply } = match self.call.decide(command, at(second)) {
            Ok(decision) => decision,
            Err(refusal) => return format!("refused: {refusal}"),
        };
        for fact in &facts {
            self.call.apply(fact, at(second));
            self.facts.push((fact.clone(), at(second)));
        }
        let names = facts.iter().map(|fact| Call::event_type(fact).trim_start_matches("call."));
        let mut text = names.collect::<Vec<_>>().join(" ");
        text.push_str(" | ");
        text.push_str(&effects.iter().map(word).collect::<Vec<_>>().join(" "));
        if let CallReply::Document(document) = reply {
            let document = format!("{document:?}");
            text.push_str(" | ");
            text.push_str(document.split(' ').next().unwrap());
        }
        text
    }

    fn then(mut self, second: i64, command: CallCommand) -> Self {
        self.step(second, command);
        self
    }

    /// The agent's leg that was placed last.
    fn agent_leg(&self) -> LegId {
        self.call.legs.iter().rev().find(|leg| leg.role == LegRole::Agent).unwrap().id
    }

    fn customer_leg(&self) -> LegId {
        self.call.customer().unwrap().id
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is written as it is")]
fn word(effect: &CallEffect) -> String {
    match effect {
        CallEffect::Carrier { order, .. } => match order {
            CarrierOrder::Place { .. } => "place".into(),
            CarrierOrder::Find { .. } => "find".into(),
            CarrierOrder::Check { .. } => "check".into(),
            CarrierOrder::End { provider_id, .. } => format!("end({})", provider_id.trim_start_matches("CA")),
            CarrierOrder::Hold { held, .. } => format!("hold({held})"),
            CarrierOrder::Redirect { .. } => "redirect".into(),
        },
        CallEffect::EnterQueue(_) => "enter".into(),
        CallEffect::LeaveQueue { .. } => "leave".into(),
        CallEffect::TellAgent { command, .. } => match &**command {
            AgentCommand::FromCall { news, .. } => match news {
                CallNews::Gone { .. } => "tell:gone".into(),
                CallNews::Rescinded { .. } => "tell:rescinded".into(),
                CallNews::Ended { wrap_up } => {
                    format!("tell:ended({})", wrap_up.map_or(0, |span| span.0 / 1000))
                }
                CallNews::PhoneFailed { busy } => format!("tell:failed({busy})"),
                other => format!("tell:{other:?}").to_lowercase(),
            },
            AgentCommand::Inquire { .. } => "inquire".into(),
            AgentCommand::Engage { .. } => "engage".into(),
            other => format!("{other:?}"),
        },
    }
}

fn queued() -> Told {
    Told::new().then(0, arrive(Some(routing(Overflow::Hangup))))
}

fn offered() -> Told {
    queued().then(10, offer(1, agent(), at(25)))
}

/// Accepted; the agent's leg is being created and has no name yet.
fn placed() -> Told {
    offered().then(12, settled(1, OfferOutcome::Accepted))
}

fn ringing() -> Told {
    let told = placed();
    let leg = told.agent_leg();
    told.then(13, ordered(leg, OrderKind::Place, named("CAagent")))
}

fn connected() -> Told {
    ringing().then(20, told(20, "CAagent", None, 20, status(LegStatus::Connected)))
}

fn held() -> Told {
    connected().then(30, control(Control::Hold))
}

fn wrapping_up() -> Told {
    connected().then(60, told(60, "CAcustomer", None, 60, over(LegEnd::Normal, 60)))
}

fn ended() -> Told {
    queued().then(60, told(60, "CAcustomer", None, 60, over(LegEnd::Normal, 60)))
}

fn closing() -> Told {
    queued().then(300, CallCommand::Tick)
}

fn voicemail() -> Told {
    Told::new().then(0, arrive(Some(routing(Overflow::Voicemail)))).then(300, CallCommand::Tick)
}

fn dialing() -> Told {
    Told::new().then(0, dial(Some(routing(Overflow::Hangup)), false))
}

fn dialing_agent() -> Told {
    Told::new().then(0, dial(None, true))
}
