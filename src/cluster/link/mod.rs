//! The transport between nodes.

mod transport;

pub use transport::{Inbound, LinkError, LinkRefusal, Peer, Transport};
