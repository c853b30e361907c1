//! Faults that are put in on purpose, to see whether the chaos tests notice them.
//!
//! Compiled in only with the feature `seeded-bugs`, and then switched on one at a time by
//! `EML_TEST_BUG`. A program without the feature holds none of it: `has` is a constant there.

use serde_json::value::RawValue;

/// A fault that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The journal does not check that the node still lives.
    SkipFence,
    /// A command is answered before its facts are durable, and they are lost.
    AckBeforeCommit,
    /// Every command carries the same id.
    ReuseCommandId,
    /// A repeated command is carried out again.
    ForgetInbox,
    /// A node claims shards whose owner lives.
    DoubleClaim,
    /// A node goes on although its lease is over.
    KeepLease,
    /// What is taken over has no deadlines.
    ForgetDeadlines,
    /// Sockets are not opened again when their session moves.
    ForgetSockets,
    /// News for other nodes is dropped.
    LoseTells,
    /// A queue that moves does not gather who waits in it.
    ForgetQueue,
    /// What is taken over is not taken up.
    NoResume,
    /// A reconnecting socket is not told what it missed.
    SkipSequence,
    /// No fault: what is sent and stored looks as if a later version had written it.
    LaterVersion,
}

impl Bug {
    /// Every fault that must be noticed.
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

    /// The word of `EML_TEST_BUG`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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
            Self::LaterVersion => "later_version",
        }
    }
}

/// Whether a fault is switched on.
#[cfg(feature = "seeded-bugs")]
#[must_use]
pub fn has(bug: Bug) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("EML_TEST_BUG").ok());
    CHOSEN.as_deref() == Some(bug.as_str())
}

/// Whether a fault is switched on: never.
#[cfg(not(feature = "seeded-bugs"))]
#[must_use]
pub const fn has(_bug: Bug) -> bool {
    false
}

/// What is sent or stored, as it is; with `LaterVersion` with a field in it that this version does not
/// know. Nodes of two versions work side by side during an upgrade, so each must pass over what only
/// the other knows.
#[must_use]
pub fn dressed(body: Box<RawValue>) -> Box<RawValue> {
    if !has(Bug::LaterVersion) {
        return body;
    }
    let Ok(serde_json::Value::Object(mut tagged)) = serde_json::from_str(body.get()) else { return body };
    for (_, inner) in &mut tagged {
        if let serde_json::Value::Object(fields) = inner {
            fields.insert("introduced_later".to_owned(), serde_json::json!({ "by": "a later version" }));
        }
    }
    serde_json::value::to_raw_value(&tagged).unwrap_or(body)
}
