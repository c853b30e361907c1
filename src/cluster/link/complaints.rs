//! Logging that repeats itself: once a minute per address, however often it happens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long an address is not complained about again.
const QUIET: Duration = Duration::from_mins(1);
/// Addresses remembered. Beyond, new ones are not complained about until old ones are forgotten.
const REMEMBERED: usize = 1_024;

/// When each address was last complained about.
#[derive(Default)]
pub(super) struct Complaints {
    last: Mutex<HashMap<Box<str>, Instant>>,
}

impl Complaints {
    /// Whether it is time to log something about this address.
    pub(super) fn is_due(&self, address: &str) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(address).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        if last.len() >= REMEMBERED {
            last.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        if last.len() >= REMEMBERED {
            return false;
        }
        last.insert(address.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_complained_about_once_and_the_list_stays_bounded() {
        let complaints = Complaints::default();
        assert!(complaints.is_due("10.0.0.1"));
        assert!(!complaints.is_due("10.0.0.1"));
        assert!(complaints.is_due("10.0.0.2"));
        for i in 0..2 * REMEMBERED {
            complaints.is_due(&format!("host {i}"));
        }
        assert_eq!(complaints.last.lock().unwrap().len(), REMEMBERED);
    }
}
