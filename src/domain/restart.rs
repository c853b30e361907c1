//! The restart policy: how often a thing may fail before it is put aside.
//!
//! Pure: the supervisor tells it each failure and does what it answers.

use super::backoff::Backoff;
use super::time::{Millis, Timestamp};

/// How many failures within which span lead to quarantine, and how long to wait between starts.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// Failures within `window` that are still answered by a restart.
    pub intensity: usize,
    /// The span in which failures are counted.
    pub window: Millis,
    /// Delay before each restart.
    pub backoff: Backoff,
    /// How long a quarantined thing stays aside before it is tried once more.
    pub quarantine: Millis,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            intensity: 5,
            window: Millis::from_secs(60),
            backoff: Backoff { first: Millis(0), factor: 2, longest: Millis::from_secs(5) },
            quarantine: Millis::from_secs(60),
        }
    }
}

/// What the supervisor does about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after this delay.
    Restart(Millis),
    /// Put it aside until this time; it failed too often.
    Quarantine(Timestamp),
}

/// The failures of one thing, newest last.
#[derive(Debug, Clone, Default)]
pub struct FailureHistory {
    failures: Vec<Timestamp>,
}

impl FailureHistory {
    /// Notes a failure and says what to do.
    pub fn record(&mut self, policy: &RestartPolicy, now: Timestamp) -> Verdict {
        self.failures.retain(|at| now.since(*at) < policy.window);
        self.failures.push(now);
        let count = self.failures.len();
        if count > policy.intensity {
            return Verdict::Quarantine(now + policy.quarantine);
        }
        Verdict::Restart(policy.backoff.delay(count - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_restarted_until_they_come_too_often() {
        let policy = RestartPolicy { intensity: 2, ..RestartPolicy::default() };
        let mut history = FailureHistory::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(history.record(&policy, at(0)), Verdict::Restart(Millis(0)));
        assert_eq!(history.record(&policy, at(1)), Verdict::Restart(Millis(10)));
        assert_eq!(history.record(&policy, at(2)), Verdict::Quarantine(at(62)));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let policy = RestartPolicy { intensity: 1, ..RestartPolicy::default() };
        let mut history = FailureHistory::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(history.record(&policy, at(0)), Verdict::Restart(Millis(0)));
        assert_eq!(history.record(&policy, at(60)), Verdict::Restart(Millis(0)));
    }
}
