//! `kill -9` of the demo under load: what was acknowledged is in the journal, nothing is stuck.
//!
//! Two kills by default, `EML_KILLS` of them by command; the report of the last long run stands in
//! `docs/benchmarks.md`.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eml::domain::id::{CallId, FactId};
use eml::domain::record::EntityRef;
use eml::edge::providers::twilio::signature;
use eml::store::Stores;
use rand::Rng as _;
use serde_json::Value;

use crate::support::{canary, form};

struct Demo {
    child: Child,
    base: String,
}

fn start(folder: &Path, port: u16, calls_per_min: u32) -> Demo {
    let listen = format!("127.0.0.1:{port}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_eml"))
        .args(["demo", "--data-dir", folder.to_str().unwrap(), "--listen", &listen, "--agents", "20"])
        .args(["--calls-per-min", &calls_per_min.to_string()])
        .env("EML__TELEMETRY__LISTEN", "")
        .env("EML__AUTH__BCRYPT_COST", "4")
        .stdout(Stdio::piped())
        .env("EML_LOG", canary::LEVEL)
        .stderr(canary::log())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("the demo says how to stop it").unwrap().contains("Ctrl-C") {}
    std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
    Demo { child, base: format!("http://{listen}") }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Posts signed webhooks of short calls and remembers what was answered with success.
async fn post_calls(
    base: String,
    token: String,
    prefix: String,
    acknowledged: Arc<Mutex<Vec<(String, String)>>>,
) {
    let http = reqwest::Client::new();
    for n in 0..100_000 {
        let sid = format!("CA{prefix}{n}");
        // Some calls stay open, so that a kill meets calls in every state.
        let is_whole = n % 3 != 0;
        let answers = post_one_call(&http, &base, &token, &sid, is_whole).await;
        let was_refused = answers.last().is_some_and(|(_, status)| !status.is_success());
        let is_gone = !was_refused && answers.len() < if is_whole { 3 } else { 1 };
        for (sequence, status) in answers {
            if status.is_success() {
                acknowledged.lock().unwrap().push((sid.clone(), sequence.to_owned()));
            }
        }
        if is_gone {
            return;
        }
    }
}

/// Posts the signed webhooks of one short call, or its first only; answers what each was answered
/// with, as far as the node answered at all.
pub(crate) async fn post_one_call(
    http: &reqwest::Client,
    base: &str,
    token: &str,
    sid: &str,
    is_whole: bool,
) -> Vec<(&'static str, reqwest::StatusCode)> {
    let steps = [("voice", "ringing", "0"), ("status", "ringing", "1"), ("status", "completed", "2")];
    let mut answers = Vec::new();
    for (path, status, sequence) in steps.into_iter().take(if is_whole { 3 } else { 1 }) {
        let fields = form(&[
            ("CallSid", sid),
            ("CallStatus", status),
            ("Direction", "inbound"),
            ("From", "+12025550143"),
            ("To", "+12025550100"),
            ("SequenceNumber", sequence),
        ]);
        let url = format!("{base}/webhooks/loopback/{path}");
        let signed = signature::sign(token, &url, &fields);
        match http.post(&url).header("x-twilio-signature", signed).form(&fields).send().await {
            Ok(answer) => {
                answers.push((sequence, answer.status()));
                // What follows would be of a call that nobody knows.
                if !answer.status().is_success() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_loses_nothing_that_was_acknowledged_and_leaves_nothing_stuck() {
    let kills: u32 = std::env::var("EML_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2);
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for kill in 0..kills {
        let mut demo = start(folder.path(), port, 600);
        let sample: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.path().join("demo.json")).unwrap()).unwrap();
        let token = sample["auth_token"].as_str().unwrap().to_owned();
        let posting: Vec<_> = (0..4)
            .map(|i| {
                tokio::spawn(post_calls(
                    demo.base.clone(),
                    token.clone(),
                    format!("k{kill}p{i}n"),
                    acknowledged.clone(),
                ))
            })
            .collect();
        let length = rand::rng().random_range(1_500..3_000);
        tokio::time::sleep(Duration::from_millis(length)).await;
        demo.child.kill().unwrap();
        demo.child.wait().unwrap();
        for task in posting {
            let _ = tokio::time::timeout(Duration::from_secs(15), task).await;
        }
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 50, "there was load: {}", acknowledged.len());
    await_quiet(folder.path(), port).await;
    let stores = open(folder.path()).await;
    check_journal(&stores, &acknowledged).await;
    println!("{kills} kills, {} acknowledged webhooks, none lost, nothing stuck", acknowledged.len());
}

/// The carrier died with the node, so every call of before must be found over, and every agent free
/// once its after-call work is done.
async fn await_quiet(folder: &Path, port: u16) {
    let _demo = start(folder, port, 0);
    let stores = open(folder).await;
    let filter = eml::store::history::CallFilter { open: Some(true), ..Default::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let open = stores.history.calls(&filter, None, true, 20).await.unwrap();
        if open.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "stuck calls: {open:#?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn open(folder: &Path) -> Stores {
    eml::store::open(&format!("sqlite://{}", folder.join("eml.db").display())).await.unwrap()
}

/// Every acknowledged webhook is in the journal, and no entity has a gap; answers all facts with
/// their positions.
pub(crate) async fn check_journal(
    stores: &Stores,
    acknowledged: &[(String, String)],
) -> Vec<(FactId, EntityRef, u64)> {
    let mut facts = Vec::new();
    let mut last: HashMap<_, u64> = HashMap::new();
    let mut seen: HashSet<(CallId, String)> = HashSet::new();
    let mut position = 0;
    loop {
        let page = stores.journal.read_after(position, &[], 5_000).await.unwrap();
        let Some(end) = page.last() else { break };
        position = end.position;
        for positioned in page {
            let fact = positioned.record;
            facts.push((fact.id, fact.entity, positioned.position));
            let before = last.insert(fact.entity, fact.seq).unwrap_or(0);
            assert_eq!(fact.seq, before + 1, "a gap in {}", fact.entity);
            if &*fact.kind == "call.carrier_reported" {
                let body: Value = serde_json::from_str(fact.body.get()).unwrap();
                let fields = &body["carrier_reported"]["fields"];
                let sequence = fields["SequenceNumber"].as_str().unwrap_or_default().to_owned();
                seen.insert((CallId::from_uuid(fact.entity.id), sequence));
            }
        }
    }
    for (sid, sequence) in acknowledged {
        let id = CallId::derived("loopback", sid);
        assert!(seen.contains(&(id, sequence.clone())), "{sid} #{sequence} was acknowledged and is lost");
    }
    facts
}
