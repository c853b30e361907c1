//! Delays between tries.

use super::time::Millis;

/// Smallest delay once a first delay of zero is doubled.
const SMALLEST: u64 = 10;

/// An exponential delay with an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Delay before the first repetition.
    pub first: Millis,
    /// Each further delay is this many times the one before.
    pub factor: u64,
    /// No delay is longer.
    pub longest: Millis,
}

impl Backoff {
    /// Delay before repetition number `repetition`, counted from 0.
    #[must_use]
    pub fn delay(&self, repetition: usize) -> Millis {
        let mut delay = self.first.0;
        for _ in 0..repetition {
            delay = delay.saturating_mul(self.factor).max(SMALLEST);
            if delay >= self.longest.0 {
                return self.longest;
            }
        }
        Millis(delay)
    }

    /// The same delay shortened by up to half, so that many who failed together do not come back
    /// together. `jitter` lies between 0 and 1.
    #[must_use]
    pub fn jittered(&self, repetition: usize, jitter: f64) -> Millis {
        let delay = self.delay(repetition).0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "delays are far below 2^52 ms and the factor lies between 0 and 1"
        )]
        let cut = (delay as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as u64;
        Millis(delay - cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound() {
        let backoff = Backoff { first: Millis(100), factor: 2, longest: Millis(500) };
        let delays: Vec<_> = (0..5).map(|i| backoff.delay(i).0).collect();
        assert_eq!(delays, [100, 200, 400, 500, 500]);
    }

    #[test]
    fn jitter_only_shortens_and_by_half_at_most() {
        let backoff = Backoff { first: Millis(100), factor: 2, longest: Millis(500) };
        assert_eq!(backoff.jittered(1, 0.0), Millis(200));
        assert_eq!(backoff.jittered(1, 1.0), Millis(100));
    }
}
