//! A queue: waiting calls and ready agents, matched on both edges. An index without a journal.

mod strategy;

pub use strategy::Strategy;
