//! What callers were promised.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::agents::{Session, text};
use super::{Rule, Violation};
use crate::chaos::history::{Entity, History, Moment, News, Write};

/// Paths whose success promises nothing: the fallback answers even when nothing can be stored.
const PROMISES_NOTHING: [&str; 1] = ["voice/fallback"];
/// How many findings of one kind are told; a broken queue breaks for everybody.
const ENOUGH: usize = 5;

pub(super) fn acknowledged_is_stored(history: &History) -> Vec<Violation> {
    let told = history.writes.iter().filter(|write| write.tag == "carrier_reported");
    let stored: BTreeSet<News> = told.map(|write| News::of_fields(&write.body["fields"])).collect();
    let promised = history.webhooks.iter().filter(|webhook| !PROMISES_NOTHING.contains(&&*webhook.path));
    promised
        .filter(|webhook| !stored.contains(&webhook.news) && !history.orphans.contains(&webhook.news))
        .map(|webhook| {
            let text = format!(
                "{} {:?} was acknowledged by node {} at {} and is lost",
                webhook.path, webhook.news, webhook.node, webhook.at
            );
            Violation::new(Rule::AcknowledgedIsStored, text)
        })
        .collect()
}

pub(super) fn numbers_have_no_gap(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (entity, facts) in history.by_entity() {
        for (wanted, fact) in (1..).zip(&facts) {
            if fact.seq != wanted {
                let text = format!("{entity:?} has #{} where #{wanted} belongs", fact.seq);
                found.push(Violation::new(Rule::NumbersHaveNoGap, text));
                break;
            }
        }
    }
    found
}

pub(super) fn one_agent_per_call(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (call, facts) in history.calls() {
        let (mut offered, mut taken): (Option<String>, Option<String>) = (None, None);
        for fact in facts {
            match &*fact.tag {
                "offered" => {
                    if let Some(other) = offered.as_ref().or(taken.as_ref()) {
                        let text = format!("call {call} is offered (#{}) while {other} has it", fact.seq);
                        found.push(Violation::new(Rule::OneAgentPerCall, text));
                    }
                    offered = Some(text(&fact.body, "agent_id"));
                }
                "offer_ended" => {
                    let agent = offered.take();
                    if fact.body["outcome"] == "accepted" {
                        taken = agent.or_else(|| Some(text(&fact.body, "agent_id")));
                    }
                }
                "requeued" | "queued" => (offered, taken) = (None, None),
                _ => {}
            }
        }
    }
    found
}

pub(super) fn calls_reach_an_outcome(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (call, facts) in history.calls() {
        let has = |tag: &str| facts.iter().any(|fact| fact.tag == tag);
        if !has("ended") || !has("completed") || history.open.contains(&Entity::Call(call)) {
            let last = facts.last().map(|fact| &fact.kind);
            let text = format!("call {call} is not over; its last fact is {last:?}");
            found.push(Violation::new(Rule::CallsReachAnOutcome, text));
        }
    }
    found
}

/// A stay in a queue.
#[derive(Debug)]
struct Wait {
    call: Uuid,
    queue: String,
    /// Priority and skills: only equals have an order.
    class: String,
    /// When it first queued, by the database's clock and by its node's.
    since: (Moment, i64),
    from: Moment,
    until: Moment,
    /// Whether it ended with an offer.
    is_served: bool,
    /// Whether an agent let it pass before; that agent does not get it again at once.
    was_passed: bool,
}

