//! Where a leg stands, and what can be seen of it from outside.

use serde::Serialize;

/// Where a leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Asked for, not yet dialled.
    Queued,
    /// Dialled.
    Initiated,
    /// The telephone rings.
    Ringing,
    /// Answered.
    InProgress,
    /// Ended after having been answered.
    Completed,
    /// The line was engaged.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// Could not be reached.
    Failed,
    /// Given up by the side that asked for it.
    Canceled,
}

impl Status {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// True when nothing can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Initiated | Self::Ringing | Self::InProgress => false,
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Failed | Self::Canceled => true,
        }
    }

    /// The event of a status callback that reports this status.
    pub(super) const fn event(self) -> Option<&'static str> {
        match self {
            Self::Queued => None,
            Self::Initiated => Some("initiated"),
            Self::Ringing => Some("ringing"),
            Self::InProgress => Some("answered"),
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Failed | Self::Canceled => {
                Some("completed")
            }
        }
    }

    pub(super) const fn sip_code(self) -> &'static str {
        match self {
            Self::Failed => "404",
            Self::Busy => "486",
            Self::NoAnswer | Self::Canceled => "487",
            Self::Queued | Self::Initiated | Self::Ringing | Self::InProgress | Self::Completed => "200",
        }
    }
}

/// What can be seen of a leg from outside.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts for whoever looks on")]
pub struct LegView {
    /// Its identifier, `CA` and 32 hex digits.
    pub sid: String,
    /// The leg that dialled it, if one did.
    pub parent_call_sid: Option<String>,
    /// `inbound`, `outbound-api` or `outbound-dial`.
    pub direction: &'static str,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// Where it stands.
    pub status: Status,
    /// Joined with another party now.
    pub bridged: bool,
    /// Was ever joined with another party.
    pub was_bridged: bool,
    /// On hold in its conference.
    pub held: bool,
    /// A message is being left.
    pub recording: bool,
    /// The conference it is in.
    pub conference_sid: Option<String>,
    /// The name of that conference.
    pub conference: Option<String>,
    /// How long it was or has been answered, in milliseconds.
    pub answered_ms: u64,
    /// The last lines of its life, oldest first.
    pub log: Vec<String>,
}
