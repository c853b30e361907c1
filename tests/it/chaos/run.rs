//! One run: load, faults drawn from a seed, quiet, judgement, and the report of all that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eml::edge::loopback::CallPlan;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::checker::{Violation, check, false_takeovers};
use super::cluster::{Cluster, GRACE_MS, NUMBER, Plan, is_built};
use super::faults::{Kind, Schedule};
use super::history::{History, Injected, Rules, Seen};
use super::network::Network;
use super::node::{Program, has_faketime};
use crate::support::services::not_run;

const SECOND: i64 = 1_000_000;
/// How long the callers of a run wait before they give up, in milliseconds: longer than any fault.
const PATIENCE_MS: u64 = 60_000;

/// How a run is made.
pub struct Run {
    pub seed: u64,
    pub nodes: usize,
    pub is_cluster: bool,
    pub kinds: Vec<Kind>,
    /// Ends after so many faults, or after this time, whichever comes first.
    pub faults: usize,
    pub length: Duration,
    /// Longest time that a fault holds.
    pub longest: Duration,
    pub agents: usize,
    /// Mean pause between two calls, in milliseconds.
    pub call_every_ms: u64,
    pub program: Program,
    /// What the last node runs, if that is another build.
    pub other: Option<Program>,
    /// How long everything may take to come to rest after the last fault.
    pub settle: Duration,
}

impl Run {
    /// A run over nodes with each kind of fault once.
    pub fn short(kinds: &[Kind]) -> Self {
        Self {
            seed: seed(),
            nodes: 3,
            is_cluster: true,
            kinds: kinds.to_vec(),
            faults: kinds.len(),
            length: Duration::from_secs(120),
            longest: Duration::from_millis(3_500),
            agents: 9,
            call_every_ms: 500,
            program: Program::default(),
            other: None,
            settle: Duration::from_secs(75),
        }
    }
}

/// The seed of a run: `EML_CHAOS_SEED`, or a fresh one.
pub fn seed() -> u64 {
    let given = std::env::var("EML_CHAOS_SEED").ok();
    given.map_or_else(|| rand::rng().random_range(0..1_000_000), |text| text.parse().unwrap())
}

/// What came of a run.
pub struct Outcome {
    pub seed: u64,
    pub faults: Vec<Injected>,
    pub violations: Vec<Violation>,
    pub false_takeovers: Vec<String>,
    pub report: String,
}

impl Run {
    /// Plays it; `None` (said aloud) where it cannot be.
    pub async fn play(mut self) -> Option<Outcome> {
        if !has_faketime()
            && self.kinds.iter().any(|kind| matches!(kind, Kind::ClockForward | Kind::ClockBack))
        {
            return not_run("faketime is missing; ./scripts/services install gets it");
        }
        self.program.has_clock = has_faketime();
        if self.is_cluster && !is_built(&self.program) {
            return not_run("this build has no cluster");
        }
        println!("chaos: seed {}, {} nodes; EML_CHAOS_SEED={} repeats it", self.seed, self.nodes, self.seed);
        let network = Network::namespaces(self.nodes)?;
        let plan = Plan {
            program: self.program.clone(),
            other: self.other.clone(),
            is_cluster: self.is_cluster,
            ..Plan::default()
        };
        let mut cluster = Cluster::start(network, plan).await?;
        cluster.set_to_work(self.agents, self.seed).await;
        let began = Instant::now();
        let (faults, calls) = self.trouble(&mut cluster).await;
        cluster.settle(self.settle).await;
        let took = began.elapsed();
        let history = self.record(&cluster, faults).await;
        let mut violations = check(&history);
        violations.sort_by_key(|violation| violation.rule);
        let false_takeovers = false_takeovers(&history);
        let mut report = self.report(&history, calls, took, &cluster);
        let _ = writeln!(
            report,
            "\nFalse take-overs: {}. Violations: {}.",
            false_takeovers.len(),
            violations.len()
        );
        println!("{report}");
        for violation in violations.iter().take(20) {
            println!("VIOLATION {violation}");
        }
        if !violations.is_empty() {
            let folder = cluster.keep();
            std::fs::write(folder.join("facts"), lines(&history)).unwrap();
            println!("logs and facts: {}", folder.display());
        }
        cluster.send_home().await;
        let faults = history.faults.clone();
        cluster.end().await;
        Some(Outcome { seed: self.seed, faults, violations, false_takeovers, report })
    }

