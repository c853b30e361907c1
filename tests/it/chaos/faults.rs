//! What is done to a cluster, and in which order: drawn from a seed.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use reqwest::Method;
use serde_json::Value;

use super::cluster::Cluster;
use super::front::now;
use super::history::Injected;
use super::network::Way;
use super::wire::{SERVER, Weather};

/// How far a clock is moved, in seconds. Deadlines are moments of the wall clock, so what a moved node
/// promises is off by as much; the leases, which are not, would not care about an hour.
const CLOCK_S: i64 = 15;

/// Shortest time that a fault holds, in milliseconds: longer than a lease, or most would be nothing.
const SHORTEST_MS: u64 = 1_500;

/// How long a program may take to notice: the library looks once a second, each thread for itself.
const CLOCK_LAG: Duration = Duration::from_millis(2_500);

/// How late the database is each way, where it is late: a batch is three times there and back, which a
/// lease still bears.
const LATE: Duration = Duration::from_millis(100);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kill,
    Freeze,
    /// The database answers late, so that the frozen node has a batch on its way: what it does when it
    /// wakes and is dead for the others is what the fence is for.
    FreezeInBatch,
    CutBoth,
    CutOneWay,
    CutOff,
    CutFromDatabase,
    Latency,
    Loss,
    ClockForward,
    ClockBack,
    DatabaseRestart,
    DatabaseKill,
    DrainBySignal,
    DrainByRequest,
    RollingRestart,
}

impl Kind {
    pub const ALL: [Self; 16] = [
        Self::Kill,
        Self::Freeze,
        Self::FreezeInBatch,
        Self::CutBoth,
        Self::CutOneWay,
        Self::CutOff,
        Self::CutFromDatabase,
        Self::Latency,
        Self::Loss,
        Self::ClockForward,
        Self::ClockBack,
        Self::DatabaseRestart,
        Self::DatabaseKill,
        Self::DrainBySignal,
        Self::DrainByRequest,
        Self::RollingRestart,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL and restart",
            Self::Freeze => "SIGSTOP, SIGCONT",
            Self::FreezeInBatch => "SIGSTOP with a batch on its way, SIGCONT",
            Self::CutBoth => "two nodes cut off from each other",
            Self::CutOneWay => "one node cannot send to another",
            Self::CutOff => "one node cut off from all others",
            Self::CutFromDatabase => "one node cut off from PostgreSQL",
            Self::Latency => "300 ms between nodes",
            Self::Loss => "5 % loss between nodes",
            Self::ClockForward => "clock forward",
            Self::ClockBack => "clock back",
            Self::DatabaseRestart => "PostgreSQL restarted",
            Self::DatabaseKill => "PostgreSQL killed",
            Self::DrainBySignal => "SIGTERM and restart",
            Self::DrainByRequest => "drained by request and restart",
            Self::RollingRestart => "all nodes restarted in turn",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A fault to be injected: what, to whom, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub kind: Kind,
    pub one: usize,
    pub other: usize,
    pub length: Duration,
}

/// An endless row of faults from a seed: every kind once in each round, in an order of its own.
pub struct Schedule {
    random: StdRng,
    kinds: Vec<Kind>,
    nodes: usize,
    /// Longest time that a fault holds.
    longest: Duration,
    round: Vec<Kind>,
}

impl Schedule {
    pub fn new(random: StdRng, kinds: &[Kind], nodes: usize, longest: Duration) -> Self {
        Self { random, kinds: kinds.to_vec(), nodes, longest, round: Vec::new() }
    }

    /// How long to let things be before the next one.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(500..2_000))
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            self.round.shuffle(&mut self.random);
        }
        let kind = self.round.pop()?;
        let one = self.random.random_range(1..=self.nodes);
        let step = self.random.random_range(1..self.nodes.max(2));
        let other = (one - 1 + step) % self.nodes + 1;
        let longest = u64::try_from(self.longest.as_millis()).unwrap().max(SHORTEST_MS + 1);
        let length = Duration::from_millis(self.random.random_range(SHORTEST_MS..longest));
        Some(Fault { kind, one, other, length })
    }
}

