//! What a call costs on one node and on several of one machine.

use std::time::Duration;

use eml::edge::loopback::CallPlan;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{nodes, number, row};
use crate::chaos::cluster::{Cluster, NUMBER, Plan};

/// Agents that take the calls.
const AGENTS: usize = 60;
/// How long callers talk, in milliseconds.
const TALK_MS: u64 = 1_000;

fn processor_time(cluster: &Cluster) -> Duration {
    cluster.nodes.iter().map(crate::chaos::node::Node::processor_time).sum()
}

/// Calls at an even rate, from the first ring to the last; answers with processor time per call.
async fn cost(count: usize) -> Option<Duration> {
    let plan = Plan { is_cluster: count > 1, wrap_up_ms: 1_000, ..Plan::default() };
    let mut cluster = nodes(count, plan).await?;
    cluster.stay.cancel();
    cluster.set_to_work(AGENTS, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (processor_time(&cluster), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle_per_second = (processor_time(&cluster) - idle.0).div_f64(idle.1.elapsed().as_secs_f64());
    let (calls, rate) = (number("EML_FIGURE_COST_CALLS", 600), number("EML_FIGURE_RATE", 10));
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (before, began) = (processor_time(&cluster), Instant::now());
    for i in 0..calls {
        ticks.tick().await;
        let from = format!("+1202555{:04}", i % 10_000);
        let plan = CallPlan { from, to: NUMBER.to_owned(), talk_ms: Some(TALK_MS), ..CallPlan::default() };
        cluster.carrier.place_call(plan).unwrap();
    }
    cluster.settle(Duration::from_secs(60)).await;
    let took = began.elapsed();
    let spent = (processor_time(&cluster) - before).checked_div(u32::try_from(calls).unwrap()).unwrap();
    let beside = idle_per_second.mul_f64(took.as_secs_f64() / f64::from(u32::try_from(calls).unwrap()));
    println!("{count} nodes: {spent:.2?} per call, of which {beside:.2?} would be spent idle");
    cluster.send_home().await;
    cluster.end().await;
    Some(spent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn cost_of_a_call_at_one_to_five_nodes() {
    let mut alone = None;
    for count in [1, 2, 3, 5] {
        let Some(spent) = cost(count).await else { return };
        let alone = *alone.get_or_insert(spent);
        row(
            &format!("processor time of all nodes per call at {count} nodes, and against one"),
            "≤ 1.10",
            &format!("{spent:.2?}, {:.2}", spent.as_secs_f64() / alone.as_secs_f64()),
        );
    }
}
