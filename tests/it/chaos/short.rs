//! The short form: runs with the tests, in less than four minutes all together.

use std::time::Duration;

use eml::seeded::Bug;

use super::bugs;
use super::faults::Kind;
use super::run::{Outcome, Run};

/// What must be true of every run.
pub fn is_sound(outcome: &Outcome) {
    assert!(!outcome.faults.is_empty(), "a run that injected nothing proves nothing");
    let lines: Vec<String> = outcome.violations.iter().take(20).map(ToString::to_string).collect();
    assert!(lines.is_empty(), "seed {}:\n{}", outcome.seed, lines.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_bears_faults_and_nothing_is_lost() {
    // What `kill_nine` and `faults` do not do to it.
    let kinds = [Kind::Freeze, Kind::ClockBack, Kind::ClockForward];
    let run = Run { nodes: 1, is_cluster: false, longest: Duration::from_secs(2), ..Run::short(&kinds) };
    let Some(outcome) = run.play().await else { return };
    is_sound(&outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_bear_every_kind_of_fault_and_nothing_is_lost_or_done_twice() {
    let run = Run { length: Duration::from_secs(95), ..Run::short(&Kind::ALL) };
    let Some(outcome) = run.play().await else { return };
    is_sound(&outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_bug_in_the_fence_and_one_in_the_sockets_are_caught() {
    for bug in [Bug::SkipFence, Bug::ForgetSockets] {
        let Some(caught) = bugs::hunt(bug).await else { return };
        assert!(!caught.is_empty(), "{} goes unnoticed", bug.as_str());
    }
}

/// Two builds: what one of them sends and stores has fields that the other does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_versions_work_side_by_side() {
    let Some(later) = bugs::build(Bug::LaterVersion) else { return };
    let kinds = [Kind::Kill, Kind::DrainBySignal];
    let run = Run { other: Some(later), longest: Duration::from_secs(2), ..Run::short(&kinds) };
    let Some(outcome) = run.play().await else { return };
    is_sound(&outcome);
}
