//! Seeded bugs: a build of the program with one of them switched on must be found out by the judge.
//!
//! `scripts/test` builds it with the feature `seeded-bugs` beside the real one, and tells where by
//! `EML_TEST_SEEDED`; `EML_TEST_BUG` switches one on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use eml::seeded::Bug;

use super::checker::Rule;
use super::faults::Kind;
use super::node::Program;
use super::run::{Run, seed};
use crate::support::services::not_run;

/// Runs with one bug until it is caught.
const TRIES: u64 = 3;

/// The faults under which a bug shows.
const fn faults(bug: Bug) -> &'static [Kind] {
    match bug {
        Bug::SkipFence | Bug::KeepLease => &[Kind::FreezeInBatch; 6],
        Bug::AckBeforeCommit => &[Kind::DatabaseKill, Kind::Kill, Kind::DatabaseKill],
        // What one node asks of the other is done, and the answer does not come back.
        Bug::ForgetInbox => &[Kind::CutOneWay; 6],
        Bug::ReuseCommandId | Bug::LoseTells => &[Kind::Latency, Kind::Kill],
        Bug::DoubleClaim | Bug::SkipSequence => &[Kind::DrainBySignal, Kind::Kill],
        // Deadlines of sessions count that nobody talks to: their agents have just left.
        Bug::ForgetDeadlines => &[Kind::Kill; 5],
        // The last one is no bug at all; nothing must be found.
        Bug::ForgetSockets | Bug::ForgetQueue | Bug::NoResume | Bug::LaterVersion => {
            &[Kind::Kill, Kind::DrainBySignal, Kind::Kill]
        }
    }
}

/// The build in which something can be switched on; `None` (said aloud) where there is none.
pub fn build(switch: Bug) -> Option<Program> {
    let Some(path) = std::env::var_os("EML_TEST_SEEDED").filter(|path| !path.is_empty()) else {
        return not_run("EML_TEST_SEEDED is not set; ./scripts/test builds the program with seeded bugs");
    };
    Some(Program { path: Some(PathBuf::from(path)), bug: Some(switch.as_str().to_owned()), has_clock: false })
}

/// Runs with a bug until the judge objects; answers which rules were broken, none if it never did.
/// `None` (said aloud) where there is no such build.
pub async fn hunt(bug: Bug) -> Option<BTreeSet<Rule>> {
    let program = build(bug)?;
    let first = seed();
    for turn in 0..TRIES {
        println!("chaos: with the bug {}", bug.as_str());
        let run = Run {
            seed: first + turn,
            program: program.clone(),
            settle: Duration::from_secs(40),
            agents: 12,
            call_every_ms: 450,
            ..Run::short(faults(bug))
        };
        let outcome = run.play().await?;
        if !outcome.violations.is_empty() {
            return Some(outcome.violations.iter().map(|violation| violation.rule).collect());
        }
    }
    Some(BTreeSet::new())
}
