//! The rules of a call centre, without clock, I/O or async.

pub mod address;
pub mod agent;
pub mod backoff;
pub mod call;
pub mod catalogue;
pub mod directory;
pub mod event;
pub mod id;
pub mod identity;
pub mod machine;
pub mod node;
pub mod placement;
pub mod queue;
pub mod record;
pub mod restart;
pub mod time;
