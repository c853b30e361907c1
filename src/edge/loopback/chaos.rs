//! Seeded misfortune: which callbacks are lost, doubled or late, and which REST requests fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// How badly the carrier behaves. Chances are between 0 and 1; the default is none of it.
///
/// Status, conference and recording callbacks and the answers of the REST side are affected;
/// requests for documents are not.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chaos {
    /// Start of the random sequence: the same seed draws the same fates in the same order.
    pub seed: u64,
    /// Each callback and REST answer is late by something between these two, in milliseconds.
    pub delay_ms: (u64, u64),
    /// Chance that a callback is sent twice.
    pub duplicate: f64,
    /// Chance that a callback is overtaken by later ones.
    pub reorder: f64,
    /// Chance that a callback is never sent.
    pub lose: f64,
    /// Chance that the REST side answers 500, half of the time after having done the work.
    pub fail_500: f64,
    /// Chance that a REST answer is late by `slow_ms`.
    pub slow: f64,
    /// How late a slow REST answer is, in milliseconds.
    pub slow_ms: u64,
    /// Chance that the REST side refuses with 429.
    pub refuse_429: f64,
}

/// How far an overtaken callback falls behind, in milliseconds.
const OVERTAKEN_MS: std::ops::Range<u64> = 100..600;

/// What happens to one callback.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is never sent.
    Lost,
    /// It is sent, perhaps late, out of line or twice.
    Sent {
        /// Late by this much.
        delay: Duration,
        /// Falls out of line by this much.
        overtaken: Option<Duration>,
        /// Is sent once more after this much.
        again: Option<Duration>,
    },
}

/// What goes wrong with one REST request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// Nothing.
    None,
    /// Refused with 429, nothing done.
    Refused,
    /// Answered 500, nothing done.
    FailedBefore,
    /// Answered 500 although the work was done.
    FailedAfter,
}

/// Draws fates from one seeded sequence; the settings can be changed while it runs.
pub(super) struct Mischief(Mutex<(Chaos, StdRng)>);

impl Mischief {
    pub(super) fn new(chaos: Chaos) -> Self {
        Self(Mutex::new((chaos, StdRng::seed_from_u64(chaos.seed))))
    }

    /// Takes new settings and starts the sequence of their seed.
    pub(super) fn replace(&self, chaos: Chaos) {
        *self.lock() = (chaos, StdRng::seed_from_u64(chaos.seed));
    }

    pub(super) fn settings(&self) -> Chaos {
        self.lock().0
    }

    pub(super) fn callback(&self) -> Fate {
        let (chaos, rng) = &mut *self.lock();
        if happens(rng, chaos.lose) {
            return Fate::Lost;
        }
        Fate::Sent {
            delay: delay(rng, chaos.delay_ms),
            overtaken: behind(rng, chaos.reorder),
            again: behind(rng, chaos.duplicate),
        }
    }

    pub(super) fn rest(&self) -> (Mishap, Duration) {
        let (chaos, rng) = &mut *self.lock();
        let mut late = delay(rng, chaos.delay_ms);
        if happens(rng, chaos.slow) {
            late += Duration::from_millis(chaos.slow_ms);
        }
        let mishap = if happens(rng, chaos.refuse_429) {
            Mishap::Refused
        } else if happens(rng, chaos.fail_500) {
            if rng.random::<bool>() { Mishap::FailedAfter } else { Mishap::FailedBefore }
        } else {
            Mishap::None
        };
        (mishap, late)
    }

    fn lock(&self) -> MutexGuard<'_, (Chaos, StdRng)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn happens(rng: &mut StdRng, chance: f64) -> bool {
    chance > 0.0 && rng.random::<f64>() < chance
}

fn behind(rng: &mut StdRng, chance: f64) -> Option<Duration> {
    happens(rng, chance).then(|| Duration::from_millis(rng.random_range(OVERTAKEN_MS)))
}

fn delay(rng: &mut StdRng, (least, most): (u64, u64)) -> Duration {
    if most == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(rng.random_range(least.min(most)..=most.max(least)))
}
