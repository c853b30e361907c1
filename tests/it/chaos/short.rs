//! The short form: runs with the tests, in less than four minutes all together.

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
    let run = Run { nodes: 1, is_cluster: false, ..Run::short(&Kind::ALONE) };
    let Some(outcome) = run.play().await else { return };
    is_sound(&outcome);
}
