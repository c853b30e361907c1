//! An agent session: one agent, not one socket. The only place where capacity is decided.

mod command;
mod decide;
mod fact;
mod state;
#[cfg(test)]
mod tests;

pub use command::*;
pub use decide::{MISSED_OFFERS, NOT_READY};
pub use fact::{AgentFact, socket_event};
pub use state::{AgentSession, Stage, Work};
