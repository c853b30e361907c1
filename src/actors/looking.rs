//! When the membership reads the node table.

use std::time::Duration;

/// When the node table is read: one read at a time, and again when the machine wants it.
#[derive(Debug, Default)]
pub(super) struct Looking {
    is_under_way: bool,
    /// Whether something changed since the view under way was asked for.
    is_stale: bool,
    /// When the clock will ring, by the machine's time.
    wound: Option<Duration>,
}

impl Looking {
    /// Somebody wants to look; answers whether a read begins.
    pub(super) fn begin(&mut self) -> bool {
        self.is_stale = self.is_under_way;
        !std::mem::replace(&mut self.is_under_way, true)
    }

    /// The read under way ended; answers whether it must be read again.
    pub(super) fn ended(&mut self) -> bool {
        self.is_under_way = false;
        std::mem::take(&mut self.is_stale)
    }

    /// The clock rang.
    pub(super) fn rang(&mut self) {
        self.wound = None;
    }

    /// The machine wants a look at `next`; answers when the clock must be set for, if it is not yet.
    /// While a read is under way its end decides: it may take long, and what is due stays due.
    pub(super) fn wind(&mut self, next: Option<Duration>) -> Option<Duration> {
        let at = next.filter(|_| !self.is_under_way)?;
        if self.wound.is_some_and(|wound| wound <= at) {
            return None;
        }
        self.wound = Some(at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: Option<Duration> = Some(Duration::from_millis(5));

    #[test]
    fn a_read_that_takes_long_does_not_let_the_clock_ring_over_and_over() {
        let mut looking = Looking::default();
        assert_eq!(looking.wind(DUE), DUE);
        assert_eq!(looking.wind(DUE), None, "it is set already");
        looking.rang();
        assert!(looking.begin());
        assert_eq!(looking.wind(DUE), None, "what is due stays due until the read ends");
        assert!(!looking.ended());
        assert_eq!(looking.wind(DUE), DUE);
    }

    #[test]
    fn what_changes_during_a_read_is_read_again() {
        let mut looking = Looking::default();
        assert!(looking.begin() && !looking.begin());
        assert!(looking.ended());
        assert!(looking.begin() && !looking.ended());
    }

    #[test]
    fn an_earlier_look_is_wound_again() {
        let mut looking = Looking::default();
        assert_eq!(looking.wind(Some(Duration::from_secs(2))), Some(Duration::from_secs(2)));
        assert_eq!(looking.wind(DUE), DUE);
        assert_eq!(looking.wind(None), None);
    }
}
