//! How the next agent is chosen.

use serde::{Deserialize, Serialize};

/// How a queue chooses among agents who could take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Who has been idle for the longest time.
    #[default]
    LongestIdle,
    /// Each in turn, by the time of the last offer.
    RoundRobin,
    /// Who has taken the fewest calls, then the longest idle.
    FewestCalls,
    /// Who is best at what the call asks for, then the longest idle.
    BestSkill,
}

impl Strategy {
    /// The word for it, as in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LongestIdle => "longest_idle",
            Self::RoundRobin => "round_robin",
            Self::FewestCalls => "fewest_calls",
            Self::BestSkill => "best_skill",
        }
    }
}
