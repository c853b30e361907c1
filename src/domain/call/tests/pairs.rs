//! Every phase, met with every command.

use super::*;

type State = (&'static str, fn() -> Told);
type Deed = (&'static str, fn(&Told) -> CallCommand);

const STATES: [State; 13] = [
    ("a vacant call", Told::new),
    ("a call to a customer", dialing),
    ("a call for an agent", dialing_agent),
    ("a waiting call", queued),
    ("an offered call", offered),
    ("a call whose agent is called", placed),
    ("a call whose agent's phone rings", ringing),
    ("a conversation", connected),
    ("a held conversation", held),
    ("a call that leaves a message", voicemail),
    ("a call that hears goodbye", closing),
    ("a call in after-call work", wrapping_up),
    ("a call that is over", ended),
];

const DEEDS: [Deed; 19] = [
    ("arrives", |_| arrive(Some(routing(Overflow::Hangup)))),
    ("is dialed", |_| dial(None, false)),
    ("loses its customer", |_| told(90, "CAcustomer", None, 90, over(LegEnd::Normal, 90))),
    ("loses its agent's leg", |told_| {
        let leg = told_.call.legs.iter().find(|leg| leg.role == LegRole::Agent).map(|leg| leg.id);
        told(90, "CAagent", leg, 90, over(LegEnd::Normal, 0))
    }),
    ("sees an agent's phone answer", |told_| {
        let leg = told_.call.legs.iter().find(|leg| leg.role == LegRole::Agent).map(|leg| leg.id);
        told(91, "CAagent", leg, 91, News::Document(Asked::Answered))
    }),
    ("is asked what its customer shall do", |_| {
        told(92, "CAcustomer", None, 92, News::Document(Asked::Next { bridged: false }))
    }),
    ("is offered", |_| offer(2, agent(), at(1000))),
    ("hears that its offer was accepted", |_| settled(1, OfferOutcome::Accepted)),
    ("hears that its offer lapsed", |_| settled(1, OfferOutcome::Timeout)),
    ("hears that the agent has it", |_| answered(Some(1), AgentView::Engaged { speaking: true })),
    ("hears that the agent is free", |_| answered(Some(1), AgentView::Free { outcome: None })),
    ("hears that the agent works after it", |_| answered(None, AgentView::WrappingUp { until: at(500) })),
    ("finds its queue full", |_| CallCommand::QueueFull { queue_id: queue_id("first") }),
    ("is put on hold", |_| control(Control::Hold)),
    ("is taken back", |_| control(Control::Resume)),
    ("is hung up by an operator", |_| control(Control::Hangup)),
    ("gets a note", |_| control(Control::Dispose { disposition_id: None, note: Some("n".into()) })),
    ("reaches its limit", |_| CallCommand::Tick),
    ("is looked at", |_| CallCommand::Show),
];

/// What follows: facts, effects, document; or the refusal.
#[rustfmt::skip]
const PAIRS: &[(&str, &str)] = &[
];

#[test]
fn every_phase_knows_what_to_do_with_every_command() {
    let mut found = Vec::new();
    for (state, build) in STATES {
        for (deed, command) in DEEDS {
            let mut told = build();
            let command = command(&told);
            found.push((format!("{state} {deed}"), told.step(20_000, command)));
        }
    }
    if std::env::var("PRINT").is_ok() {
        for (sentence, what) in &found {
            println!("    ({sentence:?}, {what:?}),");
        }
    }
    assert_eq!(found.len(), PAIRS.len());
    for ((sentence, what), (known, want)) in found.iter().zip(PAIRS) {
        assert_eq!((sentence.as_str(), what.as_str()), (*known, *want));
    }
}
