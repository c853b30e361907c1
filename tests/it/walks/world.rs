//! The world: entities, queues, and the messages between them.

use std::collections::{BTreeMap, HashMap};

use eml::domain::agent::{AgentCommand, AgentEffect, AgentSession, Readiness, Reservation};
use eml::domain::call::{Call, CallCommand, CallEffect, CallReply, Document, QueueEntry, Routing};
use eml::domain::id::{AgentId, CallId, OfferId, QueueId};
use eml::domain::machine::{Decision, Machine};
use eml::domain::queue::{Admission, QueueIndex, QueueSettings, Skills};
use eml::domain::time::{Millis, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::carrier::{Carrier, PhoneEvent};

/// A tick that changed nothing is repeated after this time, as the actors do.
const RETRY: Millis = Millis::from_secs(15);

/// When everybody leaves.
const CLOSING_TIME: Millis = Millis::from_secs(330);

/// An entity with its journal.
pub(super) struct Node<M: Machine> {
    pub(super) machine: M,
    pub(super) facts: Vec<(M::Fact, Timestamp)>,
    pub(super) armed: Option<Timestamp>,
}

impl<M: Machine> Node<M> {
    fn new(machine: M) -> Self {
        Self { machine, facts: Vec::new(), armed: None }
    }

    /// The state as the journal tells it, read back from its stored form.
    pub(super) fn refolded(&self, vacant: M) -> M {
        let mut machine = vacant;
        for (fact, at) in &self.facts {
            let stored = serde_json::to_string(fact).unwrap();
            machine.apply(&serde_json::from_str(&stored).unwrap(), *at);
        }
        machine
    }
}

/// What a queue is sent.
#[derive(Clone, Debug)]
pub(super) enum ToQueue {
    Enter(Box<QueueEntry>),
    Leave(CallId),
    Agent(AgentId, Readiness),
    Refused(OfferId),
}

/// Everything that can be under way.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Call(usize, CallCommand),
    Agent(usize, AgentCommand),
    Reserve(usize, usize, Box<Reservation>),
    Queue(usize, ToQueue),
    Phone(PhoneEvent),
    Person,
}

/// Who sends to whom; messages of one pair keep their order in orderly walks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Place {
    Call(usize),
    Agent(usize),
    Queue(usize),
    Outside,
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) now: Timestamp,
    /// Messages keep their order per pair, none is doubled, nobody crashes.
    pub(super) orderly: bool,
    pub(super) loud: bool,
    pub(super) leaving: bool,
    /// An operator freed a session from its call.
    pub(super) freed: bool,
    pub(super) calls: Vec<Node<Call>>,
    pub(super) agents: Vec<Node<AgentSession>>,
    pub(super) queues: Vec<QueueIndex>,
    pub(super) routings: Vec<Routing>,
    pub(super) carrier: Carrier,
    pub(super) bag: BTreeMap<(Timestamp, u64), (Place, Message)>,
    pub(super) last: HashMap<(Place, Place), Timestamp>,
    pub(super) sent: u64,
    pub(super) steps: u64,
}

impl World {
    pub(super) fn new(seed: u64, loud: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let queues = rng.random_range(1..=2);
        let routings = super::people::routings(&mut rng, queues);
        let limits = [0, 0, 1, 3];
        let indexes = (0..queues).map(|_| {
            let max_waiting = limits[rng.random_range(0..4)];
            QueueIndex::new(QueueSettings { max_waiting, ..QueueSettings::default() })
        });
        let queues = indexes.collect();
        let agents = (0..rng.random_range(1..=4))
            .map(|n: usize| Node::new(AgentSession::vacant(AgentId::derived("walk", &n.to_string()).into())));
        Self {
            agents: agents.collect(),
            calls: Vec::new(),
            queues,
            routings,
            now: Timestamp::from_millis(1_700_000_000_000),
            orderly: seed.is_multiple_of(2),
            loud,
            leaving: false,
            freed: false,
            carrier: Carrier::default(),
            bag: BTreeMap::new(),
            last: HashMap::new(),
            sent: 0,
            steps: 0,
            rng,
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        if self.loud {
            println!("{} {}", self.now, text());
        }
    }

    /// Puts a message on its way; in disorderly walks it may be late, doubled or overtaken.
    pub(super) fn send(&mut self, from: Place, to: Place, message: Message) {
        // What a queue is told comes from one mailbox to another, so it keeps its order.
        let to_queue = matches!(to, Place::Queue(_));
        let in_order = from != Place::Outside && (self.orderly || to_queue);
        let copies = if !self.orderly && !to_queue && self.chance(5) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = match self.rng.random_range(0..100) {
                0..80 => self.rng.random_range(0..30),
                80..97 => self.rng.random_range(0..3_000),
                _ if self.orderly => self.rng.random_range(0..10_000),
                _ => self.rng.random_range(0..120_000),
            };
            let mut due = self.now + Millis(delay);
            if in_order {
                let last = self.last.entry((from, to)).or_insert(due);
                due = due.max(*last);
                *last = due;
            }
            self.post(due, to, message.clone());
        }
    }

