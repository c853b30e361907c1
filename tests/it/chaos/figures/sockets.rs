//! Thousands of sockets whose node dies.

use std::time::Duration;

use tokio::time::Instant;

use super::{nodes, number, row};
use crate::chaos::checker::{Rule, check};
use crate::chaos::cluster::{Cluster, Plan};
use crate::chaos::history::{History, Rules, Seen};

/// How many clients are greeted: once on their first connection, twice when they have come back.
fn greeted(cluster: &Cluster, times: usize) -> usize {
    let has = |log: &crate::chaos::history::AgentLog| {
        log.seen.iter().filter(|(_, seen)| matches!(seen, Seen::Hello { .. })).count() >= times
    };
    cluster.logs.iter().filter(|log| has(&log.lock().unwrap())).count()
}

async fn await_greeted(cluster: &Cluster, times: usize, limit: Duration) -> Duration {
    let began = Instant::now();
    while greeted(cluster, times) < cluster.logs.len() {
        assert!(began.elapsed() < limit, "{} of {} are back", greeted(cluster, times), cluster.logs.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// All sockets are at one node, which is killed: they come back at the two others. This process and the
/// node may hold 20,000 descriptors each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn sockets_of_a_dead_node_come_back() {
    let Some(mut cluster) = nodes(3, Plan::default()).await else { return };
    let count = number("EML_FIGURE_SOCKETS", 16_000);
    cluster.stay.cancel();
    cluster.set_to_work_at(count, 1, Some(1)).await;
    await_greeted(&cluster, 1, Duration::from_secs(300)).await;
    cluster.settle(Duration::from_secs(120)).await;
    cluster.node(1).kill();
    let took = await_greeted(&cluster, 2, Duration::from_secs(120)).await;
    cluster.settle(Duration::from_secs(120)).await;
    let logs: Vec<_> = cluster.logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    let resumed = logs.iter().flat_map(|log| &log.seen);
    let resumed = resumed.filter(|(_, seen)| matches!(seen, Seen::Hello { resumed: true, .. })).count();
    let rules = Rules {
        is_cluster: cluster.has_owners,
        slack: 60_000_000,
        patience: 60_000_000,
        grace: 60_000_000,
        blur: 1_000_000,
    };
    let mut history = History { rules, agents: logs, ..History::default() };
    cluster.database.read(&mut history).await;
    let broken = check(&history);
    let broken = broken
        .iter()
        .filter(|violation| matches!(violation.rule, Rule::EventsAreWhole | Rule::EventsAreFacts));
    row(
        &format!(
            "{count} sockets of a killed node are back at two others, resumed, missed or repeated events"
        ),
        "≤ 4 s, 0",
        &format!("{took:.1?}, {resumed} resumed, {} missed or repeated", broken.count()),
    );
    cluster.send_home().await;
    cluster.end().await;
}
