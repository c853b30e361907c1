//! A user's second factor: which codes count, that each counts once, and how wrong ones slow down.
//!
//! The cryptography stands outside: secrets are sealed texts here, and whether a code belongs to a step
//! is asked of the caller.

use serde::{Deserialize, Serialize};

use crate::domain::backoff::Backoff;
use crate::domain::time::{Millis, Timestamp};

/// Seconds that a code is shown (the time step of RFC 6238).
pub const STEP_SECONDS: u64 = 30;
/// Steps before and after the present one whose codes count, since clocks of phones differ (RFC 6238, 5.2).
const SKEW: u64 = 1;
/// Recovery codes that a user gets.
pub const RECOVERY_CODES: usize = 10;
/// How long a secret that was shown may wait until a code of it comes.
pub const OFFER_LIFE: Millis = Millis::from_secs(600);
/// Wrong codes in a row that nobody waits for: fingers slip.
const FREE_TRIES: u32 = 5;
/// Wrong codes in a row after which only a recovery code counts (NIST SP 800-63B-4, 3.2.2, asks for 100 at
/// most): whoever gets there is guessing, at 3 in 1,000,000.
const MOST_IN_A_ROW: u32 = 100;
/// How long the next try has to wait after more than the free ones.
const SLOW_DOWN: Backoff =
    Backoff { first: Millis::from_secs(1), factor: 2, longest: Millis::from_secs(3600) };

/// A user's second factor as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// The one that counts.
    pub active: Option<ActiveFactor>,
    /// The one that counts as soon as a code of it was shown; the active one counts until then.
    pub offer: Option<Offer>,
    /// What went wrong since the last right code.
    #[serde(default)]
    pub tries: Tries,
}

/// A second factor that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFactor {
    /// Its secret, sealed.
    pub sealed: String,
    /// Since when it counts.
    pub since: Timestamp,
    /// The step of the last code that counted: no code of this or an earlier one counts again.
    pub last_step: u64,
    /// Hashes of the recovery codes that are left.
    pub recovery: Vec<String>,
}

/// A secret that was shown and waits for its first code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The secret, sealed.
    pub sealed: String,
    /// How long it waits.
    pub until: Timestamp,
}

/// Wrong codes in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// How many.
    pub wrong: u32,
    /// When the last of them came.
    pub last: Timestamp,
}

/// What somebody shows as a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A code of the present time.
    Code,
    /// A recovery code.
    RecoveryCode,
}

/// Why a code does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorRefusal {
    /// There is nothing it could belong to.
    NotEnrolled,
    /// It belongs to no step around the present one, or is no recovery code that is left.
    Wrong,
    /// It counted before, or one after it did.
    Used,
    /// There were too many wrong ones; the next may come after this span.
    TooSoon(Millis),
    /// There were so many wrong ones that only a recovery code counts.
    Exhausted,
}

impl Tries {
    /// How long the next try has to wait at `now`.
    #[must_use]
    pub fn wait(self, now: Timestamp) -> Millis {
        let Some(beyond) = self.wrong.checked_sub(FREE_TRIES) else { return Millis(0) };
        (self.last + SLOW_DOWN.delay(beyond as usize)).since(now)
    }

    /// The same after one more wrong code.
    #[must_use]
    const fn with_wrong(self, now: Timestamp) -> Self {
        Self { wrong: self.wrong.saturating_add(1), last: now }
    }
}

/// The step that a point in time lies in.
#[must_use]
pub const fn step_at(now: Timestamp) -> u64 {
    let millis = now.millis();
    let millis = if millis < 0 { 0 } else { millis.cast_unsigned() };
    millis / 1000 / STEP_SECONDS
}

/// The first step around `now` after `last` that a code belongs to; `Used` when it belongs to one that
/// does not count any more.
fn fresh_step(now: Timestamp, last: u64, belongs_to: impl Fn(u64) -> bool) -> Result<u64, FactorRefusal> {
    let present = step_at(now);
    let around = present.saturating_sub(SKEW)..=present + SKEW;
    let found: Vec<u64> = around.filter(|step| belongs_to(*step)).collect();
    let fresh = found.iter().copied().find(|step| *step > last);
    fresh.ok_or(if found.is_empty() { FactorRefusal::Wrong } else { FactorRefusal::Used })
}

