//! How a call ended comes out the same in whatever order the news arrives.

use proptest::prelude::*;

use super::*;

/// A conversation as its provider tells it: answered at 20, the customer leaves at 60.
fn news(leg: LegId) -> Vec<CallCommand> {
    vec![
        told(100, "CAcustomer", None, 0, News::Joined),
        told(101, "CAagent", Some(leg), 20, status(LegStatus::Connected)),
        told(102, "CAagent", Some(leg), 20, News::Joined),
        told(103, "CAcustomer", None, 60, over(LegEnd::Normal, 60)),
        told(104, "CAagent", Some(leg), 61, over(LegEnd::Normal, 41)),
    ]
}

/// The end of a call after all its news came, each at its place in `order` (doubles allowed).
fn end(order: &[usize]) -> EndRecord {
    let mut told = ringing();
    let news = news(told.agent_leg());
    for (place, which) in (0_i64..).zip(order) {
        told.step(200 + place, news[*which].clone());
    }
    told.call.end.clone().unwrap()
}

fn in_time() -> EndRecord {
    let mut told = ringing();
    for (second, news) in [0, 20, 20, 60, 61].into_iter().zip(news(told.agent_leg())) {
        told.step(second, news);
    }
    told.call.end.clone().unwrap()
}

#[test]
fn a_conversation_in_time_is_told_as_it_was() {
    let record = in_time();
    assert_eq!((record.ended_by, record.outcome), (EndedBy::Caller, Outcome::Answered));
    assert_eq!((record.wait_ms, record.talk_ms), (Some(Millis(20_000)), Some(Millis(40_000))));
}

proptest! {
    #[test]
    fn the_end_is_the_same_in_any_order_and_with_doubles(
        order in Just(vec![0, 1, 2, 3, 4, 0, 1, 2, 3, 4]).prop_shuffle()
    ) {
        let (record, want) = (end(&order), in_time());
        prop_assert_eq!(record, want);
    }
}
