use std::collections::BTreeMap;

use proptest::prelude::*;

use super::strategy::Strategy;
use super::*;
use crate::domain::address::Address;
use crate::domain::agent::Readiness;
use crate::domain::call::{CallBrief, Direction, QueueEntry};
use crate::domain::id::{AgentId, CallId, QueueId, SkillId};
use crate::domain::time::{Millis, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn call(n: u32) -> CallId {
    CallId::derived("test", &n.to_string())
}

fn agent(n: u32) -> AgentId {
    AgentId::derived("test", &n.to_string())
}

fn skill(n: u32) -> SkillId {
    SkillId::derived("test", &n.to_string())
}

fn entry(n: u32, priority: i32, since: Timestamp, skills: &[(u32, u8)]) -> QueueEntry {
    let queue_id = QueueId::derived("test", "q");
    QueueEntry {
        call_id: call(n),
        queue_id,
        priority,
        since,
        skills: skills.iter().map(|(s, level)| (skill(*s), *level)).collect(),
        ring: Millis::from_secs(15),
        passed_by: Vec::new(),
        brief: CallBrief {
            id: call(n),
            direction: Direction::Inbound,
            from: Address::reported("anonymous"),
            to: Address::reported("+12025550100"),
            queue_id: Some(queue_id),
            queue_name: None,
            queued_at: Some(since),
            context: None,
        },
    }
}

fn idle(since: Timestamp) -> Readiness {
    Readiness { ready: true, idle_since: since, last_offer_at: None, calls_taken: 0 }
}

fn pair(index: &mut QueueIndex, now: Timestamp) -> Option<(CallId, AgentId)> {
    index.next_match(now).map(|proposal| (proposal.entry.call_id, proposal.agent_id))
}

#[test]
fn an_agent_that_stays_ready_comes_back_when_a_proposal_is_refused() {
    for call_left in [false, true] {
        let mut index = QueueIndex::new(QueueSettings::default());
        index.enter(entry(1, 0, at(0), &[]), at(0));
        index.agent_ready(agent(1), &BTreeMap::new(), idle(at(0)));
        let proposal = index.next_match(at(1)).unwrap();
        if call_left {
            index.leave(call(1));
        }
        index.refused(proposal.offer_id, at(1));
        assert_eq!((index.ready(), index.waiting()), (1, usize::from(!call_left)));
        assert_eq!(pair(&mut index, at(2)), None, "not the same pair at once");
    }
}

#[test]
fn priority_goes_first_then_age() {
    let mut index = QueueIndex::new(QueueSettings::default());
    for (n, priority, since) in [(1, 0, 10), (2, 5, 30), (3, 5, 20), (4, 0, 5)] {
        index.enter(entry(n, priority, at(since), &[]), at(40));
    }
    let mut order = Vec::new();
    for n in 0..4 {
        index.agent_ready(agent(n), &BTreeMap::new(), idle(at(0)));
        order.extend(pair(&mut index, at(40)).map(|(call, _)| call));
    }
    assert_eq!(order, [call(3), call(2), call(4), call(1)]);
}

#[test]
fn each_strategy_chooses_its_own_agent() {
    let one = Readiness { ready: true, idle_since: at(30), last_offer_at: Some(at(1)), calls_taken: 9 };
    let two = Readiness { ready: true, idle_since: at(10), last_offer_at: Some(at(5)), calls_taken: 5 };
    let three = Readiness { ready: true, idle_since: at(20), last_offer_at: Some(at(3)), calls_taken: 2 };
    for (strategy, want) in [
        (Strategy::LongestIdle, 2),
        (Strategy::RoundRobin, 1),
        (Strategy::FewestCalls, 3),
        (Strategy::BestSkill, 1),
    ] {
        let mut index = QueueIndex::new(QueueSettings { strategy, ..QueueSettings::default() });
        for (n, readiness, level) in [(1, one, 5), (2, two, 3), (3, three, 4)] {
            index.agent_ready(agent(n), &BTreeMap::from([(skill(1), level)]), readiness);
        }
        index.enter(entry(1, 0, at(0), &[(1, 2)]), at(40));
        assert_eq!(pair(&mut index, at(40)), Some((call(1), agent(want))), "{strategy:?}");
    }
}

#[test]
fn skills_relax_while_a_call_waits() {
    let relax_after = vec![Millis::from_secs(10), Millis::from_secs(20)];
    let mut index = QueueIndex::new(QueueSettings { relax_after, ..QueueSettings::default() });
    index.agent_ready(agent(1), &BTreeMap::from([(skill(1), 3)]), idle(at(0)));
    index.enter(entry(1, 0, at(0), &[(1, 5)]), at(0));
    assert_eq!(pair(&mut index, at(0)), None, "level 5 is asked");
    assert_eq!(index.wake_at(), Some(at(10)));
    assert_eq!(pair(&mut index, at(10)), None, "level 4 is asked");
    assert_eq!(pair(&mut index, at(20)), Some((call(1), agent(1))), "level 3 is asked");
}

#[test]
fn an_agent_is_not_offered_again_what_it_just_let_pass_and_others_go_on() {
    let mut index = QueueIndex::new(QueueSettings::default());
    let mut passed = entry(1, 0, at(0), &[]);
    passed.passed_by.push((agent(1), at(20)));
    index.enter(passed, at(10));
    index.enter(entry(2, 0, at(5), &[]), at(10));
    index.agent_ready(agent(1), &BTreeMap::new(), idle(at(0)));
    assert_eq!(pair(&mut index, at(10)), Some((call(2), agent(1))));
    index.agent_ready(agent(1), &BTreeMap::new(), idle(at(0)));
    assert_eq!(pair(&mut index, at(19)), None);
    assert_eq!(pair(&mut index, at(20)), Some((call(1), agent(1))));
}

#[test]
fn a_refused_proposal_puts_the_call_back_at_its_place() {
    let mut index = QueueIndex::new(QueueSettings::default());
    index.enter(entry(1, 0, at(0), &[]), at(9));
    index.enter(entry(2, 0, at(1), &[]), at(9));
    index.agent_ready(agent(1), &BTreeMap::new(), idle(at(0)));
    let proposal = index.next_match(at(9)).unwrap();
    assert_eq!(proposal.entry.call_id, call(1));
    index.refused(proposal.offer_id, at(10));
    index.agent_ready(agent(2), &BTreeMap::new(), idle(at(0)));
    assert_eq!(pair(&mut index, at(10)), Some((call(1), agent(2))));
}

#[test]
fn a_full_queue_turns_new_calls_away_but_not_returning_ones() {
    let mut index = QueueIndex::new(QueueSettings { max_waiting: 1, ..QueueSettings::default() });
    assert_eq!(index.enter(entry(1, 0, at(0), &[]), at(0)), Admission::Waiting);
    assert_eq!(index.enter(entry(1, 0, at(0), &[]), at(0)), Admission::Waiting, "it is here already");
    assert_eq!(index.enter(entry(2, 0, at(1), &[]), at(1)), Admission::Full);
    let mut returning = entry(3, 0, at(0), &[]);
    returning.passed_by.push((agent(1), at(20)));
    assert_eq!(index.enter(returning, at(2)), Admission::Waiting);
}

#[test]
fn positions_count_priority_and_age() {
    let mut index = QueueIndex::new(QueueSettings::default());
    index.enter(entry(1, 0, at(0), &[]), at(9));
    index.enter(entry(2, 0, at(1), &[(1, 2)]), at(9));
    index.enter(entry(3, 9, at(2), &[]), at(9));
    assert_eq!([1, 2, 3].map(|n| index.position(call(n))), [Some(2), Some(3), Some(1)]);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u32, i32, u8),
    Leave(u32),
    Ready(u32, u8),
    Gone(u32),
    Match,
    Refuse,
}

