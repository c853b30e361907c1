//! How well a node's own renewals go: whether it may act, and whether it may judge others.

use std::time::Duration;

/// How one renewal of the own lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatOutcome {
    /// The lease was prolonged.
    Renewed,
    /// This run may not write any more.
    Refused,
    /// The store failed or did not answer in time.
    Failed,
}

/// One renewal of the own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The moment before it was sent.
    pub sent_at: Duration,
    /// Until its end was known.
    pub took: Duration,
    /// How it ended.
    pub outcome: BeatOutcome,
}

/// Lengths that the membership works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipSettings {
    /// From one renewal to the next.
    pub beat: Duration,
    /// How long a renewal holds by the store's clock.
    pub lease: Duration,
    /// How much sooner the holder takes its lease for over.
    pub margin: Duration,
    /// Pause before something that went wrong is tried again, and the least time between two looks.
    pub retry: Duration,
}

/// What is known of the own renewals.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    settings: MembershipSettings,
    /// When the last good renewal was sent, and when it was answered.
    last: Option<(Duration, Duration)>,
    /// Since when renewals have gone well without a break.
    steady_since: Option<Duration>,
}

impl Standing {
    pub(super) fn new(settings: MembershipSettings) -> Self {
        Self { settings, last: None, steady_since: None }
    }

    pub(super) fn note(&mut self, beat: Beat) {
        let answered_at = beat.sent_at + beat.took;
        match beat.outcome {
            BeatOutcome::Renewed => {
                let is_gap =
                    self.last.is_some_and(|(sent_at, _)| answered_at > sent_at + self.settings.lease);
                if beat.took > self.settings.lease / 2 {
                    self.steady_since = None;
                } else if is_gap || self.steady_since.is_none() {
                    self.steady_since = Some(answered_at);
                }
                self.last = Some((beat.sent_at, answered_at));
            }
            BeatOutcome::Refused | BeatOutcome::Failed => self.steady_since = None,
        }
    }

    /// Whether the own lease is held, by the same reckoning as [`super::lease::LeaseHandle`].
    pub(super) fn is_held(&self, now: Duration) -> bool {
        self.last.is_some_and(|(sent_at, _)| now + self.settings.margin < sent_at + self.settings.lease)
    }

    /// From when on others may be declared dead by their lease, as far as is known.
    ///
    /// A store that stalls lets the lease of everybody run out. Who has just seen it stall, or was not
    /// there to see, does not know whether others had the chance to renew, and gives them a full lease.
    pub(super) fn judges_from(&self) -> Option<Duration> {
        self.steady_since.map(|since| since + self.settings.lease)
    }

    /// Whether others may be declared dead by their lease now.
    pub(super) fn may_judge(&self, now: Duration) -> bool {
        // A renewal that is still under way may be stuck in the same stall.
        let longest = self.settings.beat + self.settings.lease / 2;
        self.judges_from().is_some_and(|from| from <= now)
            && self.last.is_some_and(|(_, answered_at)| now <= answered_at + longest)
    }
}
