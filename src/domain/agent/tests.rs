//! A session in every state of work, met with what may come.

use super::*;
use crate::domain::address::Address;
use crate::domain::call::{CallBrief, Direction, OfferReason};
use crate::domain::id::{AgentId, CallId, OfferId, QueueId, SocketId};
use crate::domain::machine::Machine;
use crate::domain::time::{Millis, Timestamp};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + second * 1000)
}

fn call_id() -> CallId {
    CallId::derived("test", "c")
}

fn offer_id(n: u32) -> OfferId {
    OfferId::derived("test", &n.to_string())
}

fn socket_id() -> SocketId {
    SocketId::derived("test", "s")
}

fn brief() -> CallBrief {
    CallBrief {
        id: call_id(),
        direction: Direction::Inbound,
        from: Address::reported("+12025550143"),
        to: Address::reported("+12025550100"),
        queue_id: None,
        queue_name: None,
        queued_at: None,
        context: None,
    }
}

fn reserve(n: u32) -> AgentCommand {
    AgentCommand::Reserve(Box::new(Reservation {
        offer_id: offer_id(n),
        queue_id: QueueId::derived("test", "q"),
        call: brief(),
        ring: Millis::from_secs(15),
        reason: OfferReason {
            strategy: "longest_idle".into(),
            ready: 1,
            idle_ms: Millis(0),
            required: std::collections::BTreeMap::new(),
            waiting: 1,
        },
    }))
}

fn connect() -> AgentCommand {
    AgentCommand::Connect {
        socket_id: socket_id(),
        settings: AgentSettings {
            address: Address::reported("client:a"),
            voice_capacity: 1,
            grace: Millis::from_secs(60),
            missed_limit: 2,
            reject_backoff: Millis::from_secs(10),
            busy_backoff: Millis::from_secs(20),
        },
    }
}

fn available() -> AgentCommand {
    AgentCommand::SetActivity(Activity { name: "available".into(), available: true, reason: None })
}

fn news(news: CallNews) -> AgentCommand {
    AgentCommand::FromCall { call_id: call_id(), news }
}

/// Carries out a command and tells its facts and whom it tells, or the refusal.
fn step(session: &mut AgentSession, second: i64, command: AgentCommand) -> String {
    let decision = match session.decide(command, at(second)) {
        Ok(decision) => decision,
        Err(refusal) => return format!("refused: {refusal}"),
    };
    for fact in &decision.facts {
        session.apply(fact, at(second));
    }
    let facts: Vec<_> = decision.facts.iter().map(AgentSession::event_type).collect();
    let effects: Vec<_> = decision
        .effects
        .iter()
        .map(|effect| match effect {
            AgentEffect::TellCall { .. } => "tell",
            AgentEffect::Announce(readiness) if readiness.ready => "ready",
            AgentEffect::Announce(_) => "not-ready",
            AgentEffect::ForgetSockets => "forget",
        })
        .collect();
    format!("{} | {}", facts.join(" "), effects.join(" "))
}

fn idle() -> AgentSession {
    let mut session = AgentSession::vacant(AgentId::derived("test", "a").into());
    step(&mut session, 0, connect());
    step(&mut session, 0, available());
    session
}

fn after(mut session: AgentSession, second: i64, command: AgentCommand) -> AgentSession {
    step(&mut session, second, command);
    session
}

fn offered() -> AgentSession {
    after(idle(), 10, reserve(1))
}

fn engaged() -> AgentSession {
    after(offered(), 12, AgentCommand::Accept { offer_id: offer_id(1) })
}

fn connected() -> AgentSession {
    after(engaged(), 20, news(CallNews::Connected))
}

fn wrapping_up() -> AgentSession {
    after(connected(), 60, news(CallNews::Ended { wrap_up: Some(Millis::from_secs(30)) }))
}

