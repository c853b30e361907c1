//! Many machines against one table, with random delays, losses, stalls, pauses and crashes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Enough for several chunks on few nodes, few enough to be quick.
const SHARDS_HERE: usize = 40;
/// When a request is given up; it may still be carried out later.
const LIMIT: u64 = 300;
const LEASE: u64 = 1200;
/// How much of it its holder believes in.
const HOLDS: u64 = 1050;
const NAMES: [&str; 5] = ["eml-1", "eml-2", "eml-3", "eml-4", "eml-5"];

#[derive(Debug, Clone)]
enum Request {
    Renew { sent_at: u64 },
    View { asked_at: u64 },
    Do(Action),
}

#[derive(Debug, Clone)]
enum Answer {
    Beat(Beat),
    View { view: Option<ClusterView>, asked_at: u64 },
    Done(Outcome),
}

/// Numbers name a member and, where it matters, which process of it.
#[derive(Debug, Clone)]
enum Event {
    Beat(usize, u32),
    Wake(usize, u32),
    Request { member: usize, process: u32, id: u64, request: Request },
    GiveUp { member: usize, process: u32, id: u64, request: Request },
    Answer { member: usize, process: u32, id: u64, answer: Answer },
    Refused { member: usize, peer: NodeRef },
    Start(usize),
    Fault,
}

#[derive(Debug)]
struct Member {
    machine: Option<Membership>,
    me: NodeRef,
    process: u32,
    paused_until: u64,
    held_until: u64,
    open: BTreeMap<u64, Request>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash,
    Pause,
    Stall,
    Drain,
}

/// Which faults are tried, and how badly the network behaves.
#[derive(Debug, Clone, Copy)]
struct Weather {
    faults: &'static [Fault],
    loss: f64,
}

const STORM: &[Fault] = &[Fault::Crash, Fault::Pause, Fault::Stall, Fault::Drain];

struct World {
    random: StdRng,
    weather: Weather,
    now: u64,
    serial: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    nodes: BTreeMap<Box<str>, NodeRow>,
    owners: Vec<Option<NodeRef>>,
    members: Vec<Member>,
    stalled_until: u64,
    declared: u32,
}

