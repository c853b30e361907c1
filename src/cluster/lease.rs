//! A node's own lease, as everybody in its process sees it: whether effects may go out now.
//!
//! The store counts the lease by its clock from the moment it carried a renewal out. The holder counts by
//! its monotonic clock from the moment *before* it sent that renewal, and stops a margin earlier, so it
//! has stopped before anybody may take over. (A machine whose whole monotonic clock stood still, as when a
//! virtual machine is paused, learns of it by its next renewal only; the journal's fence refuses its
//! writes all the same.)

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Why a run of a node is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// It was declared dead, or a later run took its name.
    Fenced,
    /// It left the cluster by itself.
    Left,
    /// Nobody renews its lease any more: the beat has broken down.
    BeatLost,
}

impl EndReason {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Left => "left",
            Self::BeatLost => "beat_lost",
        }
    }
}

/// The lease has ended for good; this run may do nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this run of the node is over: {}", .0.as_str())]
pub struct Ended(pub EndReason);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Alone, without a cluster: nobody could take over.
    Forever,
    /// Held until then, suspended afterwards.
    Until(Instant),
    Ended(Ended),
}

impl State {
    fn is_held_at(self, now: Instant) -> bool {
        match self {
            Self::Forever => true,
            Self::Until(end) => now < end,
            Self::Ended(_) => false,
        }
    }
}

/// The lease of this node; clones are the same lease.
#[derive(Debug, Clone)]
pub struct LeaseHandle {
    state: watch::Sender<State>,
    /// The lease less the margin.
    holds: Duration,
}

impl LeaseHandle {
    /// A lease of length `lease` whose registration was sent at `sent_at`, and which its holder takes for
    /// over a `margin` sooner.
    #[must_use]
    pub fn new(lease: Duration, margin: Duration, sent_at: Instant) -> Self {
        let holds = lease.saturating_sub(margin);
        Self { state: watch::Sender::new(State::Until(sent_at + holds)), holds }
    }

    /// The lease of a node without a cluster: held until it is ended.
    #[must_use]
    pub fn forever() -> Self {
        Self { state: watch::Sender::new(State::Forever), holds: Duration::ZERO }
    }

    /// Whether effects may go out now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held_at(Instant::now())
    }

    /// The same at a given moment.
    #[must_use]
    pub fn is_held_at(&self, now: Instant) -> bool {
        self.state.borrow().is_held_at(now)
    }

    /// Waits while the lease is suspended.
    ///
    /// # Errors
    /// [`Ended`] as soon as it never will be held again.
    pub async fn held(&self) -> Result<(), Ended> {
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            match state {
                State::Ended(ended) => return Err(ended),
                State::Forever | State::Until(_) if state.is_held_at(Instant::now()) => return Ok(()),
                // Only a renewal or the end changes it, never the passing of time.
                State::Forever | State::Until(_) => {}
            }
            if states.changed().await.is_err() {
                return Err(Ended(EndReason::BeatLost));
            }
        }
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Ended {
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            match state {
                State::Ended(ended) => return ended,
                State::Forever | State::Until(_) => {}
            }
            if states.changed().await.is_err() {
                return Ended(EndReason::BeatLost);
            }
        }
    }

    /// Ends the lease for good; the first reason stands.
    pub fn end(&self, reason: EndReason) {
        self.state.send_if_modified(|state| match state {
            State::Ended(_) => false,
            State::Forever | State::Until(_) => {
                *state = State::Ended(Ended(reason));
                true
            }
        });
    }

    /// Notes a renewal that was sent at `sent_at`; it never shortens the lease or brings an ended one back.
    pub fn renewed(&self, sent_at: Instant) {
        let until = sent_at + self.holds;
        self.state.send_if_modified(|state| match state {
            State::Until(end) if until > *end => {
                *end = until;
                true
            }
            State::Forever | State::Until(_) | State::Ended(_) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1200);
    const MARGIN: Duration = Duration::from_millis(150);

    /// A lease whose registration was sent that long ago.
    fn lease_of_age(age: Duration) -> (LeaseHandle, Instant) {
        let sent_at = Instant::now().checked_sub(age).unwrap();
        (LeaseHandle::new(LEASE, MARGIN, sent_at), sent_at)
    }

    #[test]
    fn a_lease_is_held_from_the_sending_of_its_renewal_until_the_margin() {
        let (lease, sent_at) = lease_of_age(Duration::ZERO);
        let at = |millis| sent_at + Duration::from_millis(millis);
        assert!(lease.is_held() && lease.is_held_at(at(1049)));
        assert!(!lease.is_held_at(at(1050)));
        lease.renewed(at(250));
        assert!(lease.is_held_at(at(1299)) && !lease.is_held_at(at(1300)));
        lease.renewed(at(100));
        assert!(lease.is_held_at(at(1299)), "an answer that came late shortens nothing");
    }

    #[test]
    fn the_first_end_stands_and_no_renewal_undoes_it() {
        let (lease, sent_at) = lease_of_age(Duration::ZERO);
        let other = lease.clone();
        other.end(EndReason::Fenced);
        lease.end(EndReason::Left);
        lease.renewed(sent_at + LEASE);
        assert!(!lease.is_held() && !lease.is_held_at(sent_at + LEASE));
        assert_eq!(*lease.state.borrow(), State::Ended(Ended(EndReason::Fenced)));
    }

    #[test]
    fn a_node_without_a_cluster_holds_its_lease_until_it_is_ended() {
        let lease = LeaseHandle::forever();
        assert!(lease.is_held_at(Instant::now() + Duration::from_secs(1_000_000)));
        lease.renewed(Instant::now());
        assert_eq!(*lease.state.borrow(), State::Forever);
        lease.end(EndReason::Left);
        assert!(!lease.is_held());
    }

    #[tokio::test]
    async fn who_needs_the_lease_waits_while_it_is_suspended() {
        let (lease, _) = lease_of_age(LEASE * 2);
        assert!(!lease.is_held());
        let waiting = tokio::spawn({
            let lease = lease.clone();
            async move { lease.held().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        lease.renewed(Instant::now());
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn who_waits_for_a_suspended_lease_learns_of_its_end() {
        let (lease, _) = lease_of_age(LEASE * 2);
        let waiting = tokio::spawn({
            let lease = lease.clone();
            async move { (lease.held().await, lease.ended().await) }
        });
        tokio::task::yield_now().await;
        lease.end(EndReason::Fenced);
        let ended = Ended(EndReason::Fenced);
        assert_eq!(waiting.await.unwrap(), (Err(ended), ended));
        assert_eq!(ended.to_string(), "this run of the node is over: fenced");
    }
}
