//! Several nodes in one process, over one store in memory and a network that fails at will: who owns
//! what, where questions and news go, and what becomes of calls, queues and sockets when a node goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eml::actors::{self, AgentEvent, AgentLimits, Engine, EngineSettings, WriterSettings};
use eml::cluster::Cluster;
use eml::cluster::beat::{BeatSettings, BeatThread, HeartRenewal};
use eml::cluster::lease::LeaseHandle;
use eml::cluster::link::{LinkSettings, SimulatedNetwork};
use eml::cluster::membership::MembershipSettings;
use eml::domain::address::Address;
use eml::domain::agent::{Activity, AgentCommand};
use eml::domain::call::{Arrival, CallCommand, CallReply, RawEvent};
use eml::domain::directory::{Agent, Queue, QueueOverflow};
use eml::domain::id::{AgentId, CallId, QueueId, SocketId};
use eml::domain::node::{NodeRef, NodeStatus, Role};
use eml::domain::placement::{placement, shard_of, shard_of_id};
use eml::domain::queue::Strategy;
use eml::domain::record::CallSummary;
use eml::domain::time::{Clock, Millis};
use eml::store::members::NewNode;
use eml::store::records::{RecordKind, StoredRecord};
use eml::store::{self, Stores};
use eml::telemetry::Metrics;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Longer than in a configuration, since a debug build shares its cores with other tests.
const LEASE: Millis = Millis(3_000);
const BEAT: Duration = Duration::from_millis(100);
const MARGIN: Duration = Duration::from_millis(300);
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node.
struct Site {
    engine: Engine,
    me: NodeRef,
    beat: Option<BeatThread>,
}

/// Some nodes on one store.
struct Country {
    stores: Stores,
    network: SimulatedNetwork,
    sites: Vec<Site>,
    queue_id: QueueId,
    agents: Vec<AgentId>,
}

fn settings(name: &str) -> EngineSettings {
    EngineSettings {
        node: name.to_owned(),
        writer: WriterSettings { flush_rows: 64, flush_after: Millis(0), queue_rows: 1_000 },
        park_after: Millis::from_secs(60),
        max_active_calls: 10_000,
        replay_events: 100,
        agents: AgentLimits {
            grace: Millis::from_secs(20),
            missed_limit: 0,
            reject_backoff: Millis(0),
            busy_backoff: Millis(0),
        },
    }
}

async fn keep<T: serde::Serialize>(
    stores: &Stores,
    kind: RecordKind,
    (id, key): (uuid::Uuid, &str),
    body: &T,
) {
    let (now, body) = (Clock.now(), serde_json::to_value(body).unwrap());
    let record = StoredRecord { id, key: key.to_owned(), body, version: 1, created_at: now, updated_at: now };
    stores.records.insert(kind, record).await.unwrap();
}

impl Country {
    async fn of(names: &[&str], agents: usize) -> Self {
        let stores = store::open("memory:").await.unwrap();
        let queue = Queue {
            id: QueueId::fresh(),
            name: "sales".to_owned(),
            strategy: Strategy::default(),
            priority: 0,
            skills: BTreeMap::new(),
            relax_after_ms: Vec::new(),
            ring_timeout_ms: Millis::from_secs(60),
            max_wait_ms: Millis::from_secs(600),
            max_waiting: 0,
            overflow: QueueOverflow::Hangup,
            wrap_up_ms: Millis::from_secs(1),
        };
        keep(&stores, RecordKind::Queue, (queue.id.uuid(), "sales"), &queue).await;
        let mut ids = Vec::new();
        for number in 0..agents {
            let name = format!("agent{number}");
            let agent = Agent {
                id: AgentId::fresh(),
                user_id: None,
                name: name.clone(),
                address: Address::dialable(&format!("client:{name}")).unwrap(),
                queue_ids: vec![queue.id],
                skills: BTreeMap::new(),
                voice_capacity: 1,
            };
            keep(&stores, RecordKind::Agent, (agent.id.uuid(), &name), &agent).await;
            ids.push(agent.id);
        }
        let network = SimulatedNetwork::new(1);
        let mut country = Self { stores, network, sites: Vec::new(), queue_id: queue.id, agents: ids };
        for name in names {
            country.add(name).await;
        }
        country.settle().await;
        country
    }

