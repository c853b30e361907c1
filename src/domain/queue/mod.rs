//! A queue: waiting calls and ready agents, matched on both edges. An index without a journal.

mod index;
mod strategy;
#[cfg(test)]
mod tests;

pub use index::{Admission, Proposal, QueueIndex, QueueSettings, Skills};
pub use strategy::Strategy;