type Row = (&'static str, fn() -> AgentSession, i64, AgentCommand, &'static str);

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    let accept = || AgentCommand::Accept { offer_id: offer_id(1) };
    let reject = || AgentCommand::Reject { offer_id: offer_id(1), reason: None };
    let gone = || news(CallNews::Gone { offer_id: offer_id(1) });
    let rescinded = || news(CallNews::Rescinded { offer_id: offer_id(1) });
    let leaves = || AgentCommand::Disconnect { socket_id: socket_id() };
    let complete = || AgentCommand::CompleteWrapUp { call_id: call_id() };
    let extend = || AgentCommand::ExtendWrapUp { call_id: call_id(), by: Millis::from_secs(60) };
    let failed = |busy| news(CallNews::PhoneFailed { busy });
    let (not_ready, no_offer, no_call) = (
        "refused: agent cannot take a call now",
        "refused: offer does not stand any more",
        "refused: agent does not have this call",
    );
    vec![
        ("an idle agent is reserved", idle, 10, reserve(1), "offer.created | tell not-ready"),
        ("a reservation that is repeated holds", offered, 11, reserve(1), " | "),
        ("an offered agent takes no second call", offered, 11, reserve(2), not_ready),
        ("an engaged agent takes no second call", engaged, 13, reserve(2), not_ready),
        ("an agent in after-call work takes no call", wrapping_up, 61, reserve(2), not_ready),
        ("nothing can be accepted when idle", idle, 10, accept(), no_offer),
        ("an offer is accepted", offered, 12, accept(), "offer.accepted | tell not-ready"),
        ("an offer is accepted once", engaged, 13, accept(), " | "),
        ("what was accepted is not rejected", engaged, 13, reject(), no_offer),
        ("an offer is rejected", offered, 12, reject(), "offer.rejected | tell"),
        ("an offer lapses", offered, 25, AgentCommand::Tick, "offer.timeout | tell"),
        ("an offer does not lapse early", offered, 24, AgentCommand::Tick, " | "),
        ("an offer whose customer left is canceled", offered, 12, gone(), "offer.canceled | ready"),
        ("an offer is taken back", offered, 12, rescinded(), "offer.rescinded | ready"),
        (
            "an offer nobody sees is taken back",
            offered,
            12,
            leaves(),
            "agent.disconnected offer.rescinded | tell",
        ),
        (
            "an engaged agent whose socket is lost keeps the call",
            engaged,
            13,
            leaves(),
            "agent.disconnected | ",
        ),
        ("a conversation outlives the socket", connected, 30, leaves(), "agent.disconnected | "),
        ("after-call work outlives the socket", wrapping_up, 61, leaves(), "agent.disconnected | "),
        (
            "an acceptance that came too late is taken back",
            engaged,
            13,
            rescinded(),
            "agent.call_ended | ready",
        ),
        (
            "a busy phone leaves the agent in peace",
            engaged,
            15,
            failed(true),
            "agent.call_failed | not-ready",
        ),
        (
            "a phone nobody answers counts as missed",
            engaged,
            15,
            failed(false),
            "agent.call_failed | not-ready",
        ),
        ("the customer is on hold", connected, 30, news(CallNews::Held), "agent.call_held | "),
        ("nobody is back who was not on hold", connected, 30, news(CallNews::Resumed), " | "),
        ("after-call work is completed", wrapping_up, 70, complete(), "agent.wrap_up_ended | tell ready"),
        (
            "after-call work ends by itself",
            wrapping_up,
            90,
            AgentCommand::Tick,
            "agent.wrap_up_ended | tell ready",
        ),
        ("after-call work is extended", wrapping_up, 70, extend(), "agent.wrap_up_extended | tell"),
        ("a conversation is no after-call work", connected, 30, complete(), no_call),
        (
            "an offered agent is freed",
            offered,
            12,
            AgentCommand::ForceRelease,
            "offer.rescinded | tell ready",
        ),
        (
            "an engaged agent is freed",
            engaged,
            13,
            AgentCommand::ForceRelease,
            "agent.call_ended | tell ready",
        ),
        (
            "after-call work is cut off",
            wrapping_up,
            70,
            AgentCommand::ForceRelease,
            "agent.wrap_up_ended | tell ready",
        ),
        ("no room for an outbound call is told", engaged, 13, engage_other(), " | tell"),
        ("late news of a call is dropped", idle, 10, news(CallNews::Connected), " | "),
        ("a long conversation is checked", connected, 100, AgentCommand::Tick, " | tell"),
    ]
}

fn engage_other() -> AgentCommand {
    let call = CallBrief { id: CallId::derived("test", "other"), ..brief() };
    AgentCommand::Engage { call: Box::new(call), settings: None }
}

#[test]
fn a_session_does_what_its_work_allows() {
    for (sentence, build, second, command, want) in rows() {
        assert_eq!(step(&mut build(), second, command), want, "{sentence}");
    }
}

#[test]
fn too_many_missed_offers_set_the_agent_to_not_ready() {
    let mut session = after(offered(), 25, AgentCommand::Tick);
    assert_eq!(step(&mut session, 35, AgentCommand::Tick), "agent.state_changed | ready");
    step(&mut session, 40, reserve(2));
    assert_eq!(step(&mut session, 55, AgentCommand::Tick), "offer.timeout agent.state_changed | tell");
    assert_eq!(&*session.activity.name, NOT_READY);
    assert_eq!(session.activity.reason.as_deref(), Some(MISSED_OFFERS));
}

#[test]
fn a_check_of_a_long_call_does_not_hide_a_limit() {
    let session = connected();
    assert_eq!(session.wake_at(), Some(at(72)));
    let session = after(session, 100, AgentCommand::Disconnect { socket_id: socket_id() });
    assert_eq!(session.wake_at(), Some(at(160)), "the end of grace");
}
