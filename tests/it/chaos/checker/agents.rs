//! What agents were promised and shown.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Rule, Violation};
use crate::chaos::history::{Entity, History, Moment, Seen, Write};

/// What an agent has to do with one call, folded from its facts by the checker's own rules.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    Offered,
    Engaged,
    WrapUp,
}

/// An agent while its facts are read.
#[derive(Debug, Default)]
pub(super) struct Session {
    work: BTreeMap<String, Work>,
    sockets: usize,
    is_available: bool,
    is_quiet: bool,
}

pub(super) fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_default().to_owned()
}

fn call_of(body: &Value) -> String {
    let named = body["call_id"].as_str().or(body["call"]["id"].as_str());
    named.unwrap_or_default().to_owned()
}

impl Session {
    /// Takes in one fact.
    pub(super) fn take(&mut self, write: &Write) {
        let body = &write.body;
        match &*write.tag {
            "socket_opened" => self.sockets += 1,
            "socket_closed" => self.sockets = self.sockets.saturating_sub(1),
            "went_offline" => (self.is_available, self.is_quiet) = (false, false),
            "activity_set" => {
                self.is_available = body["available"] == true;
                self.is_quiet &= !self.is_available;
            }
            "quiet_ended" => self.is_quiet = false,
            "offer_created" => {
                self.work.insert(call_of(body), Work::Offered);
            }
            "offer_accepted" | "call_started" => {
                self.work.insert(call_of(body), Work::Engaged);
            }
            "offer_rejected" | "offer_timed_out" | "call_failed" => {
                self.work.remove(&call_of(body));
                self.is_quiet = true;
            }
            "offer_canceled" | "offer_rescinded" | "wrap_up_ended" => {
                self.work.remove(&call_of(body));
            }
            "call_ended" => {
                self.work.remove(&call_of(body));
                if body["wrap_up_until"].is_string() {
                    self.work.insert(call_of(body), Work::WrapUp);
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sockets > 0 && self.is_available && !self.is_quiet && self.work.is_empty()
    }
}

pub(super) fn one_reservation_per_agent(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (agent, facts) in history.sessions() {
        let mut session = Session::default();
        for fact in facts {
            session.take(fact);
            let opens = matches!(&*fact.tag, "offer_created" | "call_started");
            if opens && session.work.len() > 1 {
                let text = format!("agent {agent} has {:?} after #{}", session.work, fact.seq);
                found.push(Violation::new(Rule::OneReservationPerAgent, text));
            }
        }
    }
    found
}

/// A promise with a time: what it is, in which field, and which facts keep it.
struct Promise {
    made_by: &'static str,
    field: &'static str,
    kept_by: &'static [&'static str],
    is_of_call: bool,
}

const PROMISES: [Promise; 6] = [
    Promise {
        made_by: "offer_created",
        field: "deadline",
        kept_by: &[
            "offer_accepted",
            "offer_rejected",
            "offer_timed_out",
            "offer_canceled",
            "offer_rescinded",
        ],
        is_of_call: true,
    },
    Promise {
        made_by: "call_ended",
        field: "wrap_up_until",
        kept_by: &["wrap_up_ended", "wrap_up_extended"],
        is_of_call: true,
    },
    Promise {
        made_by: "wrap_up_extended",
        field: "until",
        kept_by: &["wrap_up_ended", "wrap_up_extended"],
        is_of_call: true,
    },
    Promise { made_by: "offer_rejected", field: "quiet_until", kept_by: QUIET, is_of_call: false },
    Promise { made_by: "offer_timed_out", field: "quiet_until", kept_by: QUIET, is_of_call: false },
    Promise { made_by: "call_failed", field: "quiet_until", kept_by: QUIET, is_of_call: false },
];
/// What ends a pause, or begins another one.
const QUIET: &[&str] =
    &["quiet_ended", "activity_set", "went_offline", "offer_rejected", "offer_timed_out", "call_failed"];

/// How long a promise lasts, in microseconds: by the clock of the node that made it.
fn span(fact: &Write, promise: &Promise) -> Option<i64> {
    let until: eml::domain::time::Timestamp = fact.body[promise.field].as_str()?.parse().ok()?;
    Some((until.millis() - fact.node_at) * 1_000)
}

pub(super) fn deadlines_are_kept(history: &History) -> Vec<Violation> {
    let end = history.end();
    let mut found = Vec::new();
    for (agent, facts) in history.sessions() {
        for (i, fact) in facts.iter().enumerate() {
            for promise in PROMISES.iter().filter(|promise| promise.made_by == fact.tag) {
                let Some(span) = span(fact, promise) else { continue };
                let due = fact.at + span + history.rules.slack;
                let call = call_of(&fact.body);
                let kept = facts[i + 1..].iter().find(|later| {
                    promise.kept_by.contains(&&*later.tag)
                        && (!promise.is_of_call || call_of(&later.body) == call)
                });
                let kept_at = kept.map_or(end, |kept| kept.at);
                // A clock that was moved moves deadlines with it.
                if kept_at > due && !has_moved_clock(history, fact.at, due) {
                    let late = (kept_at - fact.at - span) / 1_000;
                    let how = if kept.is_some() { "ended" } else { "has not ended" };
                    let text = format!(
                        "{} of agent {agent} (#{}) {how} {late} ms after its time",
                        fact.tag, fact.seq
                    );
                    found.push(Violation::new(Rule::DeadlinesAreKept, text));
                }
            }
        }
    }
    found
}

/// An agent whose last socket is gone is taken off after the grace period, unless it comes back.
pub(super) fn grace_ends(history: &History) -> Vec<Violation> {
    let (end, grace) = (history.end(), history.rules.grace);
    let mut found = Vec::new();
    for (agent, facts) in history.sessions() {
        let mut session = Session::default();
        for (i, fact) in facts.iter().enumerate() {
            session.take(fact);
            if fact.tag != "socket_closed" || session.sockets > 0 {
                continue;
            }
            let due = fact.at + grace + history.rules.slack;
            let kept = facts[i + 1..]
                .iter()
                .find(|later| matches!(&*later.tag, "socket_opened" | "socket_closed" | "went_offline"));
            let kept_at = kept.map_or(end, |kept| kept.at);
            if kept_at > due && !has_moved_clock(history, fact.at, due) {
                let late = (kept_at - fact.at - grace) / 1_000;
                let text =
                    format!("agent {agent} (#{}) kept its place {late} ms longer than it should", fact.seq);
                found.push(Violation::new(Rule::DeadlinesAreKept, text));
            }
        }
    }
    found
}

fn has_moved_clock(history: &History, from: Moment, until: Moment) -> bool {
    let moves = history.faults.iter().filter(|fault| fault.what.starts_with("clock"));
    moves.into_iter().any(|fault| fault.from <= until && from <= fault.until)
}

/// An accepted offer and a finished piece of after-call work are in the journal.
pub(super) fn commands_are_stored(history: &History) -> Vec<Violation> {
    let sessions: BTreeMap<Uuid, Vec<&Write>> = history.sessions().collect();
    let mut found = Vec::new();
    for log in &history.agents {
        let facts = sessions.get(&log.agent).map(Vec::as_slice).unwrap_or_default();
        for (_, seen) in &log.seen {
            let Seen::Answer { kind, data, is_ack: true } = seen else { continue };
            let (tag, field) = match &**kind {
                "offer.accept" => ("offer_accepted", "offer_id"),
                "offer.reject" => ("offer_rejected", "offer_id"),
                "wrap_up.complete" => ("wrap_up_ended", "call_id"),
                _ => continue,
            };
            let wanted = text(data, field);
            if !facts.iter().any(|fact| fact.tag == tag && text(&fact.body, field) == wanted) {
                let text = format!("{kind} {wanted} of agent {} was acknowledged and is lost", log.agent);
                found.push(Violation::new(Rule::AcknowledgedIsStored, text));
            }
        }
    }
    found
}

/// Where a client stands: the number of the last event it has, and whether it is connected.
fn follow(log: &[(Moment, Seen)], mut object: impl FnMut(String)) -> (Option<u64>, bool) {
    let (mut last, mut is_connected): (Option<u64>, bool) = (None, false);
    for (_, seen) in log {
        match seen {
            Seen::Hello { resumed: true, node, .. } => {
                is_connected = true;
                if last.is_none() {
                    object(format!("node {node} resumed a session that the client has never had"));
                }
            }
            Seen::Hello { resumed: false, sequence, node } => {
                is_connected = true;
                if last.is_some_and(|last| *sequence < last) {
                    object(format!("node {node} began at {sequence} after {last:?}"));
                }
                last = Some(*sequence);
            }
            Seen::Event { sequence, kind, .. } => {
                let wanted = last.map(|last| last + 1);
                if Some(*sequence) != wanted {
                    object(format!("{kind} is #{sequence} after {last:?}"));
                }
                last = Some(*sequence);
            }
            Seen::Answer { .. } => {}
            Seen::Gone => is_connected = false,
        }
    }
    (last, is_connected)
}

pub(super) fn events_are_whole(history: &History) -> Vec<Violation> {
    let sessions: BTreeMap<Uuid, Vec<&Write>> = history.sessions().collect();
    let mut found = Vec::new();
    for log in &history.agents {
        let mut object = |text| {
            let text = format!("agent {}: {text}", log.agent);
            found.push(Violation::new(Rule::EventsAreWhole, text));
        };
        let (last, is_connected) = follow(&log.seen, &mut object);
        let stored = sessions.get(&log.agent).and_then(|facts| facts.last()).map(|fact| fact.seq);
        if is_connected && last < stored {
            object(format!("its socket has brought {last:?} of {stored:?} events"));
        }
        if last > stored {
            object(format!("it has seen {last:?} of {stored:?} events"));
        }
    }
    found
}

pub(super) fn events_are_facts(history: &History) -> Vec<Violation> {
    let mut facts = BTreeMap::new();
    for write in &history.writes {
        if let Entity::Agent(agent) = write.entity {
            facts.insert((agent, write.seq), write);
        }
    }
    let mut found = Vec::new();
    for log in &history.agents {
        for (_, seen) in &log.seen {
            let Seen::Event { sequence, kind, data } = seen else { continue };
            let fact = facts.get(&(log.agent, *sequence));
            let is_same = fact.is_some_and(|fact| {
                let names = ["offer_id", "call_id"];
                eml::domain::agent::socket_event(&fact.kind) == kind
                    && names.iter().all(|name| data[*name].is_null() || data[*name] == fact.body[*name])
            });
            if !is_same {
                let stored = fact.map(|fact| &fact.kind);
                let text = format!("agent {} saw {kind} as #{sequence}; stored is {stored:?}", log.agent);
                found.push(Violation::new(Rule::EventsAreFacts, text));
            }
        }
    }
    found
}