impl Factor {
    /// The factor after a code of the active secret was shown, or why it does not count.
    /// `belongs_to` says whether the code is that of a step. When the refusal is `Wrong`, `after_wrong`
    /// must be stored before anybody hears of it.
    ///
    /// # Errors
    /// Why the code does not count.
    pub fn after_code(
        &self,
        now: Timestamp,
        belongs_to: impl Fn(u64) -> bool,
    ) -> Result<Self, FactorRefusal> {
        let active = self.ready(now)?;
        if self.tries.wrong >= MOST_IN_A_ROW {
            return Err(FactorRefusal::Exhausted);
        }
        let last_step = fresh_step(now, active.last_step, belongs_to)?;
        let active = ActiveFactor { last_step, ..active.clone() };
        Ok(Self { active: Some(active), tries: Tries::default(), ..self.clone() })
    }

    /// The factor after a recovery code was shown: without that code.
    ///
    /// # Errors
    /// Why the code does not count.
    pub fn after_recovery_code(&self, now: Timestamp, hash: &str) -> Result<Self, FactorRefusal> {
        let active = self.ready(now)?;
        let mut recovery = active.recovery.clone();
        recovery.retain(|known| known != hash);
        if recovery.len() == active.recovery.len() {
            return Err(FactorRefusal::Wrong);
        }
        let active = ActiveFactor { recovery, ..active.clone() };
        Ok(Self { active: Some(active), tries: Tries::default(), ..self.clone() })
    }

    /// The factor after a wrong code.
    #[must_use]
    pub fn after_wrong(&self, now: Timestamp) -> Self {
        Self { tries: self.tries.with_wrong(now), ..self.clone() }
    }

    /// The factor after a new secret was shown.
    #[must_use]
    pub fn after_offer(&self, now: Timestamp, sealed: String) -> Self {
        Self { offer: Some(Offer { sealed, until: now + OFFER_LIFE }), ..self.clone() }
    }

    /// The factor after a code of the offered secret was shown: it counts from now on, with these
    /// recovery codes, and the one before does not. Who shows this code was shown the secret, so wrong
    /// ones are not counted.
    ///
    /// # Errors
    /// Why the code does not count.
    pub fn after_confirmation(
        &self,
        now: Timestamp,
        belongs_to: impl Fn(u64) -> bool,
        recovery: Vec<String>,
    ) -> Result<Self, FactorRefusal> {
        let offer = self.offer(now).ok_or(FactorRefusal::NotEnrolled)?;
        let last_step = fresh_step(now, 0, belongs_to)?;
        let active = ActiveFactor { sealed: offer.sealed.clone(), since: now, last_step, recovery };
        Ok(Self { active: Some(active), offer: None, tries: Tries::default() })
    }

    /// The factor with other recovery codes.
    ///
    /// # Errors
    /// `NotEnrolled` when none counts.
    pub fn with_recovery_codes(&self, recovery: Vec<String>) -> Result<Self, FactorRefusal> {
        let active = self.active.clone().ok_or(FactorRefusal::NotEnrolled)?;
        Ok(Self { active: Some(ActiveFactor { recovery, ..active }), ..self.clone() })
    }

    /// The secret that waits for its first code at `now`.
    #[must_use]
    pub fn offer(&self, now: Timestamp) -> Option<&Offer> {
        self.offer.as_ref().filter(|offer| now < offer.until)
    }

