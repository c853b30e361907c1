//! The stories behind the rules.

use super::*;

#[test]
fn a_leg_without_a_name_is_ended_as_soon_as_it_has_one() {
    let gone = placed().then(14, told(14, "CAcustomer", None, 14, over(LegEnd::Normal, 14)));
    let leg = gone.agent_leg();
    let by_order = gone.clone().step(15, ordered(leg, OrderKind::Place, named("CAagent")));
    assert_eq!(by_order, "leg_named | end(agent)");
    let by_news = gone.clone().step(15, told(15, "CAagent", Some(leg), 15, status(LegStatus::Ringing)));
    assert_eq!(by_news, "carrier_reported leg_named leg_moved | end(agent) | Acknowledge");
    let by_search = gone.clone().step(15, ordered(leg, OrderKind::Find, named("CAagent")));
    assert_eq!(by_search, "leg_named | end(agent)");
}

#[test]
fn an_attempt_in_doubt_is_looked_for_and_never_placed_again() {
    let mut told = placed();
    let leg = told.agent_leg();
    assert_eq!(told.step(13, ordered(leg, OrderKind::Place, OrderResult::InDoubt)), "leg_in_doubt | find");
    assert_eq!(told.clone().step(14, ordered(leg, OrderKind::Find, named("CAagent"))), "leg_named | ");
    let missing = told.step(14, ordered(leg, OrderKind::Find, OrderResult::NotFound));
    assert_eq!(missing, "leg_moved requeued | tell:failed(true) enter");
}

#[test]
fn an_agent_whose_phone_fails_gives_the_call_back_to_its_place() {
    for (end, want) in [
        (LegEnd::Busy, "carrier_reported leg_moved requeued | tell:failed(true) enter | Acknowledge"),
        (LegEnd::Failed, "carrier_reported leg_moved requeued | tell:failed(true) enter | Acknowledge"),
        (LegEnd::NoAnswer, "carrier_reported leg_moved requeued | tell:failed(false) enter | Acknowledge"),
    ] {
        let mut told = ringing();
        assert_eq!(told.step(40, super::told(40, "CAagent", None, 40, over(end, 0))), want);
        assert_eq!(told.call.place_since, Some(at(0)), "the place is kept");
        assert_eq!(told.call.passed_by, [(agent(), at(50))]);
    }
}

#[test]
fn a_full_or_timed_out_queue_leads_where_its_overflow_says() {
    for (overflow, facts, state) in [
        (Overflow::Hangup, "overflowed | leave redirect", "closing"),
        (Overflow::Voicemail, "overflowed | leave redirect", "voicemail"),
        (onward(), "overflowed queued | leave enter", "queued"),
    ] {
        let waiting = Told::new().then(0, arrive(Some(routing(overflow))));
        let full = CallCommand::QueueFull { queue_id: queue_id("first") };
        for (second, command) in [(300, CallCommand::Tick), (5, full)] {
            let mut told = waiting.clone();
            assert_eq!(told.step(second, command), facts);
            assert_eq!(told.call.state_word(), state);
            assert_eq!(told.call.place_since, Some(at(0)), "the age goes along");
        }
    }
}

#[test]
fn news_that_is_told_twice_changes_nothing_and_gets_the_same_document() {
    let mut told = ringing();
    let leg = told.agent_leg();
    let news = super::told(50, "CAagent", Some(leg), 20, News::Document(Asked::Answered));
    let first = told.step(20, news.clone());
    assert_eq!(first, "carrier_reported leg_moved connected | tell:connected | JoinRoom");
    assert_eq!(told.step(21, news), " |  | JoinRoom");
    let mut arrived = queued();
    assert_eq!(arrived.step(1, arrive(Some(routing(Overflow::Hangup)))), " |  | WaitInRoom");
}

#[test]
fn a_hold_that_the_provider_refuses_is_taken_back() {
    let refused = || OrderResult::Refused { code: 404 };
    let mut told = held();
    let leg = told.customer_leg();
    let hold = OrderKind::Hold { held: true };
    assert_eq!(told.clone().step(31, ordered(leg, hold, refused())), "resumed | tell:resumed");
    assert_eq!(told.step(40, control(Control::Resume)), "resumed | tell:resumed hold(false)");
    let resume = OrderKind::Hold { held: false };
    assert_eq!(told.step(41, ordered(leg, resume, refused())), "held | tell:held");
}

#[test]
fn an_answer_about_another_offer_settles_nothing() {
    let mut told = offered();
    let free = answered(Some(7), AgentView::Free { outcome: None });
    assert_eq!(told.step(11, free), " | ");
    let engaged = answered(Some(7), AgentView::Engaged { speaking: false });
    assert_eq!(told.step(11, engaged), " | tell:rescinded");
    let freed = answered(Some(1), AgentView::Free { outcome: Some(OfferOutcome::Accepted) });
    assert_eq!(told.step(11, freed), "offer_ended | enter", "who took it and is free was freed");
}

#[test]
fn an_outbound_call_goes_to_its_agent_its_queue_or_to_nobody() {
    let answer = |told: Told| {
        let leg = told.customer_leg();
        told.then(5, super::told(5, "CAout", Some(leg), 5, status(LegStatus::Connected)))
    };
    assert_eq!(answer(dialing()).call.state_word(), "queued");
    let nobody = answer(Told::new().then(0, dial(None, false)));
    assert_eq!((nobody.call.state_word(), nobody.call.shown_agent()), ("connected", None));
    let told = dialing_agent();
    let leg = told.agent_leg();
    let called = told.then(3, super::told(3, "CAagent", Some(leg), 3, status(LegStatus::Connected)));
    let spoken = answer(called);
    assert_eq!((spoken.call.state_word(), spoken.call.shown_agent()), ("connected", Some(agent())));
}

#[test]
fn a_stranger_may_not_touch_a_call() {
    let by = By::Agent(stranger());
    let told = connected().step(30, CallCommand::Control { by, control: Control::Hangup });
    assert_eq!(told, "refused: call belongs to another agent");
}

#[test]
fn after_a_restart_each_phase_takes_up_what_may_be_lost() {
    for (state, told, want) in [
        ("vacant", Told::new(), ""),
        ("dialing", dialing(), "find leave"),
        ("dialing an agent", dialing_agent(), "find engage"),
        ("queued", queued(), "check enter"),
        ("offered", offered(), "check leave inquire"),
        ("agent called", placed(), "check find leave inquire"),
        ("agent rings", ringing(), "check check leave inquire"),
        ("connected", connected(), "check check leave tell:connected"),
        ("held", held(), "check check leave tell:connected"),
        ("voicemail", voicemail(), "check leave"),
        ("closing", closing(), "check leave"),
        ("after-call work", wrapping_up(), "end(agent) leave inquire"),
        ("ended", ended(), "leave"),
    ] {
        let mut again = Call::vacant(told.call.id.into());
        for (fact, at) in &told.facts {
            let stored = serde_json::to_string(fact).unwrap();
            again.apply(&serde_json::from_str(&stored).unwrap(), *at);
        }
        assert_eq!(again, told.call, "{state}");
        assert_eq!((again.list_row(), again.wake_at()), (told.call.list_row(), told.call.wake_at()));
        let effects: Vec<_> = again.resume(at(1000)).iter().map(word).collect();
        assert_eq!(effects.join(" "), want, "{state}");
    }
}
