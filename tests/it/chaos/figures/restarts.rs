//! Requests while all nodes are restarted in turn, and peace on a machine that is overloaded.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use super::{nodes, number, row};
use crate::chaos::cluster::Plan;
use crate::load_balancers::{Balancer, Product};

/// Webhooks of new calls and lists of calls through HAProxy, while nodes are restarted one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn rolling_restarts_through_haproxy() {
    if !Product::Haproxy.is_there() {
        return;
    }
    let Some(mut cluster) = nodes(3, Plan::default()).await else { return };
    let balancer = Arc::new(Balancer::start(Product::Haproxy, &cluster).await);
    let token = cluster.token(&cluster.admin());
    let (enough, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let failed: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (balancer, token) = (balancer.clone(), token.clone());
            let (enough, done, failed) = (enough.clone(), done.clone(), failed.clone());
            tokio::spawn(async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                for turn in 0_u64.. {
                    if enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let listed = http.get(balancer.url("/calls/history?limit=5")).bearer_auth(&token).send();
                    let answers = [
                        balancer.call_in(&format!("CAroll{worker}x{turn}")).await,
                        listed.await.map(|answer| answer.status()),
                    ];
                    for answer in answers {
                        done.fetch_add(1, Ordering::Relaxed);
                        let word = match answer {
                            Ok(StatusCode::OK) => continue,
                            Ok(status) => status.to_string(),
                            Err(error) => format!("{error:?}"),
                        };
                        *failed.lock().unwrap().entry(word).or_default() += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    let rounds = number("EML_FIGURE_RESTARTS", 50);
    for _ in 0..rounds {
        for place in 1..=3 {
            cluster.node(place).signal("TERM");
            cluster.node(place).await_end().await;
            cluster.start_node(place).await;
            balancer.await_nodes(3).await;
        }
    }
    enough.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let failed = failed.lock().unwrap().clone();
    row(
        &format!("{rounds} rolling restarts of three nodes behind HAProxy, failed requests"),
        "0",
        &format!("{} of {} {failed:?}", failed.values().sum::<u64>(), done.load(Ordering::Relaxed)),
    );
    cluster.end().await;
}

/// Processes that do nothing but count.
struct Burners(Vec<Child>);

impl Burners {
    fn light(count: usize) -> Self {
        let burn = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..count).map(|_| burn()).collect())
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            let _ = burner.kill();
            let _ = burner.wait();
        }
    }
}

/// Nodes with a little work on a machine that has far too much: nobody is declared dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, by command"]
async fn false_takeovers_at_load_average_nine() {
    let Some(mut cluster) = nodes(3, Plan::default()).await else { return };
    cluster.set_to_work(6, 1).await;
    let _burners = Burners::light(9);
    let length = Duration::from_secs(number("EML_FIGURE_SECONDS", 7_200) as u64);
    let began = Instant::now();
    while began.elapsed() < length {
        tokio::time::sleep(Duration::from_secs(10).min(length)).await;
    }
    let dead = cluster.database.deaths().await;
    let average = std::fs::read_to_string("/proc/loadavg").unwrap();
    let average = average.split_whitespace().nth(2).unwrap_or_default().to_owned();
    row(
        &format!("false take-overs in {} s at a load average of {average} on two cores", length.as_secs()),
        "≤ 1 in 7,200 s",
        &dead.to_string(),
    );
    cluster.send_home().await;
    cluster.end().await;
}