fn steps() -> impl Strategy2 {
    proptest::collection::vec(
        prop_oneof![
            (0..12_u32, 0..3_i32, 0..4_u8).prop_map(|(n, p, s)| Step::Enter(n, p, s)),
            (0..12_u32).prop_map(Step::Leave),
            (0..8_u32, 0..4_u8).prop_map(|(n, s)| Step::Ready(n, s)),
            (0..8_u32).prop_map(Step::Gone),
            Just(Step::Match),
            Just(Step::Match),
            Just(Step::Refuse),
        ],
        0..60,
    )
}

use proptest::strategy::Strategy as ProptestStrategy;
trait Strategy2: ProptestStrategy<Value = Vec<Step>> {}
impl<T: ProptestStrategy<Value = Vec<Step>>> Strategy2 for T {}

/// What the index should do, the slow way.
#[derive(Default)]
struct Plain {
    calls: Vec<(i32, Timestamp, CallId, u8)>,
    agents: Vec<(AgentId, u8)>,
}

impl Plain {
    fn best(&self) -> Option<CallId> {
        let mut calls = self.calls.clone();
        calls.sort_by_key(|(priority, since, id, _)| (std::cmp::Reverse(*priority), *since, *id));
        let served = |level: u8| self.agents.iter().any(|(_, has)| level == 0 || *has >= level);
        calls.into_iter().find(|(_, _, _, level)| served(*level)).map(|(_, _, id, _)| id)
    }
}

