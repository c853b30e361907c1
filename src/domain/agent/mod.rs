//! An agent session: one agent, not one socket. The only place where capacity is decided.

mod command;

pub use command::*;