    /// The active factor, when a code may be tried at `now`.
    fn ready(&self, now: Timestamp) -> Result<&ActiveFactor, FactorRefusal> {
        let active = self.active.as_ref().ok_or(FactorRefusal::NotEnrolled)?;
        match self.tries.wait(now) {
            Millis(0) => Ok(active),
            wait => Err(FactorRefusal::TooSoon(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn factor(last_step: u64, wrong: u32) -> Factor {
        let recovery = vec!["a".to_owned(), "b".to_owned()];
        let active = ActiveFactor { sealed: "s".to_owned(), since: NOW, last_step, recovery };
        Factor { active: Some(active), offer: None, tries: Tries { wrong, last: NOW } }
    }

    #[test]
    fn a_code_counts_around_its_step_and_never_again() {
        let present = step_at(NOW);
        let later = |seconds: u64| NOW + Millis::from_secs(seconds);
        for (why, last, code, at, want) in [
            ("the present step", 0, present, NOW, Ok(present)),
            ("the step before", 0, present - 1, NOW, Ok(present - 1)),
            ("the step after", 0, present + 1, NOW, Ok(present + 1)),
            ("two steps before", 0, present - 2, NOW, Err(FactorRefusal::Wrong)),
            ("two steps after", 0, present + 2, NOW, Err(FactorRefusal::Wrong)),
            ("the same again", present, present, NOW, Err(FactorRefusal::Used)),
            ("one before the last", present, present - 1, NOW, Err(FactorRefusal::Used)),
            ("one after the last", present, present + 1, NOW, Ok(present + 1)),
            ("the same a step later", present, present, later(30), Err(FactorRefusal::Used)),
            ("the same two steps later", present, present, later(60), Err(FactorRefusal::Wrong)),
        ] {
            let next = factor(last, 0).after_code(at, |step| step == code);
            assert_eq!(next.map(|next| next.active.unwrap().last_step), want, "{why}");
        }
    }

    #[test]
    fn wrong_codes_wait_longer_and_longer_until_only_a_recovery_code_counts() {
        let mut last = Millis(0);
        for wrong in 0..MOST_IN_A_ROW {
            let wait = Tries { wrong, last: NOW }.wait(NOW);
            assert!(wait >= last && (wrong < FREE_TRIES) == (wait == Millis(0)), "{wrong}: {wait:?}");
            last = wait;
        }
        assert_eq!(last, SLOW_DOWN.longest);
        let (slow, much_later) = (factor(0, FREE_TRIES), NOW + Millis::from_secs(7200));
        assert_eq!(slow.after_code(NOW, |_| true), Err(FactorRefusal::TooSoon(SLOW_DOWN.first)));
        assert!(slow.after_code(NOW + SLOW_DOWN.first, |_| true).is_ok());
        let done = factor(0, MOST_IN_A_ROW);
        assert_eq!(done.after_code(much_later, |_| true), Err(FactorRefusal::Exhausted));
        let recovered = done.after_recovery_code(much_later, "a").unwrap();
        assert_eq!(recovered.tries, Tries::default());
    }

    #[test]
    fn a_wrong_code_is_counted_and_a_right_one_ends_the_count() {
        let tried = factor(0, 2).after_wrong(NOW);
        assert_eq!(tried.tries, Tries { wrong: 3, last: NOW });
        assert_eq!(tried.after_code(NOW, |_| true).unwrap().tries.wrong, 0);
    }

    #[test]
    fn a_recovery_code_works_once() {
        let once = factor(0, 0).after_recovery_code(NOW, "a").unwrap();
        assert_eq!(once.active.as_ref().unwrap().recovery, ["b"]);
        assert_eq!(once.after_recovery_code(NOW, "a"), Err(FactorRefusal::Wrong));
        assert_eq!(once.after_recovery_code(NOW, "c"), Err(FactorRefusal::Wrong));
    }

    #[test]
    fn an_offer_counts_after_its_first_code_and_the_old_one_until_then() {
        let offered = factor(7, 3).after_offer(NOW, "t".to_owned());
        assert_eq!(offered.active, factor(7, 3).active);
        let too_late = NOW + OFFER_LIFE;
        let (codes, present) = (|| vec!["c".to_owned()], step_at(NOW));
        assert_eq!(offered.after_confirmation(too_late, |_| true, codes()), Err(FactorRefusal::NotEnrolled));
        assert_eq!(offered.after_confirmation(NOW, |_| false, codes()), Err(FactorRefusal::Wrong));
        let confirmed = offered.after_confirmation(NOW, |step| step == present, codes()).unwrap();
        let active = confirmed.active.clone().unwrap();
        assert_eq!((active.sealed.as_str(), active.last_step), ("t", present));
        assert_eq!(confirmed.after_code(NOW, |step| step == present), Err(FactorRefusal::Used));
        assert_eq!(confirmed.offer, None);
    }

    #[test]
    fn nothing_counts_where_nothing_is_enrolled() {
        let none = Factor::default();
        assert_eq!(none.after_code(NOW, |_| true), Err(FactorRefusal::NotEnrolled));
        assert_eq!(none.after_recovery_code(NOW, "a"), Err(FactorRefusal::NotEnrolled));
        assert_eq!(none.after_confirmation(NOW, |_| true, Vec::new()), Err(FactorRefusal::NotEnrolled));
        assert_eq!(none.with_recovery_codes(Vec::new()), Err(FactorRefusal::NotEnrolled));
        let waiting = none.after_offer(NOW, "t".to_owned());
        assert_eq!(waiting.after_code(NOW, |_| true), Err(FactorRefusal::NotEnrolled), "not confirmed");
    }
}
