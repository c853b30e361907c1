//! How long calls are away when their node dies, freezes, comes or goes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::{Prober, fill, nodes, number, percentile, row, shard, waiting_room};
use crate::chaos::cluster::Cluster;

/// Calls that are asked after each death: more would measure how fast the machine can ask.
const SAMPLE: usize = 200;

/// How long a sample of the calls of a node that is about to go takes to answer through the others.
async fn away(cluster: &mut Cluster, victim: usize, sids: &[String], signal: &str) -> Vec<(Duration, usize)> {
    let owned: HashSet<u16> = cluster.database.shards_of(&format!("n{victim}")).await.into_iter().collect();
    let its: Vec<&String> = sids.iter().filter(|sid| owned.contains(&shard(sid))).collect();
    println!("n{victim} owns {} of {} calls", its.len(), sids.len());
    let others = (1..=cluster.nodes.len()).filter(|place| *place != victim);
    let apis = Arc::new(others.map(|place| cluster.network.api(place)).collect::<Vec<_>>());
    let sample: Vec<String> =
        its.choose_multiple(&mut rand::rng(), SAMPLE).map(|sid| (*sid).clone()).collect();
    let prober = Prober::new();
    if signal == "KILL" {
        cluster.node(victim).kill();
    } else {
        cluster.node(victim).signal(signal);
    }
    let since = Instant::now();
    let asking = sample.into_iter().map(|sid| tokio::spawn(prober.clone().insist(apis.clone(), sid, since)));
    let mut answers = Vec::new();
    for answer in asking.collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers
}

