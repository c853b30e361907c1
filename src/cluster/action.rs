//! What the membership of a node asks to be done, and what became of it.

use crate::cluster::lease::EndReason;
use crate::domain::node::NodeRef;

/// What the shell shall do now. Each but [`Action::End`] is answered by one [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take from a node the right to write.
    DeclareDead {
        /// The run of the node.
        node: NodeRef,
        /// Only if its lease has ended by the store's clock.
        only_expired: bool,
    },
    /// Take over shards that nobody living owns; start those that the store gave.
    Claim(Vec<u16>),
    /// Stop own shards, then give them to another node.
    Hand {
        /// The node that they belong on.
        to: NodeRef,
        /// The shards.
        shards: Vec<u16>,
    },
    /// Stop own shards, then give them up, as there is nobody to hand them to.
    Release(Vec<u16>),
    /// Go: nothing is owned any more.
    Leave,
    /// This run is over; start the process afresh or let it exit.
    End(EndReason),
}

/// What became of an action.
///
/// `None` stands for *unknown*: the store failed, did not answer in time, or its answer was lost, so
/// the request may have been carried out or may still be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`Action::DeclareDead`].
    Declared {
        /// The node.
        node: NodeRef,
        /// Whether the store holds it for dead now.
        is_dead: Option<bool>,
    },
    /// Of [`Action::Claim`]: what the store gave.
    Claimed(Option<Vec<u16>>),
    /// Of [`Action::Hand`].
    Handed {
        /// The node they were to go to.
        to: NodeRef,
        /// Those that are its own now.
        moved: Option<Vec<u16>>,
    },
    /// Of [`Action::Release`].
    Released {
        /// Whether the store said so.
        is_done: bool,
    },
    /// Of [`Action::Leave`].
    Left {
        /// Whether the store said so.
        is_done: bool,
    },
}