impl Fault {
    /// Does it, holds it, and heals it; answers what was done and when.
    pub async fn inject(self, cluster: &mut Cluster) -> Injected {
        let from = now();
        let mut nodes = vec![format!("n{}", self.one)];
        match self.kind {
            Kind::Kill => {
                cluster.node(self.one).kill();
                tokio::time::sleep(self.length.min(Duration::from_secs(3))).await;
                cluster.start_node(self.one).await;
            }
            Kind::Freeze => {
                cluster.node(self.one).signal("STOP");
                tokio::time::sleep(self.length).await;
                cluster.node(self.one).signal("CONT");
            }
            Kind::FreezeInBatch => {
                let late = Weather { delay: LATE, loss: 0.0 };
                cluster.wires.sky.set(self.one, SERVER, late);
                cluster.wires.sky.set(SERVER, self.one, late);
                tokio::time::sleep(10 * LATE).await;
                cluster.node(self.one).signal("STOP");
                // Late answers come in while it sleeps; when it wakes the database is as fast as ever.
                cluster.wires.sky.clear();
                tokio::time::sleep(self.length).await;
                cluster.node(self.one).signal("CONT");
            }
            Kind::CutBoth | Kind::CutOneWay | Kind::CutOff | Kind::CutFromDatabase => {
                nodes = self.cut(cluster).await;
            }
            Kind::Latency | Kind::Loss => {
                nodes.clear();
                self.weather(cluster).await;
            }
            Kind::ClockForward | Kind::ClockBack => self.move_clock(cluster).await,
            Kind::DatabaseRestart | Kind::DatabaseKill => {
                nodes.clear();
                let verb = if self.kind == Kind::DatabaseKill { "kill" } else { "stop" };
                tokio::task::block_in_place(|| cluster.servers.run(verb, "postgres"));
                tokio::task::block_in_place(|| cluster.servers.run("start", "postgres"));
            }
            Kind::DrainBySignal | Kind::DrainByRequest => self.drain(cluster, self.one).await,
            Kind::RollingRestart => {
                nodes.clear();
                for place in 1..=cluster.nodes.len() {
                    Self { kind: Kind::DrainBySignal, ..self }.drain(cluster, place).await;
                }
            }
        }
        // Ready is what it says of itself; the others have to see it too.
        for node in &mut cluster.nodes {
            node.await_ready(&cluster.network).await;
        }
        Injected { what: self.kind.to_string(), nodes, from, until: now() }
    }

    async fn cut(self, cluster: &Cluster) -> Vec<String> {
        let network = &cluster.network;
        match self.kind {
            Kind::CutOff => {
                for other in (1..=network.nodes()).filter(|other| *other != self.one) {
                    network.cut(self.one, other, Way::Both);
                }
            }
            Kind::CutFromDatabase => network.cut_port(self.one, cluster.database_port),
            kind => {
                network.cut(self.one, self.other, if kind == Kind::CutBoth { Way::Both } else { Way::There })
            }
        }
        tokio::time::sleep(self.length).await;
        network.heal();
        let nodes =
            if self.kind == Kind::CutFromDatabase { vec![self.one] } else { vec![self.one, self.other] };
        nodes.into_iter().map(|node| format!("n{node}")).collect()
    }

    async fn weather(self, cluster: &Cluster) {
        let (delay, loss) = if self.kind == Kind::Latency { (300, 0.0) } else { (0, 0.05) };
        let weather = Weather { delay: Duration::from_millis(delay), loss };
        for from in 1..=cluster.nodes.len() {
            for to in 1..=cluster.nodes.len() {
                cluster.wires.sky.set(from, to, weather);
            }
        }
        tokio::time::sleep(self.length).await;
        cluster.wires.sky.clear();
    }

    async fn move_clock(self, cluster: &mut Cluster) {
        let seconds = if self.kind == Kind::ClockForward { CLOCK_S } else { -CLOCK_S };
        cluster.node(self.one).move_clock(seconds);
        tokio::time::sleep(self.length + CLOCK_LAG).await;
        cluster.node(self.one).move_clock(0);
        tokio::time::sleep(CLOCK_LAG).await;
    }

    async fn drain(self, cluster: &mut Cluster, place: usize) {
        if self.kind == Kind::DrainByRequest {
            let asked = if place == self.other { place % cluster.nodes.len() + 1 } else { self.other };
            let path = format!("/cluster/nodes/n{place}/drain");
            let (status, answer) = cluster.ask(asked, Method::POST, &path, &Value::Null).await.unwrap();
            assert!(status.is_success(), "{path}: {status} {answer}");
        } else {
            cluster.node(place).signal("TERM");
        }
        let (_, code) = cluster.node(place).await_end().await;
        assert_eq!(code, Some(0), "n{place} ends in order: {}", cluster.node(place).last_words());
        cluster.start_node(place).await;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn drawn(seed: u64) -> Vec<String> {
        let random = StdRng::seed_from_u64(seed);
        let schedule = Schedule::new(random, &Kind::ALL, 3, Duration::from_secs(30));
        schedule.take(Kind::ALL.len()).map(|fault| format!("{fault:?}")).collect()
    }

    #[test]
    fn a_seed_draws_the_same_faults_again_and_each_kind_once_in_a_round() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let random = StdRng::seed_from_u64(7);
        let schedule = Schedule::new(random, &Kind::ALL, 3, Duration::from_secs(30));
        let faults: Vec<Fault> = schedule.take(Kind::ALL.len()).collect();
        let mut kinds: Vec<Kind> = faults.iter().map(|fault| fault.kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, Kind::ALL);
        assert!(faults.iter().all(|fault| fault.one != fault.other), "{faults:?}");
    }
}
