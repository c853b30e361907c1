//! The cache in Redis 7 or newer, shared by all nodes that name the same one.
//!
//! Each command is one atomic step on the server, and answers within a second or not at all. Keys
//! begin with [`PREFIX`] and end by themselves, so a server may hold other things beside ours.

mod cache;
mod connection;
mod errors;

pub use cache::{PREFIX, RedisCache};