async fn measure(signal: &str, figure: &str, aim: &str) {
    let Some(mut cluster) = nodes(3, waiting_room()).await else { return };
    let calls = number("EML_FIGURE_CALLS", 10_000);
    let sids = fill(&cluster, 3 * calls).await;
    let mut random = StdRng::seed_from_u64(1);
    let (mut last, mut all, mut refused) = (Vec::new(), Vec::new(), 0);
    for kill in 0..number("EML_FIGURE_KILLS", 30) {
        let victim = random.random_range(1..=3);
        let answers = away(&mut cluster, victim, &sids, signal).await;
        last.push(answers.iter().map(|(time, _)| *time).max().unwrap());
        println!("{signal} {kill}: all of the sample after {:.1?}", last.last().unwrap());
        all.extend(answers.iter().map(|(time, _)| *time));
        refused += answers.iter().map(|(_, refused)| refused).sum::<usize>();
        if signal == "KILL" {
            cluster.start_node(victim).await;
        } else {
            cluster.node(victim).signal("CONT");
        }
        cluster.await_even().await;
    }
    let (p50, p99) = (percentile(&last, 50), percentile(&last, 99));
    let each = (percentile(&all, 50), percentile(&all, 99));
    row(
        &format!(
            "{figure}, {calls} live calls per node, {} times: last of {SAMPLE} calls answers, p50 / p99",
            last.len()
        ),
        aim,
        &format!(
            "{p50:.1?} / {p99:.1?} (each call {:.1?} / {:.1?}, {refused} answers refused)",
            each.0, each.1
        ),
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn takeover_after_sigkill() {
    measure("KILL", "SIGKILL", "≤ 400 ms / ≤ 800 ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn takeover_after_sigstop() {
    measure("STOP", "SIGSTOP", "– / ≤ 1.5 s").await;
}

/// Asks calls in turn for as long as told; answers when each answer came and how long it took.
async fn watch(
    cluster: &Cluster,
    sids: Vec<String>,
    enough: Arc<AtomicBool>,
) -> Vec<(String, Duration, bool)> {
    let (prober, api) = (Prober::new(), cluster.network.api(1));
    let asking = sids.into_iter().map(|sid| {
        let (prober, enough) = (prober.clone(), enough.clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while !enough.load(Ordering::Relaxed) {
                let began = Instant::now();
                let is_done = prober.ask(api, &sid).await;
                answers.push((sid.clone(), began.elapsed(), is_done));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answers
        })
    });
    let mut all = Vec::new();
    for answers in asking.collect::<Vec<_>>() {
        all.extend(answers.await.unwrap());
    }
    all
}

/// A node joins while its calls-to-be are asked without a pause, and drains again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn handover_to_a_new_node_and_back() {
    let Some(mut cluster) = nodes(3, waiting_room()).await else { return };
    let sids = fill(&cluster, number("EML_FIGURE_CALLS", 10_000)).await;
    cluster.node(3).signal("TERM");
    cluster.node(3).await_end().await;
    cluster.await_owners(2).await;
    let before = cluster.database.handovers().await;
    let sample: Vec<String> = sids.choose_multiple(&mut rand::rng(), 40).cloned().collect();
    let (mut joins, mut moved, mut pauses, mut refused) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..number("EML_FIGURE_JOINS", 10) {
        let enough = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        cluster.launch(3);
        let (answers, ()) = tokio::join!(watch(&cluster, sample.clone(), enough.clone()), async {
            cluster.await_owners(3).await;
            joins.push(began.elapsed());
            cluster.await_even().await;
            enough.store(true, Ordering::Relaxed);
        });
        let now: HashSet<u16> = cluster.database.shards_of("n3").await.into_iter().collect();
        moved.push(now.len());
        refused += answers.iter().filter(|(_, _, is_done)| !is_done).count();
        let its = answers.iter().filter(|(sid, _, _)| now.contains(&shard(sid)));
        pauses.extend(its.map(|(_, time, _)| *time));
        cluster.node(3).signal("TERM");
        cluster.node(3).await_end().await;
        cluster.await_owners(2).await;
    }
    let most = moved.iter().max().unwrap();
    row(
        "new node serving after its start, p50 / longest",
        "≤ 3 s",
        &format!("{:.1?} / {:.1?}", percentile(&joins, 50), percentile(&joins, 100)),
    );
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    let share = *most as f64 / 256.0;
    row("shards moved to node 3 of 3, most", "≤ 0.367 of all", &format!("{share:.3}"));
    row(
        "answer of a call that moves, p99 (pause and answer), refused",
        "≤ 50 ms, 0",
        &format!("{:.1?}, {refused}", percentile(&pauses, 99)),
    );
    println!("{} shards changed hands", cluster.database.handovers().await - before);
    cluster.end().await;
}

/// A webhook that is sent while its owner dies is answered by another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn webhooks_while_their_owner_dies() {
    let Some(mut cluster) = nodes(3, waiting_room()).await else { return };
    let sids = fill(&cluster, number("EML_FIGURE_CALLS", 10_000)).await;
    let (mut times, prober) = (Vec::new(), Prober::new());
    for kill in 0..number("EML_FIGURE_KILLS", 30) {
        let victim = kill % 3 + 1;
        let owned: HashSet<u16> =
            cluster.database.shards_of(&format!("n{victim}")).await.into_iter().collect();
        let its: Vec<&String> = sids.iter().filter(|sid| owned.contains(&shard(sid))).collect();
        // The dying one first, then the others, as a balancer would.
        let places = [victim, victim % 3 + 1, (victim + 1) % 3 + 1];
        let apis = Arc::new(places.map(|place| cluster.network.api(place)).to_vec());
        let sample = its.choose_multiple(&mut rand::rng(), SAMPLE).map(|sid| (*sid).clone());
        let asking: Vec<_> = sample
            .map(|sid| tokio::spawn(prober.clone().insist(apis.clone(), sid, Instant::now())))
            .collect();
        tokio::time::sleep(Duration::from_millis(2)).await;
        cluster.node(victim).kill();
        for answer in asking {
            times.push(answer.await.unwrap().0);
        }
        cluster.start_node(victim).await;
        cluster.await_even().await;
    }
    row(
        "webhook sent while its owner dies, p99 / longest",
        "≤ 2 s",
        &format!("{:.1?} / {:.1?}", percentile(&times, 99), percentile(&times, 100)),
    );
    cluster.end().await;
}
