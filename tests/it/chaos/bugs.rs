//! Seeded bugs: a build of the program with one of them switched on must be found out by the judge.
//!
//! `scripts/test` builds it with the feature `seeded-bugs` beside the real one, and tells where by
//! `EML_TEST_SEEDED`; `EML_TEST_BUG` switches one on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::checker::Rule;
use super::faults::Kind;
use super::node::Program;
use super::run::{Run, seed};
use crate::support::services::not_run;

/// Runs with one bug until it is caught.
const TRIES: u64 = 3;

/// A bug that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Batches are written whatever the node table says.
    SkipFence,
    /// Answers go out before the facts are durable.
    AckBeforeCommit,
    /// Two commands carry one id.
    ReuseCommandId,
    /// A repeated command is carried out again.
    ForgetInbox,
    /// A shard is claimed from a living owner.
    DoubleClaim,
    /// A node goes on when its lease has ended.
    KeepLease,
    /// Deadlines are not armed again after a take-over.
    ForgetDeadlines,
    /// Sockets elsewhere are forgotten at a take-over.
    ForgetSockets,
    /// Messages between nodes are lost.
    LoseTells,
    /// Waiting calls do not get back into their queue.
    ForgetQueue,
    /// Entities are not taken up after a take-over.
    NoResume,
    /// A number is left out between journal and socket.
    SkipSequence,
}

impl Bug {
    pub const ALL: [Self; 12] = [
        Self::SkipFence,
        Self::AckBeforeCommit,
        Self::ReuseCommandId,
        Self::ForgetInbox,
        Self::DoubleClaim,
        Self::KeepLease,
        Self::ForgetDeadlines,
        Self::ForgetSockets,
        Self::LoseTells,
        Self::ForgetQueue,
        Self::NoResume,
        Self::SkipSequence,
    ];

    /// Its name, as the switch takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipFence => "skip_fence",
            Self::AckBeforeCommit => "ack_before_commit",
            Self::ReuseCommandId => "reuse_command_id",
            Self::ForgetInbox => "forget_inbox",
            Self::DoubleClaim => "double_claim",
            Self::KeepLease => "keep_lease",
            Self::ForgetDeadlines => "forget_deadlines",
            Self::ForgetSockets => "forget_sockets",
            Self::LoseTells => "lose_tells",
            Self::ForgetQueue => "forget_queue",
            Self::NoResume => "no_resume",
            Self::SkipSequence => "skip_sequence",
        }
    }

    /// The faults under which it shows.
    const fn faults(self) -> &'static [Kind] {
        match self {
            Self::SkipFence | Self::KeepLease => &[Kind::FreezeInBatch; 6],
            Self::AckBeforeCommit => &[Kind::DatabaseKill, Kind::Kill, Kind::DatabaseKill],
            // What one node asks of the other is done, and the answer does not come back.
            Self::ForgetInbox => &[Kind::CutOneWay; 6],
            Self::ReuseCommandId | Self::LoseTells => &[Kind::Latency, Kind::Kill],
            Self::DoubleClaim | Self::SkipSequence => &[Kind::DrainBySignal, Kind::Kill],
            // Deadlines of sessions count that nobody talks to: their agents have just left.
            Self::ForgetDeadlines => &[Kind::Kill; 5],
            Self::ForgetSockets | Self::ForgetQueue | Self::NoResume => {
                &[Kind::Kill, Kind::DrainBySignal, Kind::Kill]
            }
        }
    }
}

/// The build in which something can be switched on; `None` (said aloud) where there is none.
pub fn build(switch: &str) -> Option<Program> {
    let Some(path) = std::env::var_os("EML_TEST_SEEDED").filter(|path| !path.is_empty()) else {
        return not_run("EML_TEST_SEEDED is not set; ./scripts/test builds the program with seeded bugs");
    };
    Some(Program { path: Some(PathBuf::from(path)), bug: Some(switch.to_owned()), has_clock: false })
}

/// Runs with a bug until the judge objects; answers which rules were broken, none if it never did.
/// `None` (said aloud) where there is no such build.
pub async fn hunt(bug: Bug) -> Option<BTreeSet<Rule>> {
    let program = build(bug.name())?;
    let first = seed();
    for turn in 0..TRIES {
        println!("chaos: with the bug {}", bug.name());
        let run = Run {
            seed: first + turn,
            program: program.clone(),
            settle: Duration::from_secs(40),
            agents: 12,
            call_every_ms: 450,
            ..Run::short(bug.faults())
        };
        let outcome = run.play().await?;
        if !outcome.violations.is_empty() {
            return Some(outcome.violations.iter().map(|violation| violation.rule).collect());
        }
    }
    Some(BTreeSet::new())
}