impl World {
    fn new(seed: u64, count: usize, weather: Weather) -> Self {
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            weather,
            now: 0,
            serial: 0,
            agenda: BTreeMap::new(),
            nodes: BTreeMap::new(),
            owners: vec![None; SHARDS_HERE],
            members: Vec::new(),
            stalled_until: 0,
            declared: 0,
        };
        for (number, name) in NAMES.iter().take(count).enumerate() {
            let me = node(name, 0);
            world.members.push(Member {
                machine: None,
                me,
                process: 0,
                paused_until: 0,
                held_until: 0,
                open: BTreeMap::new(),
            });
            let delay = world.random.random_range(0..400);
            world.after(delay, Event::Start(number));
        }
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.serial += 1;
        self.agenda.insert((self.now + delay, self.serial), event);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.handle(event);
            self.check();
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(member) => self.start(member),
            Event::Fault => self.fault(),
            Event::Request { member, process, id, request } => self.arrive(member, process, id, request),
            Event::Beat(member, process)
            | Event::Wake(member, process)
            | Event::GiveUp { member, process, .. }
            | Event::Answer { member, process, .. } => {
                if self.members[member].process == process {
                    self.deliver(member, event);
                }
            }
            Event::Refused { member, .. } => self.deliver(member, event),
        }
    }

    /// What a process notices, unless it has stopped, once it runs.
    fn deliver(&mut self, member: usize, event: Event) {
        let late = self.members[member].paused_until.saturating_sub(self.now);
        if late > 0 {
            return self.after(late, event);
        }
        let now = at(self.now);
        let it = &mut self.members[member];
        let Some(machine) = &mut it.machine else { return };
        let actions = match event {
            Event::Beat(..) => {
                let request = Request::Renew { sent_at: self.now };
                self.send(member, request);
                let process = self.members[member].process;
                return self.after(250, Event::Beat(member, process));
            }
            Event::Wake(..) => machine.tick(now),
            Event::Refused { peer, .. } => machine.refused(peer, now),
            Event::GiveUp { id, request, .. } => match it.open.remove(&id) {
                Some(_) => Self::tell(it, unknown(request, self.now), now),
                None => return,
            },
            Event::Answer { id, answer, .. } => match it.open.remove(&id) {
                Some(_) => Self::tell(it, answer, now),
                None => return,
            },
            Event::Start(_) | Event::Fault | Event::Request { .. } => unreachable!(),
        };
        self.carry_out(member, actions);
    }

    fn tell(it: &mut Member, answer: Answer, now: Duration) -> Vec<Action> {
        let machine = it.machine.as_mut().unwrap();
        match answer {
            Answer::Beat(beat) => {
                if beat.outcome == BeatOutcome::Renewed {
                    let sent_at = u64::try_from(beat.sent_at.as_millis()).unwrap();
                    it.held_until = it.held_until.max(sent_at + HOLDS);
                }
                machine.beat(beat, now)
            }
            Answer::View { view: Some(view), asked_at } => machine.view(view, at(asked_at), now),
            Answer::View { view: None, .. } => {
                machine.view_failed(now);
                Vec::new()
            }
            Answer::Done(outcome) => machine.done(outcome, now),
        }
    }

    fn carry_out(&mut self, member: usize, actions: Vec<Action>) {
        for action in actions {
            if let Action::End(reason) = action {
                self.stop(member);
                let pause = if reason == EndReason::Left { 500 } else { 50 };
                return self.after(pause, Event::Start(member));
            }
            let held_until = self.members[member].held_until;
            assert!(self.now < held_until, "{member} was suspended since {held_until}: {action:?}");
            self.send(member, Request::Do(action));
        }
        self.plan_look(member);
    }

    fn plan_look(&mut self, member: usize) {
        let it = &self.members[member];
        let looks = it.open.values().any(|request| matches!(request, Request::View { .. }));
        let Some(look) = it.machine.as_ref().and_then(Membership::next_look) else { return };
        let look = u64::try_from(look.as_millis()).unwrap();
        if look <= self.now && !looks {
            let request = Request::View { asked_at: self.now };
            self.send(member, request);
        } else if look > self.now {
            let process = it.process;
            self.after(look - self.now, Event::Wake(member, process));
        }
    }

    fn send(&mut self, member: usize, request: Request) {
        self.serial += 1;
        let (id, process) = (self.serial, self.members[member].process);
        self.members[member].open.insert(id, request.clone());
        if !self.random.random_bool(self.weather.loss) {
            let delay = self.delay();
            self.after(delay, Event::Request { member, process, id, request: request.clone() });
        }
        self.after(LIMIT, Event::GiveUp { member, process, id, request });
    }

    fn delay(&mut self) -> u64 {
        let is_slow = self.random.random_bool(self.weather.loss);
        self.random.random_range(if is_slow { 0..1500 } else { 0..5 })
    }

    fn arrive(&mut self, member: usize, process: u32, id: u64, request: Request) {
        if self.now < self.stalled_until {
            let delay = self.stalled_until - self.now;
            return self.after(delay, Event::Request { member, process, id, request });
        }
        let me = self.refer(member, process);
        let answer = match request {
            Request::Renew { sent_at } => {
                let outcome = if self.renew(&me) { BeatOutcome::Renewed } else { BeatOutcome::Refused };
                Answer::Beat(Beat { sent_at: at(sent_at), took: at(self.now - sent_at), outcome })
            }
            Request::View { asked_at } => Answer::View { view: Some(self.view()), asked_at },
            Request::Do(action) => Answer::Done(self.apply(&me, action)),
        };
        if !self.random.random_bool(self.weather.loss) {
            let delay = self.delay();
            self.after(delay, Event::Answer { member, process, id, answer });
        }
    }

    fn refer(&self, member: usize, process: u32) -> NodeRef {
        node(&self.members[member].me.node, u128::from(process))
    }

    // The store.

    fn living(&self, node: &NodeRef) -> Option<&NodeRow> {
        self.nodes.get(&node.node).filter(|row| row.at == *node && row.status.may_write())
    }

    fn view(&self) -> ClusterView {
        ClusterView {
            now: store_time(self.now),
            nodes: self.nodes.values().cloned().collect(),
            owners: self.owners.clone(),
        }
    }

    fn renew(&mut self, me: &NodeRef) -> bool {
        let is_living = self.living(me).is_some();
        if let Some(row) = self.nodes.get_mut(&me.node).filter(|_| is_living) {
            row.lease_until = store_time(self.now + LEASE);
        }
        is_living
    }

    fn set(&mut self, node: &NodeRef, status: NodeStatus) {
        if self.living(node).is_some() {
            self.nodes.get_mut(&node.node).unwrap().status = status;
        }
    }

    fn apply(&mut self, me: &NodeRef, action: Action) -> Outcome {
        match action {
            Action::DeclareDead { node, only_expired } => {
                let now = store_time(self.now);
                let is_dead = self.living(&node).is_some_and(|row| !only_expired || row.lease_until < now);
                if is_dead {
                    self.set(&node, NodeStatus::Dead);
                    self.declared += 1;
                }
                Outcome::Declared { node, is_dead: Some(is_dead) }
            }
            Action::Claim(mut shards) => {
                shards.retain(|shard| {
                    let owner = self.owners[usize::from(*shard)].as_ref();
                    self.living(me).is_some() && owner.is_none_or(|owner| self.living(owner).is_none())
                });
                self.assign(&shards, Some(me));
                Outcome::Claimed(Some(shards))
            }
            Action::Hand { to, mut shards } => {
                let may = self.living(me).is_some()
                    && self.living(&to).is_some_and(|row| row.status == NodeStatus::Alive);
                shards.retain(|shard| may && self.owners[usize::from(*shard)].as_ref() == Some(me));
                self.assign(&shards, Some(&to));
                Outcome::Handed { to, moved: Some(shards) }
            }
            Action::Release(mut shards) => {
                shards.retain(|shard| self.owners[usize::from(*shard)].as_ref() == Some(me));
                self.assign(&shards, None);
                Outcome::Released { is_done: true }
            }
            Action::Leave => {
                self.set(me, NodeStatus::Left);
                Outcome::Left { is_done: true }
            }
            Action::End(_) => unreachable!(),
        }
    }

    fn assign(&mut self, shards: &[u16], owner: Option<&NodeRef>) {
        for shard in shards {
            self.owners[usize::from(*shard)] = owner.cloned();
        }
    }

    // Processes and faults.

    fn start(&mut self, member: usize) {
        if self.members[member].machine.is_some() {
            return;
        }
        self.members[member].process += 1;
        let process = self.members[member].process;
        let me = self.refer(member, process);
        let fresh = row(me.clone(), NodeStatus::Alive, store_time(self.now + LEASE));
        self.nodes.insert(me.node.clone(), fresh);
        let mut machine = Membership::new(me.clone(), SETTINGS);
        let beat = Beat { took: Duration::ZERO, ..good(self.now) };
        let actions = machine.beat(beat, at(self.now));
        let it = &mut self.members[member];
        it.machine = Some(machine);
        it.me = me;
        it.paused_until = 0;
        it.open.clear();
        it.held_until = self.now + HOLDS;
        self.after(250, Event::Beat(member, process));
        self.carry_out(member, actions);
    }

    fn stop(&mut self, member: usize) {
        self.members[member].machine = None;
    }

    fn fault(&mut self) {
        let member = self.random.random_range(0..self.members.len());
        let length = self.random.random_range(20..3000);
        let fault = self.weather.faults[self.random.random_range(0..self.weather.faults.len())];
        let is_up = self.members[member].machine.is_some();
        match fault {
            Fault::Crash if is_up => self.crash(member, length),
            Fault::Drain if is_up => {
                let me = self.members[member].me.clone();
                self.set(&me, NodeStatus::Draining);
                let actions = self.members[member].machine.as_mut().unwrap().drain(at(self.now));
                self.carry_out(member, actions);
            }
            Fault::Pause => self.members[member].paused_until = self.now + length,
            Fault::Stall => self.stalled_until = self.now + 2 * length,
            Fault::Crash | Fault::Drain => {}
        }
    }

    fn crash(&mut self, member: usize, down: u64) {
        self.stop(member);
        let peer = self.members[member].me.clone();
        for other in 0..self.members.len() {
            // Some notice at once, others never do.
            if other != member && self.random.random_bool(0.7) {
                let delay = self.random.random_range(1..50);
                self.after(delay, Event::Refused { member: other, peer: peer.clone() });
            }
        }
        self.after(down, Event::Start(member));
    }

    // What must hold.

    /// Runs of a shard by a living node other than its owner; at most one node can be its owner.
    fn check(&self) {
        for it in &self.members {
            let Some(machine) = it.machine.as_ref().filter(|_| self.living(&it.me).is_some()) else {
                continue;
            };
            for shard in machine.runs() {
                let owner = self.owners[usize::from(shard)].as_ref();
                assert_eq!(owner, Some(&it.me), "at {}: {} runs shard {shard}", self.now, it.me);
            }
        }
    }

    fn assert_settled(&self) {
        let view = self.view();
        assert!(view.nodes.iter().any(|row| row.status == NodeStatus::Alive));
        for (shard, owner) in (0_u16..).zip(&self.owners) {
            assert_eq!(owner.as_ref(), owner_of(shard, &view.nodes), "shard {shard}: {view:#?}");
            let runs = self.members.iter().find(|it| Some(&it.me) == owner.as_ref()).unwrap();
            assert!(runs.machine.as_ref().unwrap().runs().contains(&shard), "shard {shard} stands still");
        }
    }
}

