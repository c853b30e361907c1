//! The actors that run the domain's machines, and the handle the edge uses.

mod agent;
mod announcer;
mod call;
mod centre;
mod directory;
mod engine;
mod entity;
mod error;
mod fold;
mod gateway;
mod gathering;
mod letter;
mod looking;
mod membership;
mod nest;
mod orphans;
pub mod ports;
mod post;
mod queue;
mod readings;
mod relay;
mod root;
mod routing;
mod shard;
mod sockets;
mod standing;
mod sweeper;
mod take_up;
#[cfg(test)]
mod tests;
mod writer;

pub use agent::{AgentEvent, Attached};
pub use engine::{AgentLimits, Engine, EngineHealth, EngineSettings};
pub use error::AskError;
pub use gateway::gateway;
pub use membership::join;
pub use queue::QueueStats;
pub use root::{StartError, start};
pub use take_up::take_up;
pub use writer::WriterSettings;