proptest! {
    #[test]
    fn the_index_serves_the_call_that_a_plain_search_would(steps in steps()) {
        let mut index = QueueIndex::new(QueueSettings::default());
        let mut plain = Plain::default();
        let mut open = Vec::new();
        for (time, step) in steps.into_iter().enumerate() {
            // Far enough apart that a refused proposal may be made again.
            let now = at(i64::try_from(time).unwrap() * 3);
            match step {
                Step::Enter(n, priority, level) => {
                    open.retain(|(_, id, _, _)| *id != call(n));
                    let skills: &[(u32, u8)] = if level == 0 { &[] } else { &[(1, level)] };
                    index.enter(entry(n, priority, now, skills), now);
                    plain.calls.retain(|(_, _, id, _)| *id != call(n));
                    plain.calls.push((priority, now, call(n), level));
                }
                Step::Leave(n) => {
                    index.leave(call(n));
                    open.retain(|(_, id, _, _)| *id != call(n));
                    plain.calls.retain(|(_, _, id, _)| *id != call(n));
                }
                Step::Ready(n, level) => {
                    let skills = if level == 0 { BTreeMap::new() } else { BTreeMap::from([(skill(1), level)]) };
                    index.agent_ready(agent(n), &skills, idle(now));
                    plain.agents.retain(|(id, _)| *id != agent(n));
                    plain.agents.push((agent(n), level));
                }
                Step::Gone(n) => {
                    index.agent_gone(agent(n));
                    plain.agents.retain(|(id, _)| *id != agent(n));
                }
                Step::Match => {
                    let found = index.next_match(now);
                    prop_assert_eq!(found.as_ref().map(|proposal| proposal.entry.call_id), plain.best());
                    if let Some(proposal) = found {
                        // The session announces that it is busy before it refuses for that.
                        index.agent_gone(proposal.agent_id);
                        let place = plain.calls.iter().position(|(_, _, id, _)| *id == proposal.entry.call_id).unwrap();
                        let (priority, since, id, level) = plain.calls.remove(place);
                        let (_, has) = plain.agents.iter().find(|(id, _)| *id == proposal.agent_id).copied().unwrap();
                        prop_assert!(level == 0 || has >= level);
                        plain.agents.retain(|(id, _)| *id != proposal.agent_id);
                        open.push((proposal.offer_id, id, (priority, since), level));
                    }
                }
                Step::Refuse => {
                    if let Some((offer_id, id, (priority, since), level)) = open.pop() {
                        index.refused(offer_id, now);
                        plain.calls.push((priority, since, id, level));
                    }
                }
            }
            prop_assert_eq!(index.waiting(), plain.calls.len());
            prop_assert_eq!(index.ready(), plain.agents.len());
            prop_assert_eq!(index.proposed(), open.len());
        }
    }
}