    pub(super) fn post(&mut self, due: Timestamp, to: Place, message: Message) {
        self.sent += 1;
        self.bag.insert((due, self.sent), (to, message));
    }

    /// The whole walk; answers with the number of steps.
    pub(super) fn walk(mut self) -> u64 {
        self.people_come();
        let closing_time = self.now + CLOSING_TIME;
        while self.now < closing_time && self.next() {
            assert!(self.steps < 20_000, "no end in sight");
        }
        while !self.bag.is_empty() {
            self.next_message();
            assert!(self.steps < 20_000, "messages lead to messages for ever");
        }
        if self.orderly {
            self.check_agreement();
        }
        self.everybody_leaves();
        let limit = self.steps + 20_000;
        while self.next() {
            assert!(self.steps < limit, "no quiet after everybody left");
        }
        self.check_end();
        self.steps
    }

    /// One step: the next message, or the next timer. In the end, whatever is left is only timers.
    fn next(&mut self) -> bool {
        let timer = self.next_timer();
        let message = self.bag.first_key_value().map(|(key, _)| *key);
        match (timer, message) {
            (Some((at, who)), None) => self.fire(at, who),
            (Some((at, who)), Some((due, _))) if at <= due => self.fire(at, who),
            (_, Some(_)) => return self.next_message(),
            (None, None) => return false,
        }
        self.settle();
        true
    }

    fn next_message(&mut self) -> bool {
        let Some((key, (_, message))) = self.bag.pop_first() else { return false };
        self.now = self.now.max(key.0);
        self.deliver(message);
        self.settle();
        true
    }

    fn settle(&mut self) {
        self.steps += 1;
        for queue in 0..self.queues.len() {
            self.match_up(queue);
        }
        self.check_step();
    }

    fn next_timer(&self) -> Option<(Timestamp, Place)> {
        let calls = self.calls.iter().enumerate().filter_map(|(n, node)| Some((node.armed?, Place::Call(n))));
        let agents =
            self.agents.iter().enumerate().filter_map(|(n, node)| Some((node.armed?, Place::Agent(n))));
        calls.chain(agents).min_by_key(|(at, _)| *at)
    }

    fn fire(&mut self, at: Timestamp, who: Place) {
        self.now = self.now.max(at);
        let floor = self.now + RETRY;
        let rearm = |armed: &mut Option<Timestamp>| {
            if armed.is_some_and(|at| at < floor && at + RETRY <= floor) {
                *armed = Some(floor);
            }
        };
        match who {
            Place::Call(n) => {
                self.step_call(n, CallCommand::Tick);
                rearm(&mut self.calls[n].armed);
            }
            Place::Agent(n) => {
                let _ = self.step_agent(n, AgentCommand::Tick);
                rearm(&mut self.agents[n].armed);
            }
            Place::Queue(_) | Place::Outside => {}
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Call(n, command) => {
                self.step_call(n, command);
            }
            Message::Agent(n, command) => {
                let _ = self.step_agent(n, command);
            }
            Message::Reserve(queue, n, reservation) => {
                let offer_id = reservation.offer_id;
                let refused = self.step_agent(n, AgentCommand::Reserve(reservation)).is_err();
                // An answer that gets lost counts as a refusal.
                if refused || (!self.orderly && self.chance(3)) {
                    let refused = Message::Queue(queue, ToQueue::Refused(offer_id));
                    self.send(Place::Outside, Place::Queue(queue), refused);
                }
            }
            Message::Queue(n, message) => self.step_queue(n, message),
            Message::Phone(event) => self.phone(event),
            Message::Person => self.somebody_acts(),
        }
    }

    fn step_queue(&mut self, n: usize, message: ToQueue) {
        self.say(|| format!("queue {n} <- {message:?}"));
        let now = self.now;
        let index = &mut self.queues[n];
        match message {
            ToQueue::Enter(entry) => {
                let (call_id, queue_id) = (entry.call_id, entry.queue_id);
                if index.enter(*entry, now) == Admission::Full {
                    let call = self.call_number(call_id);
                    let full = Message::Call(call, CallCommand::QueueFull { queue_id });
                    self.send(Place::Queue(n), Place::Call(call), full);
                }
            }
            ToQueue::Leave(call_id) => {
                index.leave(call_id);
            }
            ToQueue::Agent(agent_id, readiness) if readiness.ready => {
                index.agent_ready(agent_id, &Skills::new(), readiness);
            }
            ToQueue::Agent(agent_id, _) => index.agent_gone(agent_id),
            ToQueue::Refused(offer_id) => index.refused(offer_id, now),
        }
    }

