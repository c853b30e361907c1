//! The transport between nodes: what one node asks another, and what it tells it.
//!
//! [`Links`] keeps one connection to each peer of the node table and takes in one from each. What goes
//! over them are questions with an answer ([`Transport::ask`]) and news without one
//! ([`Transport::push`]); this layer does not know what they mean. Everything is bounded: questions
//! under way, frames and bytes that wait, the size of a frame, connections that have not yet said who
//! they are. [`SimulatedNetwork`] carries the same frames within a process, for tests that need a
//! partition at will.
//!
//! The way through the files: [`Links`] holds a `dialer` per peer and the `admission` of those who
//! dialed us, fed by the `listener`. Either drives a `connection`, whose frames wait in an `outbox` and
//! whose questions wait in a `window`. `identity` and `token` say who is who, `greeting` checks it.

mod admission;
mod authority;
mod complaints;
mod connection;
mod context;
mod counters;
mod dialer;
mod frame;
mod greeting;
mod identity;
mod links;
mod listener;
mod outbox;
mod requests;
mod settings;
mod simulated;
mod token;
mod transport;
mod window;
mod wire;

#[cfg(test)]
mod tests;

pub use authority::Authority;
pub use context::Living;
pub use counters::LinkCounters;
pub use frame::LARGEST_BODY;
pub use identity::{Identity, IdentityError, Now, PemFiles};
pub use links::{LinkStartError, Links};
pub use settings::LinkSettings;
pub use simulated::{SimulatedLinks, SimulatedNetwork};
pub use token::TokenError;
pub use transport::{Inbound, LinkError, LinkRefusal, Peer, Transport};
