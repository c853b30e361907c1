//! Membership, leases and the gateway between nodes. One machine needs none of it yet; the pure
//! part, which shard an entity belongs to, is in `domain::placement`.

pub mod link;
