//! Which shard an entity belongs to.

use uuid::Uuid;

use super::record::EntityRef;

/// Shards of a cluster, fixed when it is first created.
pub const SHARDS: u16 = 256;

/// The shard of an entity: FNV-1a over its id, so that every node computes the same.
/// Source of the constants: the FNV reference by Fowler, Noll and Vo (64 bit).
#[must_use]
pub fn shard_of(entity: EntityRef) -> u16 {
    shard_of_id(entity.id)
}

/// The shard of anything that has an id, as a queue.
#[must_use]
pub fn shard_of_id(id: Uuid) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of FNV are its weakest; fold the high half in before taking the remainder.
    u16::try_from((hash ^ (hash >> 32)) % u64::from(SHARDS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::CallId;

    #[test]
    fn entities_spread_evenly() {
        let mut counts = [0_u32; SHARDS as usize];
        for i in 0..25_600 {
            let call = CallId::derived("twilio", &format!("CA{i}"));
            counts[usize::from(shard_of(call.into()))] += 1;
        }
        assert!(counts.iter().all(|count| (50..=160).contains(count)), "{counts:?}");
    }
}