    /// Calls come in while faults are injected; answers with the faults and how many calls there were.
    async fn trouble(&self, cluster: &mut Cluster) -> (Vec<Injected>, u64) {
        let (enough, placed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let calling = CallIn {
            random: StdRng::seed_from_u64(self.seed),
            every_ms: self.call_every_ms,
            enough: enough.clone(),
            placed: placed.clone(),
        };
        let random = StdRng::seed_from_u64(self.seed.wrapping_add(1));
        let mut schedule = Schedule::new(random, &self.kinds, self.nodes, self.longest);
        let mut faults = Vec::new();
        // The carrier is part of the cluster, which the faults borrow: so calls are placed over HTTP.
        let carrier = (cluster.carrier.local_addr(), reqwest::Client::builder().no_proxy().build().unwrap());
        let calls = tokio::spawn(calling.go(carrier));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let began = Instant::now();
        while faults.len() < self.faults && began.elapsed() < self.length {
            let Some(fault) = schedule.next() else { break };
            println!(
                "chaos: {:>4} s  {} (n{}, n{}, {:.1?})",
                began.elapsed().as_secs(),
                fault.kind,
                fault.one,
                fault.other,
                fault.length
            );
            faults.push(fault.inject(cluster).await);
            tokio::time::sleep(schedule.pause()).await;
        }
        enough.store(true, Ordering::Relaxed);
        calls.await.unwrap();
        cluster.stay.cancel();
        (faults, placed.load(Ordering::Relaxed))
    }

    async fn record(&self, cluster: &Cluster, faults: Vec<Injected>) -> History {
        let rules = Rules {
            is_cluster: cluster.has_owners,
            // A fault may hold things up for as long as it takes, and some seconds to be noticed.
            slack: i64::try_from(self.longest.as_micros()).unwrap() + 10 * SECOND,
            patience: 15 * SECOND,
            grace: GRACE_MS * 1_000,
            blur: 3 * SECOND,
        };
        let passed = &cluster.passed;
        let mut history = History {
            rules,
            webhooks: passed.webhooks.lock().unwrap().clone(),
            orders: passed.orders.lock().unwrap().clone(),
            agents: cluster.logs.iter().map(|log| log.lock().unwrap().clone()).collect(),
            faults,
            ..History::default()
        };
        cluster.database.read(&mut history).await;
        history
    }

    fn report(&self, history: &History, calls: u64, took: Duration, cluster: &Cluster) -> String {
        let mut kinds: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
        for fault in &history.faults {
            let entry = kinds.entry(&fault.what).or_default();
            *entry = (entry.0 + 1, entry.1 + fault.until - fault.from);
        }
        let mut out = format!(
            "Seed {}, {} nodes, {} s.\n\n| fault | times | seconds in all |\n| --- | --- | --- |\n",
            self.seed,
            self.nodes,
            took.as_secs()
        );
        for (what, (times, length)) in &kinds {
            let _ = writeln!(out, "| {what} | {times} | {} |", length / SECOND);
        }
        let hellos = |resumed: bool| {
            let seen = history.agents.iter().flat_map(|agent| &agent.seen);
            seen.filter(|(_, seen)| matches!(seen, Seen::Hello { resumed: is, .. } if *is == resumed)).count()
        };
        let events = history.agents.iter().flat_map(|agent| &agent.seen);
        let events = events.filter(|(_, seen)| matches!(seen, Seen::Event { .. })).count();
        let dead = history.nodes.iter().filter(|change| change.status == "dead").count();
        let _ = writeln!(
            out,
            "\n{calls} calls placed, {} webhooks acknowledged (refused or failed tries: {:?}), {} orders, {} facts, \
             {events} events at agents, {} connections resumed, {} begun anew; {dead} nodes declared dead, {} \
             shards changed hands.",
            history.webhooks.len(),
            cluster.passed.refused.lock().unwrap(),
            history.orders.len(),
            history.writes.len(),
            hellos(true),
            hellos(false),
            history.handovers.len(),
        );
        let mut times = cluster.passed.times.lock().unwrap().clone();
        times.sort_unstable();
        if let Some(last) = times.last() {
            let p99 = times[times.len() * 99 / 100];
            let _ = writeln!(out, "Webhooks: p99 {} ms, longest {} ms.", p99 / 1_000, last / 1_000);
        }
        out
    }
}

/// Everything as lines that begin with their moment, to look for what went wrong: `sort` orders them.
fn lines(history: &History) -> String {
    let mut out = String::new();
    for handover in &history.handovers {
        let _ = writeln!(out, "{} {handover:?}", handover.at);
    }
    for change in &history.nodes {
        let _ = writeln!(out, "{} {change:?}", change.at);
    }
    for write in &history.writes {
        let _ = writeln!(
            out,
            "{} {} {:?} #{} {} {} {} (owner {:?})",
            write.at,
            write.writer,
            write.entity,
            write.seq,
            write.kind,
            write.node_at,
            write.body,
            write.owner
        );
    }
    for agent in &history.agents {
        for (at, seen) in &agent.seen {
            let _ = writeln!(out, "{at} client of Agent({}) {seen:?}", agent.agent);
        }
    }
    for fault in &history.faults {
        let _ = writeln!(out, "FAULT {} {:?} {}..{}", fault.what, fault.nodes, fault.from, fault.until);
    }
    out
}

/// Lets calls come in.
struct CallIn {
    random: StdRng,
    every_ms: u64,
    enough: Arc<AtomicBool>,
    placed: Arc<AtomicU64>,
}

impl CallIn {
    async fn go(mut self, (carrier, http): (std::net::SocketAddr, reqwest::Client)) {
        while !self.enough.load(Ordering::Relaxed) {
            let plan = CallPlan {
                from: format!("+1202555{:04}", self.random.random_range(200..9_999)),
                to: NUMBER.to_owned(),
                talk_ms: Some(self.random.random_range(300..2_500)),
                patience_ms: Some(PATIENCE_MS),
                ..CallPlan::default()
            };
            let (account, secret) = super::cluster::credentials();
            let request =
                http.post(format!("http://{carrier}/loopback/calls")).basic_auth(account, Some(secret));
            let answer = request.json(&plan).send().await.unwrap();
            assert!(answer.status().is_success(), "a call is placed: {}", answer.status());
            self.placed.fetch_add(1, Ordering::Relaxed);
            let pause = self.random.random_range(self.every_ms / 2..self.every_ms * 3 / 2);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}