    async fn add(&mut self, name: &str) {
        self.add_with(name, &Role::ALL).await;
    }

    async fn add_with(&mut self, name: &str, roles: &[Role]) {
        let members = self.stores.members.clone().unwrap();
        let new = NewNode {
            node: name.to_owned(),
            address: format!("{name}:1"),
            public_url: String::new(),
            roles: roles.to_vec(),
            version: "test".to_owned(),
        };
        let origin = Instant::now();
        let me = members.register(&new, LEASE).await.unwrap();
        let lease = LeaseHandle::new(LEASE.duration(), MARGIN, origin);
        let renewal = HeartRenewal::new(members.heart(), me.clone(), LEASE);
        let beat = BeatSettings { every: BEAT, limit: Duration::from_secs(1), pause: BEAT / 5 };
        let (beat, beats) = BeatThread::start(Box::new(renewal), lease.clone(), beat).unwrap();
        let cluster = Cluster::new(me.clone(), lease, members);
        let stores = self.stores.fenced(&me);
        let engine = actors::start(settings(name), stores, Metrics::new(), Some(cluster)).await.unwrap();
        let (inbound, living) = actors::gateway(&engine);
        let links = LinkSettings { silent_after: Duration::from_secs(3), ..LinkSettings::default() };
        engine.connect(Arc::new(self.network.join(me.clone(), links, inbound, living)));
        let membership = MembershipSettings {
            beat: BEAT,
            lease: LEASE.duration(),
            margin: MARGIN,
            retry: Duration::from_millis(20),
        };
        actors::join(&engine, membership, origin, beats).await.unwrap();
        self.sites.push(Site { engine, me, beat: Some(beat) });
    }