    fn match_up(&mut self, queue: usize) {
        while let Some(proposal) = self.queues[queue].next_match(self.now) {
            let agent = self.agent_number(proposal.agent_id);
            let reservation = Box::new(Reservation {
                offer_id: proposal.offer_id,
                queue_id: self.routings[queue].queue_id,
                call: proposal.entry.brief,
                ring: proposal.entry.ring,
                reason: proposal.reason,
            });
            let ask = Message::Reserve(queue, agent, reservation);
            self.send(Place::Queue(queue), Place::Agent(agent), ask);
        }
    }

    pub(super) fn step_call(&mut self, n: usize, command: CallCommand) -> Option<Document> {
        self.say(|| format!("call {n} <- {command:?}"));
        let before = self.calls[n].machine.clone();
        let is_birth = matches!(command, CallCommand::Arrive(_) | CallCommand::Dial(_));
        let decision = before.decide(command, self.now).ok()?;
        let Decision { facts, effects, reply } = decision;
        let node = &mut self.calls[n];
        take(node, facts, self.now);
        node.armed = node.machine.deadline();
        self.check_call(n, &before, is_birth, &reply);
        self.say(|| format!("   -> {} {effects:?}", self.calls[n].machine.state_word()));
        if !self.crashes_now(Place::Call(n)) {
            self.call_effects(n, effects);
        }
        match reply {
            CallReply::Document(document) => Some(document),
            CallReply::Done(_) => None,
        }
    }

    pub(super) fn step_agent(&mut self, n: usize, command: AgentCommand) -> Result<(), ()> {
        self.say(|| format!("agent {n} <- {command:?}"));
        let before = self.agents[n].machine.clone();
        let decision = before.decide(command, self.now).map_err(drop)?;
        let Decision { facts, effects, reply } = decision;
        let node = &mut self.agents[n];
        take(node, facts, self.now);
        node.armed = node.machine.deadline();
        self.check_agent(n, &reply);
        self.say(|| format!("   -> {:?} {effects:?}", self.agents[n].machine.routing_status()));
        if !self.crashes_now(Place::Agent(n)) {
            self.agent_effects(n, effects);
        }
        Ok(())
    }

    pub(super) fn call_effects(&mut self, n: usize, effects: Vec<CallEffect>) {
        let from = Place::Call(n);
        for effect in effects {
            match effect {
                CallEffect::Carrier { leg_id, order, .. } => self.order(n, leg_id, order),
                CallEffect::EnterQueue(entry) => {
                    let queue = self.queue_number(entry.queue_id);
                    self.send(from, Place::Queue(queue), Message::Queue(queue, ToQueue::Enter(entry)));
                }
                CallEffect::LeaveQueue { queue_id, .. } => {
                    let queue = self.queue_number(queue_id);
                    let leave = ToQueue::Leave(self.calls[n].machine.id);
                    self.send(from, Place::Queue(queue), Message::Queue(queue, leave));
                }
                CallEffect::TellAgent { agent_id, command } => {
                    let agent = self.agent_number(agent_id);
                    self.send(from, Place::Agent(agent), Message::Agent(agent, *command));
                }
            }
        }
    }

    pub(super) fn agent_effects(&mut self, n: usize, effects: Vec<AgentEffect>) {
        let from = Place::Agent(n);
        for effect in effects {
            match effect {
                AgentEffect::TellCall { call_id, command } => {
                    let call = self.call_number(call_id);
                    self.send(from, Place::Call(call), Message::Call(call, *command));
                }
                AgentEffect::Announce(readiness) => {
                    let agent_id = self.agents[n].machine.id;
                    for queue in 0..self.queues.len() {
                        let told = Message::Queue(queue, ToQueue::Agent(agent_id, readiness));
                        self.send(from, Place::Queue(queue), told);
                    }
                }
                AgentEffect::ForgetSockets => {
                    self.send(from, Place::Agent(n), Message::Agent(n, AgentCommand::ForgetSockets));
                }
            }
        }
    }

    /// A new call, before its first fact.
    pub(super) fn add_call(&mut self) -> usize {
        let n = self.calls.len();
        let id = CallId::derived("walk", &format!("CA{n}"));
        self.calls.push(Node::new(Call::vacant(id.into())));
        n
    }

    pub(super) fn call_number(&self, id: CallId) -> usize {
        self.calls.iter().position(|node| node.machine.id == id).unwrap()
    }

    fn agent_number(&self, id: AgentId) -> usize {
        self.agents.iter().position(|node| node.machine.id == id).unwrap()
    }

    fn queue_number(&self, id: QueueId) -> usize {
        self.routings.iter().position(|routing| routing.queue_id == id).unwrap()
    }
}

fn take<M: Machine>(node: &mut Node<M>, facts: Vec<M::Fact>, now: Timestamp) {
    for fact in facts {
        node.machine.apply(&fact, now);
        node.facts.push((fact, now));
    }
}
