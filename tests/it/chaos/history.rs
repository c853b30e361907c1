//! What a run of the harness has seen from outside, and what the database noted: plain data.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

/// Microseconds since 1970 by the clock of this machine, which is the database's too. Nodes may have
/// other ideas (faults move their clocks), so nothing here comes from a node.
pub type Moment = i64;

/// The fields by which a provider's request is the same news as another one.
pub const TELLING: [&str; 18] = [
    "CallSid",
    "CallStatus",
    "SequenceNumber",
    "CallbackSource",
    "StatusCallbackEvent",
    "ConferenceSid",
    "ParentCallSid",
    "DialCallSid",
    "DialCallStatus",
    "QueueResult",
    "QueueTime",
    "RecordingSid",
    "RecordingStatus",
    "Digits",
    "AnsweredBy",
    "MessageSid",
    "MessageStatus",
    "ErrorCode",
];

/// A provider's request, by what makes it this one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct News(pub Vec<(&'static str, String)>);

impl News {
    pub fn of(value: impl Fn(&str) -> Option<String>) -> Self {
        let told = TELLING.into_iter().filter_map(|name| value(name).map(|text| (name, text)));
        Self(told.filter(|(_, text)| !text.is_empty()).collect())
    }

    pub fn of_fields(fields: &Value) -> Self {
        Self::of(|name| fields[name].as_str().map(ToOwned::to_owned))
    }
}

/// A webhook that a node has answered with success.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub at: Moment,
    /// Below the provider's path, as in `status`.
    pub path: String,
    pub news: News,
    /// Which node answered, by its place.
    pub node: usize,
}

/// One thing that an agent's client saw.
#[derive(Debug, Clone)]
pub enum Seen {
    /// The greeting of a connection, or a resync on it.
    Hello {
        node: usize,
        resumed: bool,
        sequence: u64,
    },
    Event {
        sequence: u64,
        kind: String,
        data: Value,
    },
    /// A command was answered.
    Answer {
        kind: String,
        data: Value,
        is_ack: bool,
    },
    /// The connection has ended.
    Gone,
}

/// The life of an agent's client.
#[derive(Debug, Clone, Default)]
pub struct AgentLog {
    pub agent: Uuid,
    pub seen: Vec<(Moment, Seen)>,
}

/// A request that a node made of the carrier.
#[derive(Debug, Clone)]
pub struct Order {
    pub at: Moment,
    /// Name of the node.
    pub node: String,
    /// The attempt, where the order places a leg.
    pub attempt: Option<String>,
    /// Below the account, as in `Calls/CA1`.
    pub path: String,
    /// Whether it changes anything, and was carried out.
    pub is_done: bool,
}

/// Which run of which node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub node: String,
    pub incarnation: Uuid,
}

/// A fact as it was stored, and what the database knew at the commit.
#[derive(Debug, Clone)]
pub struct Write {
    pub at: Moment,
    /// The transaction that stored it.
    pub transaction: i64,
    pub entity: Entity,
    pub seq: u64,
    /// The event type, as in `call.queued`.
    pub kind: String,
    /// Which fact it is, as in `offer_ended`: the tag of what is stored.
    pub tag: String,
    /// Its fields.
    pub body: Value,
    /// When its node thought it was, in milliseconds since 1970.
    pub node_at: i64,
    /// The command that led to it.
    pub cause: Option<Uuid>,
    /// The node whose connection stored it.
    pub writer: String,
    /// What the node table said of that node.
    pub writer_status: Option<String>,
    pub shard: u16,
    /// Who owned the shard.
    pub owner: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    Call(Uuid),
    Agent(Uuid),
}

/// A shard changed hands.
#[derive(Debug, Clone)]
pub struct Handover {
    pub at: Moment,
    pub shard: u16,
    pub from: Option<Run>,
    /// What the node table said of the former owner's run; `None` when it had a later one.
    pub from_status: Option<String>,
    pub to: Option<Run>,
    /// The node whose connection changed it.
    pub by: String,
}

/// A row of the node table changed.
#[derive(Debug, Clone)]
pub struct NodeChange {
    pub at: Moment,
    pub run: Run,
    pub status: String,
}

/// What a stored fact says: its tag and its fields.
pub fn tagged(body: Value) -> (String, Value) {
    match body {
        Value::String(tag) => (tag, Value::Null),
        Value::Object(object) => object.into_iter().next().unwrap_or_default(),
        other => (String::new(), other),
    }
}

/// A fault, from its beginning until it was healed.
#[derive(Debug, Clone)]
pub struct Injected {
    pub what: String,
    /// The nodes that it was done to; empty = all.
    pub nodes: Vec<String>,
    pub from: Moment,
    pub until: Moment,
}

/// What the harness asked of the queues: needed to tell who may be late.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whether the nodes were a cluster; one alone has no owners.
    pub is_cluster: bool,
    /// Longest time that a promise may be late, in microseconds: faults take their time.
    pub slack: i64,
    /// Longest time that a ready agent and a waiting call may be together, in microseconds.
    pub patience: i64,
    /// How long an agent without a socket keeps its place, in microseconds.
    pub grace: i64,
    /// How far apart two moments must be to have an order, in microseconds.
    pub blur: i64,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub rules: Rules,
    pub webhooks: Vec<Webhook>,
    /// News without a call that the database keeps.
    pub orphans: Vec<News>,
    pub agents: Vec<AgentLog>,
    pub orders: Vec<Order>,
    /// In the order in which they were stored.
    pub writes: Vec<Write>,
    pub handovers: Vec<Handover>,
    pub nodes: Vec<NodeChange>,
    pub faults: Vec<Injected>,
    /// Entities that the database calls open, at the end.
    pub open: Vec<Entity>,
}

impl History {
    /// The facts of each entity, in the order in which they were stored.
    pub fn by_entity(&self) -> BTreeMap<Entity, Vec<&Write>> {
        let mut all: BTreeMap<Entity, Vec<&Write>> = BTreeMap::new();
        for write in &self.writes {
            all.entry(write.entity).or_default().push(write);
        }
        all
    }

    pub fn calls(&self) -> impl Iterator<Item = (Uuid, Vec<&Write>)> {
        self.by_entity().into_iter().filter_map(|(entity, facts)| match entity {
            Entity::Call(id) => Some((id, facts)),
            Entity::Agent(_) => None,
        })
    }

    pub fn sessions(&self) -> impl Iterator<Item = (Uuid, Vec<&Write>)> {
        self.by_entity().into_iter().filter_map(|(entity, facts)| match entity {
            Entity::Agent(id) => Some((id, facts)),
            Entity::Call(_) => None,
        })
    }

    /// The last moment that anything was seen.
    pub fn end(&self) -> Moment {
        let stored = self.writes.iter().map(|write| write.at);
        let seen = self.agents.iter().flat_map(|agent| agent.seen.iter().map(|(at, _)| *at));
        stored.chain(seen).max().unwrap_or_default()
    }

    /// Whether a fault was under way at a moment or shortly before, at this node or everywhere.
    pub fn is_disturbed(&self, node: Option<&str>, at: Moment, after: i64) -> bool {
        self.faults.iter().any(|fault| {
            let concerns =
                fault.nodes.is_empty() || node.is_none_or(|node| fault.nodes.iter().any(|it| it == node));
            concerns && fault.from <= at && at <= fault.until + after
        })
    }
}
