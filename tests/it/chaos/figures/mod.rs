//! The figures of a cluster for `docs/benchmarks.md`, by command, as they take long:
//!
//! `./scripts/test --cargo-profile release --run-ignored only --no-capture -j 1 chaos::figures`, or one of
//! them by its name. Each prints rows. Nodes run on addresses of loopback, without wires between them.

mod cost;
mod restarts;
mod sockets;
mod takeover;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eml::domain::id::CallId;
use eml::domain::placement::shard_of;
use eml::edge::loopback::CallPlan;
use eml::edge::providers::twilio::signature;

use super::cluster::{Cluster, NUMBER, PUBLIC, Plan, credentials, is_built};
use super::front::PROVIDER;
use super::network::Network;
use super::node::Program;
use crate::support::form;
use crate::support::services::not_run;

/// A number from the environment.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

/// Prints a row of the table.
fn row(figure: &str, aim: &str, measured: &str) {
    println!("ROW | {figure} | {aim} | {measured} |");
}

/// A value that so many of a hundred are not above.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len().saturating_sub(1) * percent).div_ceil(100)).copied().unwrap_or_default()
}

/// Nodes on loopback; `None` (said aloud) where there is no cluster.
async fn nodes(count: usize, plan: Plan) -> Option<Cluster> {
    if plan.is_cluster && !is_built(&Program::default()) {
        return not_run("this build has no cluster");
    }
    Cluster::start(Network::loopback(count), plan).await
}

/// Long waits, and nobody who takes a call: calls that live for as long as a measurement.
fn waiting_room() -> Plan {
    Plan {
        more: "[calls]\ndefault_max_wait_ms = 7200000\npark_after_ms = 600000\n",
        music_ms: 3_600_000,
        is_judged: false,
        ..Plan::default()
    }
}

/// Calls that may be on their way into the queue.
const STEP: usize = 250;

/// Lets calls come in that wait; answers with the carrier's ids.
async fn fill(cluster: &Cluster, count: usize) -> Vec<String> {
    let mut sids = Vec::with_capacity(count);
    for i in 0..count {
        let plan = CallPlan {
            from: format!("+1202555{:04}", i % 10_000),
            to: NUMBER.to_owned(),
            ..CallPlan::default()
        };
        sids.push(cluster.carrier.place_call(plan).unwrap());
        // In step with what the nodes take, or the carrier would give up on some.
        while i % STEP == STEP - 1 && cluster.queued().await + STEP as u64 <= i as u64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let began = std::time::Instant::now();
    while cluster.queued().await < count as u64 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{} of {count} calls wait",
            cluster.queued().await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sids
}

fn shard(sid: &str) -> u16 {
    shard_of(CallId::derived(PROVIDER, sid).into())
}

/// Asks calls something that their actors have to answer: the webhook of their arrival, again.
#[derive(Clone)]
struct Prober {
    http: reqwest::Client,
}

impl Prober {
    fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().unwrap();
        Self { http }
    }

    /// Asks one call through one node once; answers whether that succeeded.
    async fn ask(&self, api: SocketAddr, sid: &str) -> bool {
        let fields = form(&[
            ("CallSid", sid),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+12025550143"),
            ("To", NUMBER),
        ]);
        let target = format!("/webhooks/{PROVIDER}/voice");
        let signed = signature::sign(credentials().1, &format!("{PUBLIC}{target}"), &fields);
        let request = self.http.post(format!("http://{api}{target}"));
        let answer = request.header("x-twilio-signature", signed).form(&fields).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Asks until there is an answer; how long that took since `since`, and how many were refused.
    async fn insist(
        self,
        apis: Arc<Vec<SocketAddr>>,
        sid: String,
        since: tokio::time::Instant,
    ) -> (Duration, usize) {
        let mut refused = 0;
        loop {
            if self.ask(apis[refused % apis.len()], &sid).await {
                return (since.elapsed(), refused);
            }
            refused += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
