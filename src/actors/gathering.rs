//! Whom a queue that was started anew still has to hear from before it serves anybody.
//!
//! Calls that wait and agents who are ready are on any node; each announces itself. Whoever was served before
//! the calls that have waited longer are here would pass them by.

use std::collections::HashSet;

use crate::domain::id::CallId;
use crate::domain::time::{Millis, Timestamp};

/// How long calls that are known have until the first of them must have come.
pub(super) const PATIENCE: Millis = Millis::from_secs(1);
/// How long after one of them the next must come: thousands come in parts, on cores that have other work.
const LULL: Millis = Millis(500);
/// Longest in all, also when nobody tells who is to come. Those who are here wait meanwhile.
const LONGEST: Millis = Millis::from_secs(5);

/// The calls that have not come yet.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Which; not told yet when absent.
    missing: Option<HashSet<CallId>>,
    until: Timestamp,
    latest: Timestamp,
}

impl Gathering {
    /// Begins when calls may wait already, which will be told.
    pub(super) fn begin(now: Timestamp) -> Self {
        let latest = now + LONGEST;
        Self { missing: None, until: latest, latest }
    }

    /// When nobody can be waiting.
    pub(super) fn of_nobody(now: Timestamp) -> Self {
        Self { missing: Some(HashSet::new()), until: now, latest: now }
    }

    /// These are to come.
    pub(super) fn expect(&mut self, calls: HashSet<CallId>, now: Timestamp) {
        self.missing = Some(calls);
        self.until = self.latest.min(now + PATIENCE);
    }

    /// A call announced itself; answers whether it was expected, which it also is when it comes late.
    pub(super) fn came(&mut self, call_id: CallId, now: Timestamp) -> bool {
        let was_missing = self.missing.as_mut().is_some_and(|missing| missing.remove(&call_id));
        if was_missing {
            self.until = self.until.max(self.latest.min(now + LULL));
        }
        was_missing
    }

    /// Whether calls may be served: all are here, or no more are waited for.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now || self.missing.as_ref().is_some_and(HashSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Timestamp = Timestamp::from_millis(1_000_000);

    fn call(number: u32) -> CallId {
        CallId::derived("twilio", &number.to_string())
    }

    fn after(millis: u64) -> Timestamp {
        BEGUN + Millis(millis)
    }

    #[test]
    fn nobody_is_served_before_it_is_known_who_waits() {
        let mut gathering = Gathering::begin(BEGUN);
        assert!(!gathering.is_over(after(4_999)), "the store is slow");
        gathering.expect(HashSet::new(), after(4_999));
        assert!(gathering.is_over(after(4_999)), "and nobody waits");
        assert!(Gathering::begin(BEGUN).is_over(after(5_000)), "the store does not answer");
        assert!(Gathering::of_nobody(BEGUN).is_over(BEGUN));
    }

    #[test]
    fn it_is_over_with_the_last_call() {
        let mut gathering = Gathering::begin(BEGUN);
        gathering.expect([call(1), call(2)].into(), after(10));
        assert!(gathering.came(call(2), after(20)) && !gathering.is_over(after(20)));
        assert!(!gathering.came(call(3), after(30)), "a new one");
        assert!(gathering.came(call(1), after(40)) && gathering.is_over(after(40)));
        assert!(!gathering.came(call(1), after(50)), "it is here already");
    }

    #[test]
    fn a_call_that_does_not_come_keeps_others_a_second() {
        let mut gathering = Gathering::begin(BEGUN);
        gathering.expect([call(1)].into(), after(10));
        assert!(!gathering.is_over(after(1_009)) && gathering.is_over(after(1_010)));
        assert!(gathering.came(call(1), after(3_000)), "it has its place although it is late");
    }

    #[test]
    fn as_long_as_calls_keep_coming_it_goes_on_but_not_for_ever() {
        let mut gathering = Gathering::begin(BEGUN);
        gathering.expect((0..100).map(call).collect(), after(10));
        for number in 0..90_u32 {
            let now = after(u64::from(number) * 100);
            assert_eq!(gathering.is_over(now), now >= after(5_000), "after {number} calls");
            gathering.came(call(number), now);
        }
    }
}
