//! Membership and leases of a cluster, and what travels between its nodes. Which shard an entity
//! belongs to, and which node a shard, is in `domain::placement`.

pub mod action;
pub mod beat;
mod errands;
pub mod lease;
pub mod membership;
pub mod plan;
mod standing;
mod table;
