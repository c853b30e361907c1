//! Who may write, take and order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Violation};
use crate::chaos::history::{History, Moment};

/// How long an order of a node may be on its way to the carrier, and wait there for its turn, in
/// microseconds. The carrier is never cut off, so nothing is repeated by the network.
const ON_ITS_WAY: i64 = 500_000;
/// A fault may have its effect so long after it was healed, in microseconds.
const AFTERMATH: i64 = 5_000_000;

pub(super) fn writes_are_the_owners(history: &History) -> Vec<Violation> {
    if !history.rules.is_cluster {
        return Vec::new();
    }
    let mut found = Vec::new();
    for write in &history.writes {
        let fact = format!("{:?} #{} {}", write.entity, write.seq, write.kind);
        if write.owner.as_deref() != Some(&*write.writer) {
            let text = format!(
                "{fact} in shard {} of {:?} was written by {}",
                write.shard, write.owner, write.writer
            );
            found.push(Violation::new(Rule::OnlyTheOwnerWrites, text));
        }
        if !matches!(write.writer_status.as_deref(), Some("alive" | "draining")) {
            let text = format!("{fact} was written by {}, which was {:?}", write.writer, write.writer_status);
            found.push(Violation::new(Rule::FencedWriteNothing, text));
        }
    }
    found
}

pub(super) fn shards_are_taken_from_nobody_alive(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for handover in &history.handovers {
        let Some(from) = &handover.from else { continue };
        let lives = matches!(handover.from_status.as_deref(), Some("alive" | "draining"));
        if lives && handover.by != from.node {
            let text = format!(
                "shard {} was taken from {} ({:?}) for {:?} by {} at {}",
                handover.shard, from.node, handover.from_status, handover.to, handover.by, handover.at
            );
            found.push(Violation::new(Rule::ShardsAreTakenFromNobodyAlive, text));
        }
    }
    found
}

/// The facts of one command of one entity are stored together.
pub(super) fn commands_are_done_once(history: &History) -> Vec<Violation> {
    let mut done: BTreeMap<_, BTreeSet<i64>> = BTreeMap::new();
    for write in &history.writes {
        if let Some(cause) = write.cause {
            done.entry((write.entity, cause)).or_default().insert(write.transaction);
        }
    }
    let twice = done.into_iter().filter(|(_, transactions)| transactions.len() > 1);
    twice
        .map(|((entity, cause), transactions)| {
            let text = format!("{entity:?} carried out command {cause} {} times", transactions.len());
            Violation::new(Rule::CommandsAreDoneOnce, text)
        })
        .collect()
}

pub(super) fn attempts_are_done_once(history: &History) -> Vec<Violation> {
    let mut done: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for order in history.orders.iter().filter(|order| order.is_done) {
        if let Some(attempt) = &order.attempt {
            done.entry(attempt).or_default().push(&order.node);
        }
    }
    let twice = done.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    twice
        .map(|(attempt, nodes)| {
            Violation::new(Rule::AttemptsAreDoneOnce, format!("{attempt} was placed by {nodes:?}"))
        })
        .collect()
}

/// When a node was fenced: from its death until it came back under another incarnation.
fn fenced(history: &History) -> Vec<(&str, Moment, Moment)> {
    let mut spans = Vec::new();
    for (i, change) in history.nodes.iter().enumerate() {
        if change.status == "dead" {
            let later = history.nodes[i + 1..].iter().find(|later| {
                later.run.node == change.run.node && later.run.incarnation != change.run.incarnation
            });
            spans.push((&*change.run.node, change.at, later.map_or(Moment::MAX, |later| later.at)));
        }
    }
    spans
}

pub(super) fn fenced_order_nothing(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (node, from, until) in fenced(history) {
        let orders = history.orders.iter().filter(|order| {
            order.node == node && order.is_done && order.at > from + ON_ITS_WAY && order.at < until
        });
        for order in orders {
            let late = (order.at - from) / 1_000;
            let text = format!("{node} ordered {} {late} ms after it was declared dead", order.path);
            found.push(Violation::new(Rule::FencedOrderNothing, text));
        }
    }
    found
}

pub(super) fn false_takeovers(history: &History) -> Vec<String> {
    let deaths = history.nodes.iter().filter(|change| change.status == "dead");
    deaths
        .filter(|death| !history.is_disturbed(Some(&death.run.node), death.at, AFTERMATH))
        .map(|death| format!("{} at {}", death.run.node, death.at))
        .collect()
}