fn waits(call: Uuid, facts: &[&Write], end: Moment) -> Vec<Wait> {
    let mut all = Vec::new();
    let (mut queue, mut class, mut since) = (String::new(), String::new(), (0, 0));
    let (mut from, mut was_passed): (Option<Moment>, bool) = (None, false);
    for fact in facts {
        let ends = match &*fact.tag {
            "received" => {
                let routing = &fact.body["routing"];
                class = format!("{} {}", routing["priority"], routing["skills"]);
                None
            }
            "queued" => {
                queue = text(&fact.body, "queue_id");
                since = (fact.at, fact.node_at);
                from = Some(fact.at);
                None
            }
            "requeued" => {
                (from, was_passed) = (Some(fact.at), true);
                None
            }
            "offer_ended" if fact.body["outcome"] != "accepted" => {
                (from, was_passed) = (Some(fact.at), true);
                None
            }
            "offered" => from.take().map(|from| (from, true)),
            "overflowed" | "hangup_requested" | "parted" | "ended" | "completed" | "connected" => {
                from.take().map(|from| (from, false))
            }
            _ => None,
        };
        if let Some((from, is_served)) = ends {
            let (queue, class) = (queue.clone(), class.clone());
            all.push(Wait { call, queue, class, since, from, until: fact.at, is_served, was_passed });
        }
    }
    if let Some(from) = from {
        all.push(Wait { call, queue, class, since, from, until: end, is_served: false, was_passed });
    }
    all
}

fn all_waits(history: &History) -> Vec<Wait> {
    let end = history.end();
    history.calls().flat_map(|(call, facts)| waits(call, &facts, end)).collect()
}

/// A call that queued earlier, by both clocks, and is no worse, is not left waiting while a later one
/// is served.
pub(super) fn places_are_kept(history: &History) -> Vec<Violation> {
    let blur = history.rules.blur;
    let all = all_waits(history);
    let mut found = Vec::new();
    for later in all.iter().filter(|wait| wait.is_served) {
        let overtaken = all.iter().find(|first| {
            first.call != later.call
                && (&first.queue, &first.class) == (&later.queue, &later.class)
                && !first.was_passed
                && first.since.0 + blur < later.since.0
                && first.since.1 < later.since.1
                && first.from + blur < later.until
                && later.until + blur < first.until
        });
        if let Some(first) = overtaken {
            let text =
                format!("call {} was served before {}, which had queued earlier", later.call, first.call);
            found.push(Violation::new(Rule::PlacesAreKept, text));
        }
    }
    found
}

/// When an agent was ready.
fn ready(history: &History) -> BTreeMap<Uuid, Vec<(Moment, Moment)>> {
    let end = history.end();
    let mut all = BTreeMap::new();
    for (agent, facts) in history.sessions() {
        let (mut session, mut since, mut spans) = (Session::default(), None, Vec::new());
        for fact in facts {
            session.take(fact);
            match (session.is_ready(), since) {
                (true, None) => since = Some(fact.at),
                (false, Some(from)) => {
                    spans.push((from, fact.at));
                    since = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        spans.extend(since.map(|from| (from, end)));
        all.insert(agent, spans);
    }
    all
}

/// The longest part of a span without a fault under way.
fn calmest(history: &History, from: Moment, until: Moment) -> i64 {
    let mut faults: Vec<_> = history.faults.iter().map(|fault| (fault.from, fault.until)).collect();
    faults.sort_unstable();
    let (mut longest, mut begin) = (0, from);
    for (start, stop) in faults {
        if stop > begin && start < until {
            longest = longest.max(start - begin);
            begin = begin.max(stop);
        }
    }
    longest.max(until - begin)
}

/// Every agent of the harness is in every queue, so any ready one will do.
pub(super) fn nobody_waits_for_nothing(history: &History) -> Vec<Violation> {
    let ready = ready(history);
    let mut found = Vec::new();
    for wait in all_waits(history) {
        let idle = ready.iter().find_map(|(agent, spans)| {
            let together =
                spans.iter().map(|(from, until)| ((*from).max(wait.from), (*until).min(wait.until)));
            // No part of a span is longer than the span, and most have nothing to do with this call.
            let long = together.filter(|(from, until)| until - from > history.rules.patience);
            let longest = long.map(|(from, until)| calmest(history, from, until)).max()?;
            (longest > history.rules.patience).then_some((agent, longest))
        });
        if let Some((agent, longest)) = idle {
            let text =
                format!("call {} waited for {} ms beside {agent}, who was ready", wait.call, longest / 1_000);
            found.push(Violation::new(Rule::NobodyWaitsForNothing, text));
        }
    }
    found.truncate(ENOUGH);
    found
}