/// The outcome of a request that was given up.
fn unknown(request: Request, now: u64) -> Answer {
    match request {
        Request::Renew { sent_at } => {
            Answer::Beat(Beat { sent_at: at(sent_at), took: at(now - sent_at), outcome: BeatOutcome::Failed })
        }
        Request::View { asked_at } => Answer::View { view: None, asked_at },
        Request::Do(action) => Answer::Done(match action {
            Action::DeclareDead { node, .. } => Outcome::Declared { node, is_dead: None },
            Action::Claim(_) => Outcome::Claimed(None),
            Action::Hand { to, .. } => Outcome::Handed { to, moved: None },
            Action::Release(_) => Outcome::Released { is_done: false },
            Action::Leave => Outcome::Left { is_done: false },
            Action::End(_) => unreachable!(),
        }),
    }
}

/// Runs a world through 12 s in which faults begin, lets them end, and gives it 6 s of calm.
fn live_through(seed: u64, count: usize, weather: Weather) -> World {
    let mut world = World::new(seed, count, weather);
    let mut time = 2000;
    while time < 10_000 {
        time += world.random.random_range(50..1500);
        world.after(time, Event::Fault);
    }
    world.run_until(17_500);
    world.weather.loss = 0.0;
    world.run_until(23_500);
    world
}

#[test]
fn the_faults_of_a_simulation_do_occur() {
    let weather = Weather { faults: STORM, loss: 0.03 };
    let worlds: Vec<World> = (0..6).map(|seed| live_through(seed, 4, weather)).collect();
    assert!(worlds.iter().map(|world| world.declared).sum::<u32>() > 6);
    assert!(worlds.iter().flat_map(|world| &world.members).all(|it| it.machine.is_some()));
    assert!(worlds.iter().flat_map(|world| &world.members).any(|it| it.process > 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_never_runs_twice_and_all_run_when_the_faults_are_over(
        seed in any::<u64>(), count in 1..=NAMES.len(), loss in 0.0..0.08,
    ) {
        let weather = Weather { faults: STORM, loss };
        live_through(seed, count, weather).assert_settled();
    }

    #[test]
    fn a_store_that_stalls_leads_to_no_take_over(seed in any::<u64>(), count in 2..=NAMES.len()) {
        let weather = Weather { faults: &[Fault::Stall], loss: 0.0 };
        let world = live_through(seed, count, weather);
        world.assert_settled();
        prop_assert_eq!(world.declared, 0);
    }
}
