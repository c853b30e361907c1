//! The actors that run the domain's machines, and the handle the edge uses.

mod agent;
mod call;
mod centre;
mod directory;
mod engine;
mod entity;
mod error;
mod nest;
mod orphans;
pub mod ports;
mod queue;
mod relay;
mod root;
mod shard;
#[cfg(test)]
mod tests;
mod writer;

pub use agent::{AgentEvent, Attached};
pub use engine::{AgentLimits, Engine, EngineHealth, EngineSettings};
pub use error::AskError;
pub use queue::QueueStats;
pub use root::{StartError, start, take_up};
pub use writer::WriterSettings;