    /// Waits until every shard is where it belongs among the sites.
    async fn settle(&self) {
        let begun = Instant::now();
        loop {
            let view = self.stores.members.as_ref().unwrap().view().await.unwrap();
            let alive = view.nodes.iter().filter(|row| row.status == NodeStatus::Alive).count();
            if alive == self.sites.len() && view.owners == placement(&view.nodes) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "shards do not settle: {view:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn where_is(&self, shard: u16) -> usize {
        let view = self.stores.members.as_ref().unwrap().view().await.unwrap();
        let owner = view.owners[usize::from(shard)].clone().unwrap();
        self.sites.iter().position(|site| site.me == owner).unwrap()
    }

    /// The process of a node is gone: nobody hears of it any more, and it renews nothing.
    async fn kill(&mut self, index: usize) -> Site {
        let mut site = self.sites.remove(index);
        self.network.kill(&site.me.node);
        site.beat.take().unwrap().stop().await;
        site
    }

    fn engine(&self, index: usize) -> &Engine {
        &self.sites[index].engine
    }

    async fn arrive(&self, at: usize, name: &str) -> CallId {
        let engine = self.engine(at);
        let id = CallId::derived("twilio", name);
        let arrival = Arrival {
            provider: "twilio".into(),
            provider_call_id: name.into(),
            from: Address::dialable("+12025550111").unwrap(),
            to: Address::dialable("+12025550100").unwrap(),
            routing: engine.directory().routing_to(self.queue_id),
            fallback: None,
            raw: RawEvent {
                key: 1,
                name: "voice".into(),
                fields: RawValue::from_string("{}".to_owned()).unwrap(),
            },
        };
        engine.call(id, CallCommand::Arrive(Box::new(arrival))).await.unwrap();
        id
    }

    async fn show(&self, at: usize, id: CallId) -> CallSummary {
        match self.engine(at).call(id, CallCommand::Show).await.unwrap() {
            CallReply::Done(row) => *row,
            CallReply::Document(document) => panic!("{document:?} is no summary"),
        }
    }

    async fn await_state(&self, at: usize, id: CallId, state: &str) -> CallSummary {
        let begun = Instant::now();
        loop {
            let row = self.show(at, id).await;
            if &*row.state == state {
                return row;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} is {} and not {state}", row.state);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open_socket(&self, at: usize, agent: AgentId) -> Desk {
        let (sender, events) = mpsc::channel(64);
        let (socket, engine) = (SocketId::fresh(), self.engine(at).clone());
        let attached = engine.attach(agent, socket, sender, None).await.unwrap();
        Desk { engine, agent, socket, events, last: attached.snapshot.sequence }
    }

    async fn make_ready(&self, at: usize, agent: AgentId) {
        let activity = Activity { name: "available".into(), available: true, reason: None };
        self.engine(at).agent(agent, AgentCommand::SetActivity(activity)).await.unwrap();
    }
}

/// A socket, as its connection keeps it: opened again behind the last event whenever its channel closes.
struct Desk {
    engine: Engine,
    agent: AgentId,
    socket: SocketId,
    events: mpsc::Receiver<Arc<AgentEvent>>,
    last: u64,
}

impl Desk {
    /// The next event of a kind; none before it is missing or comes twice.
    async fn next(&mut self, kind: &str) -> Arc<AgentEvent> {
        let found = async {
            let mut missed = std::collections::VecDeque::new();
            loop {
                let event = match missed.pop_front() {
                    Some(event) => Some(event),
                    None => self.events.recv().await,
                };
                let Some(event) = event else {
                    let (sender, events) = mpsc::channel(64);
                    let attached = self.engine.attach(self.agent, self.socket, sender, Some(self.last));
                    let attached = attached.await.unwrap();
                    assert!(attached.resumed, "{attached:?}");
                    self.events = events;
                    missed = attached.missed.into();
                    continue;
                };
                if event.sequence <= self.last {
                    continue;
                }
                assert_eq!(event.sequence, self.last + 1, "nothing is missing");
                self.last = event.sequence;
                if &*event.kind == kind {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the event comes")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_one_call_on_whichever_node_it_is_asked() {
    let country = Country::of(&["a", "b", "c"], 1).await;
    for number in 0..30 {
        let id = country.arrive(number % 3, &format!("CA{number}")).await;
        for at in 0..3 {
            assert_eq!(&*country.show(at, id).await.state, "queued");
        }
    }
    let agent = country.agents[0];
    let mut desk = country.open_socket(0, agent).await;
    country.make_ready(1, agent).await;
    let offer = desk.next("offer.created").await;
    assert!(offer.data.get().contains("CA") || offer.data.get().contains("call_"), "{}", offer.data);
    // The one who waited longest.
    country.await_state(2, CallId::derived("twilio", "CA0"), "offered").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_a_node_that_dies_go_on_with_their_places() {
    let mut country = Country::of(&["a", "b", "c"], 1).await;
    let mut calls = Vec::new();
    for number in 0..40 {
        calls.push(country.arrive(number % 3, &format!("CA{number}")).await);
        // Places are by the time of arrival, which has milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The node of the queue itself, so that the queue has to be gathered anew.
    let dead = country.where_is(shard_of_id(country.queue_id.uuid())).await;
    let site = country.kill(dead).await;
    let begun = Instant::now();
    for id in &calls {
        assert_eq!(&*country.show(0, *id).await.state, "queued");
    }
    assert!(begun.elapsed() < LEASE.duration(), "the refused connection tells sooner than the lease");
    country.settle().await;
    let agent = country.agents[0];
    let mut desk = country.open_socket(1, agent).await;
    country.make_ready(0, agent).await;
    desk.next("offer.created").await;
    country.await_state(0, calls[0], "offered").await;
    // What the dead node still wants to write is refused.
    let ghost = site.engine.call(calls[5], CallCommand::QueueFull { queue_id: country.queue_id });
    let refused = tokio::time::timeout(Duration::from_secs(8), ghost).await;
    assert!(!matches!(refused, Ok(Ok(_))), "{refused:?}");
    assert_eq!(&*country.show(0, calls[5]).await.state, "queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_while_nodes_join_and_leave() {
    let mut country = Country::of(&["a", "b"], 0).await;
    let mut calls = Vec::new();
    for number in 0..20 {
        calls.push(country.arrive(number % 2, &format!("CA{number}")).await);
    }
    let (engine, asked) = (country.engine(0).clone(), calls.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let asker = tokio::spawn(async move {
        let mut stopped = stopped;
        let (mut count, mut longest) = (0_usize, Duration::ZERO);
        while stopped.try_recv().is_err() {
            for id in &asked {
                let begun = Instant::now();
                engine.call(*id, CallCommand::Show).await.unwrap();
                longest = longest.max(begun.elapsed());
                count += 1;
            }
        }
        (count, longest)
    });
    country.add("c").await;
    country.settle().await;
    let leaving = country.sites.remove(1);
    assert!(leaving.engine.leave_cluster().await);
    tokio::time::timeout(PATIENCE, leaving.engine.ended()).await.expect("it leaves");
    country.settle().await;
    let _ = stop.send(());
    let (count, longest) = asker.await.unwrap();
    println!("{count} questions, the longest took {longest:?}");
    assert!(count >= calls.len() && longest < Duration::from_secs(4), "{count} {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_outlives_the_node_of_its_session() {
    let mut country = Country::of(&["a", "b", "c"], 12).await;
    let agent = country.agents[0];
    let home = country.where_is(shard_of(agent.into())).await;
    let edge = (home + 1) % 3;
    let mut desk = country.open_socket(edge, agent).await;
    country.make_ready(edge, agent).await;
    let last = desk.next("agent.state_changed").await.sequence;
    let edge_name = country.sites[edge].me.node.clone();
    country.kill(home).await;
    let edge = country.sites.iter().position(|site| site.me.node == edge_name).unwrap();
    // The channel closes, and the connection opens it again behind the last event.
    tokio::time::timeout(PATIENCE, async { while desk.events.recv().await.is_some() {} }).await.unwrap();
    let (sender, events) = mpsc::channel(64);
    let attached = country.engine(edge).attach(agent, desk.socket, sender, Some(last)).await.unwrap();
    assert!(attached.resumed, "{attached:?}");
    assert!(attached.snapshot.connected);
    let mut sequence = last;
    for event in &attached.missed {
        assert_eq!(event.sequence, sequence + 1);
        sequence = event.sequence;
    }
    (desk.events, desk.last) = (events, sequence);
    country.arrive(edge, "CAafter").await;
    let offer = desk.next("offer.created").await;
    assert_eq!(offer.sequence, sequence + 1, "no event is missing and none comes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_only_an_edge_owns_nothing_and_passes_everything_on() {
    let mut country = Country::of(&["a", "b"], 1).await;
    country.add_with("edge", &[Role::Edge]).await;
    country.settle().await;
    let view = country.stores.members.as_ref().unwrap().view().await.unwrap();
    assert!(view.owners.iter().flatten().all(|owner| &*owner.node != "edge"));
    let id = country.arrive(2, "CAedge").await;
    let agent = country.agents[0];
    let mut desk = country.open_socket(2, agent).await;
    country.make_ready(2, agent).await;
    desk.next("offer.created").await;
    country.await_state(2, id, "offered").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cut_off_from_the_others_by_a_slow_network_loses_nothing() {
    let country = Country::of(&["a", "b", "c"], 0).await;
    country.network.set_delay(Duration::from_millis(5), Duration::from_millis(40));
    country.network.set_loss(0.05);
    let mut calls = Vec::new();
    for number in 0..12 {
        calls.push(country.arrive(number % 3, &format!("CA{number}")).await);
    }
    country.network.cut("a", "b");
    let through = country.arrive(2, "CAthrough").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    country.network.heal("a", "b");
    for at in 0..3 {
        for id in calls.iter().chain([&through]) {
            assert_eq!(&*country.show(at, *id).await.state, "queued");
        }
    }
}
