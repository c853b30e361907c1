//! Chaos: real nodes, real faults, and a judge that reads what clients saw and what the journal holds.
//!
//! The short form runs with the tests. The long one by command, with a report in the form of
//! `docs/chaos.md`: `EML_CHAOS_FOR=3600 EML_CHAOS_REPORT=docs/chaos.md ./scripts/test chaos::long` (`just chaos`).
//! A seed is printed with each run; `EML_CHAOS_SEED` repeats its schedule.

mod agents;
mod bugs;
mod checker;
pub(crate) mod cluster;
mod faults;
mod figures;
mod front;
mod history;
mod journal;
mod long;
pub(crate) mod network;
pub(crate) mod node;
mod run;
mod short;
mod wire;
