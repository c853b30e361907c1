//! The long form, by command: as long as `EML_CHAOS_FOR` says (seconds), then each seeded bug.

use std::fmt::Write as _;
use std::time::Duration;

use eml::seeded::Bug;

use super::bugs;
use super::faults::Kind;
use super::run::Run;
use super::short::is_sound;

/// What the page says above the figures.
const PAGE: &str = "# Chaos, and what comes of it\n\n\
`EML_CHAOS_FOR=SECONDS EML_CHAOS_REPORT=docs/chaos.md ./scripts/test chaos::long`; the short form (every \
kind of fault once or so, in less than two minutes) runs with all tests.\n\n\
Real nodes, each in a network namespace, on one PostgreSQL; a loopback carrier whose webhooks go to any node \
and on to another when one does not answer; agents with real sockets that come back on any node and resume. \
Faults are drawn from a seed. A judge reads what clients saw, and what the database noted about each write: \
who wrote, who owned the shard, whether the writer was alive (`tests/it/chaos/checker`).\n\n\
Latency and loss are made by relays between the nodes, as not every kernel has netem: 300 ms each way, and a \
pause of a retransmission for one chunk in twenty. Partitions drop packets in the namespaces.\n\n\
## Last long run\n\n";

fn length() -> Option<Duration> {
    let given = std::env::var("EML_CHAOS_FOR").ok()?;
    Some(Duration::from_secs(given.parse().unwrap()))
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

/// Writes a part of the report where `EML_CHAOS_REPORT` says.
fn write(suffix: &str, text: &str) {
    if let Ok(path) = std::env::var("EML_CHAOS_REPORT") {
        let path = path.replace(".md", &format!("{suffix}.md"));
        std::fs::write(path, text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_bear_faults_for_as_long_as_asked() {
    let Some(length) = length() else { return };
    let run = Run {
        nodes: number("EML_CHAOS_NODES", 3),
        faults: usize::MAX,
        length,
        longest: Duration::from_secs(30),
        agents: 12,
        // What twelve agents can take while there is always something broken; more would only wait at the end.
        call_every_ms: 700,
        settle: Duration::from_secs(150),
        ..Run::short(&Kind::ALL)
    };
    let Some(outcome) = run.play().await else { return };
    let mut page = format!("{PAGE}{}", outcome.report);
    for line in &outcome.false_takeovers {
        let _ = writeln!(page, "- false take-over of {line}");
    }
    for violation in &outcome.violations {
        let _ = writeln!(page, "- {violation}");
    }
    write("", &page);
    is_sound(&outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seeded_bug_is_caught() {
    if length().is_none() {
        return;
    }
    let mut page = String::from("| seeded bug | caught by |\n| --- | --- |\n");
    let mut unnoticed = Vec::new();
    // Some of them only, by name: `EML_CHAOS_BUGS=skip_fence,keep_lease`.
    let wanted = std::env::var("EML_CHAOS_BUGS").unwrap_or_default();
    let is_wanted = |bug: &Bug| wanted.is_empty() || wanted.split(',').any(|name| name == bug.as_str());
    for bug in Bug::ALL.into_iter().filter(is_wanted) {
        let Some(caught) = bugs::hunt(bug).await else { return };
        let _ = writeln!(page, "| `{}` | {caught:?} |", bug.as_str());
        if caught.is_empty() {
            unnoticed.push(bug.as_str());
        }
    }
    println!("{page}");
    write("-bugs", &page);
    assert!(unnoticed.is_empty(), "{unnoticed:?} go unnoticed");
}
