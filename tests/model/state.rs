//! What the model consists of: the table and the journal, the processes, and what is on the wire.

use eml::domain::node::{ClusterView, NodeRef, NodeRow, NodeStatus, Role};
use eml::domain::time::{Millis, Timestamp};
use uuid::Uuid;

pub(crate) const NODES: usize = 3;
pub(crate) const SHARDS: usize = 2;

/// Shard 0 goes to node 0, then 1, then 2; shard 1 goes to node 1, then 2, then 0.
pub(crate) const NAMES: [&str; NODES] = ["ann", "ben", "dan"];

/// A set of shards, as bits.
pub(crate) type Shards = u8;

/// One run of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) node: u8,
    pub(crate) number: u8,
}

impl Run {
    pub(crate) fn index(self) -> usize {
        usize::from(self.node)
    }

    pub(crate) fn at(self) -> NodeRef {
        NodeRef { node: NAMES[self.index()].into(), incarnation: Uuid::from_u128(self.number.into()) }
    }

    pub(crate) fn from(at: &NodeRef) -> Self {
        let node = NAMES.iter().position(|name| *name == &*at.node).unwrap();
        let number = at.incarnation.as_u128();
        Self { node: node.try_into().unwrap(), number: number.try_into().unwrap() }
    }
}

/// The row of a node's latest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) status: Status,
    pub(crate) is_expired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Alive,
    Draining,
    Dead,
    Left,
}

impl Status {
    pub(crate) fn word(self) -> NodeStatus {
        match self {
            Self::Alive => NodeStatus::Alive,
            Self::Draining => NodeStatus::Draining,
            Self::Dead => NodeStatus::Dead,
            Self::Left => NodeStatus::Left,
        }
    }
}

/// What a node asks of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Errand {
    /// Dead by its lease.
    Declare(Run),
    Claim(Shards),
    Hand {
        to: Run,
        shards: Shards,
    },
    Release(Shards),
    Leave,
}

/// A fact of the one entity of a shard, at a place in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Write {
    pub(crate) shard: u8,
    pub(crate) seq: u8,
}

/// A request that nobody waits for any more; it may arrive at any time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Orphan {
    Errand(Run, Errand),
    Write(Run, Write),
}

/// A node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) is_up: bool,
    /// It believes in its lease. One that does not (it is frozen, or cut off) does nothing but renew.
    pub(crate) is_held: bool,
    /// For each shard that runs here, the length of its stream as this process knows it.
    pub(crate) runs: [Option<u8>; SHARDS],
    /// Shards whose transfer was sent, and to whom, until a view shows what became of it.
    pub(crate) limbo: [Option<Run>; SHARDS],
    /// Shards that were stopped to be released.
    pub(crate) released: Shards,
    pub(crate) errand: Option<Errand>,
    pub(crate) write: Option<Write>,
}

impl Member {
    pub(crate) const FRESH: Self = Self {
        is_up: true,
        is_held: true,
        runs: [None; SHARDS],
        limbo: [None; SHARDS],
        released: 0,
        errand: None,
        write: None,
    };

    pub(crate) const DOWN: Self = Self { is_up: false, is_held: false, ..Self::FRESH };
}

/// Faults that may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) pauses: u8,
    /// Requests that are given up although they may still arrive.
    pub(crate) losses: u8,
    pub(crate) drains: u8,
    /// Refused connections to a process that lives.
    pub(crate) lies: u8,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Breach {
    /// A write of a run that is dead, has left, or has a successor was accepted.
    FencedWrite,
    /// A stored fact was replaced by another.
    Overwritten,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: [Row; NODES],
    pub(crate) owners: [Option<Run>; SHARDS],
    /// How many facts the entity of each shard has.
    pub(crate) lengths: [u8; SHARDS],
    pub(crate) members: [Member; NODES],
    /// In order, so that equal sets are equal states.
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) left: Budget,
    pub(crate) breach: Option<Breach>,
}

impl State {
    /// Every node up, every shard where it belongs, and nothing under way.
    pub(crate) fn settled(budget: Budget) -> Self {
        let mut members = [Member::FRESH; NODES];
        members[0].runs[0] = Some(0);
        members[1].runs[1] = Some(0);
        Self {
            rows: [Row { number: 1, status: Status::Alive, is_expired: false }; NODES],
            owners: [Some(Run { node: 0, number: 1 }), Some(Run { node: 1, number: 1 })],
            lengths: [0; SHARDS],
            members,
            orphans: Vec::new(),
            left: budget,
            breach: None,
        }
    }

    /// The latest run of a node.
    pub(crate) fn run(&self, node: usize) -> Run {
        Run { node: node.try_into().unwrap(), number: self.rows[node].number }
    }

    /// Whether a run may write, by the table.
    pub(crate) fn is_living(&self, run: Run) -> bool {
        let row = self.rows[run.index()];
        row.number == run.number && row.status.word().may_write()
    }

    /// Whether a run may be given shards, by the table.
    pub(crate) fn is_alive(&self, run: Run) -> bool {
        self.is_living(run) && self.rows[run.index()].status == Status::Alive
    }
}

/// The part of the state that a node reads as a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) rows: [Row; NODES],
    pub(crate) owners: [Option<Run>; SHARDS],
}

impl Seen {
    pub(crate) fn view(&self) -> ClusterView {
        let now = Timestamp::from_millis(1_000_000);
        let rows = (0..NODES).map(|node| {
            let Row { number, status, is_expired } = self.rows[node];
            NodeRow {
                at: Run { node: node.try_into().unwrap(), number }.at(),
                address: String::new(),
                public_url: String::new(),
                roles: vec![Role::Communication],
                version: String::new(),
                status: status.word(),
                started_at: now,
                lease_until: if is_expired { now - Millis(1) } else { now + Millis(1) },
            }
        });
        let owners = self.owners.iter().map(|owner| owner.map(Run::at)).collect();
        ClusterView { now, nodes: rows.collect(), owners }
    }
}

/// Whether a set holds a shard.
pub(crate) fn has(shards: Shards, shard: usize) -> bool {
    shards & (1 << shard) != 0
}

/// The set of these shards.
pub(crate) fn set<'a>(shards: impl IntoIterator<Item = &'a u16>) -> Shards {
    shards.into_iter().fold(0, |all, shard| all | 1 << shard)
}
