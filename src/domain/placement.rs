//! Which shard an entity belongs to, and which node a shard.

use uuid::Uuid;

use super::node::{NodeRef, NodeRow, NodeStatus, Role};
use super::record::EntityRef;

/// Shards of a cluster, fixed when it is first created.
pub const SHARDS: u16 = 256;

/// The shard of an entity: FNV-1a over its id, so that every node computes the same.
#[must_use]
pub fn shard_of(entity: EntityRef) -> u16 {
    shard_of_id(entity.id)
}

/// The shard of anything that has an id, as a queue.
#[must_use]
pub fn shard_of_id(id: Uuid) -> u16 {
    let hash = fnv1a(id.as_bytes());
    // The low bits of FNV are its weakest; fold the high half in before taking the remainder.
    u16::try_from((hash ^ (hash >> 32)) % u64::from(SHARDS)).unwrap_or_default()
}

/// The node that a shard belongs on: rendezvous over the nodes that may own it.
///
/// Only nodes that are alive, do not drain and carry the shard's role take part; nobody does when
/// there is none. The weights come from the *names*, so that a node gets its shards back after a
/// restart, and the order of `nodes` does not matter.
#[must_use]
pub fn owner_of(shard: u16, nodes: &[NodeRow]) -> Option<&NodeRef> {
    let role = Role::of_shard(shard);
    nodes
        .iter()
        .filter(|row| row.status == NodeStatus::Alive && row.roles.contains(&role))
        .map(|row| &row.at)
        .max_by_key(|at| (weight(&at.node, shard), *at))
}

/// The node that each shard belongs on, by the shard's number.
#[must_use]
pub fn placement(nodes: &[NodeRow]) -> Vec<Option<NodeRef>> {
    (0..SHARDS).map(|shard| owner_of(shard, nodes).cloned()).collect()
}

/// How strongly a shard is drawn to a node.
fn weight(node: &str, shard: u16) -> u64 {
    mix(fnv1a(node.as_bytes()) ^ mix(u64::from(shard)))
}

/// Source of the constants: the FNV reference by Fowler, Noll and Vo (64 bit).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads a change of any bit over all bits; FNV alone leaves names that differ in their last
/// letter close together. Source of the constants: the finisher of `SplitMix64` by Steele, Lea and Flood.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::CallId;
    use crate::domain::time::Timestamp;

    #[test]
    fn entities_spread_evenly() {
        let mut counts = [0_u32; SHARDS as usize];
        for i in 0..25_600 {
            let call = CallId::derived("twilio", &format!("CA{i}"));
            counts[usize::from(shard_of(call.into()))] += 1;
        }
        assert!(counts.iter().all(|count| (50..=160).contains(count)), "{counts:?}");
    }

    fn row(name: &str) -> NodeRow {
        NodeRow {
            at: NodeRef { node: name.into(), incarnation: Uuid::from_u128(1) },
            address: String::new(),
            public_url: String::new(),
            roles: Role::ALL.to_vec(),
            version: String::new(),
            status: NodeStatus::Alive,
            started_at: Timestamp::default(),
            lease_until: Timestamp::default(),
        }
    }

    fn rows(names: &BTreeSet<String>) -> Vec<NodeRow> {
        names.iter().map(|name| row(name)).collect()
    }

    fn names(count: std::ops::Range<usize>) -> impl Strategy<Value = BTreeSet<String>> {
        proptest::collection::btree_set("[a-z0-9-]{1,12}", count)
    }

    /// Owners before and after, where they differ.
    fn moves(before: &[NodeRow], after: &[NodeRow]) -> Vec<(Option<NodeRef>, Option<NodeRef>)> {
        placement(before).into_iter().zip(placement(after)).filter(|(was, is)| was != is).collect()
    }

    #[test]
    fn placement_never_changes_between_versions() {
        // Two versions of the program run side by side during an upgrade and must agree.
        let nodes = [row("eml-1"), row("eml-2"), row("eml-3")];
        let owners: String = (0..32).map(|shard| &owner_of(shard, &nodes).unwrap().node[4..]).collect();
        assert_eq!(owners, "31221132231133222232232322233223");
    }

    #[test]
    fn a_new_node_gets_its_part_and_no_more_in_the_mean() {
        const CLUSTERS: u32 = 100;
        for size in 1..=7_u32 {
            let mut moved = 0;
            for cluster in 0..CLUSTERS {
                let mut nodes: Vec<NodeRow> =
                    (0..=size).map(|node| row(&format!("cell{cluster}-eml-{node}"))).collect();
                let after = nodes.clone();
                nodes.pop();
                moved += moves(&nodes, &after).len();
            }
            let part = f64::from(u32::try_from(moved).unwrap()) / f64::from(CLUSTERS * u32::from(SHARDS));
            let fair = 1.0 / f64::from(size + 1);
            assert!(part <= 1.1 * fair && part >= 0.9 * fair, "{size} nodes and one more: {part} moved");
        }
    }

    proptest! {
        #[test]
        fn every_node_computes_the_same((sorted, mixed) in names(1..9).prop_flat_map(|names| {
            let sorted = rows(&names);
            (Just(sorted.clone()), Just(sorted).prop_shuffle())
        })) {
            prop_assert_eq!(placement(&sorted), placement(&mixed));
        }

        #[test]
        fn a_new_node_takes_from_all_and_nothing_moves_between_the_others(
            names in names(1..8), new in "[A-Z]{1,8}",
        ) {
            let before = rows(&names);
            let mut after = before.clone();
            after.push(row(&new));
            for (_, is) in moves(&before, &after) {
                let name = is.map(|is| is.node);
                prop_assert_eq!(name.as_deref(), Some(new.as_str()));
            }
        }

        #[test]
        fn a_node_that_goes_moves_its_shards_alone(
            names in names(2..9), which in any::<prop::sample::Index>(),
            status in prop::sample::select(vec![NodeStatus::Draining, NodeStatus::Dead, NodeStatus::Left]),
        ) {
            let before = rows(&names);
            let mut after = before.clone();
            let gone = which.index(after.len());
            after[gone].status = status;
            let owned = placement(&before).iter().filter(|owner| owner.as_ref() == Some(&before[gone].at)).count();
            let moved = moves(&before, &after);
            prop_assert_eq!(moved.len(), owned);
            for (was, is) in moved {
                prop_assert_eq!(was.as_ref(), Some(&before[gone].at));
                prop_assert!(is.is_some_and(|is| is != before[gone].at));
            }
        }

        #[test]
        fn a_node_gets_its_shards_back_after_a_restart(names in names(1..8), incarnation in 2..u128::MAX) {
            let before = rows(&names);
            let mut after = before.clone();
            after[0].at.incarnation = Uuid::from_u128(incarnation);
            for (was, is) in moves(&before, &after) {
                prop_assert_eq!(was.as_ref(), Some(&before[0].at));
                prop_assert_eq!(is.as_ref(), Some(&after[0].at));
            }
        }

        #[test]
        fn a_node_without_the_role_owns_nothing(names in names(1..8), shard in 0..SHARDS) {
            let mut nodes = rows(&names);
            nodes[0].roles = vec![Role::Edge];
            prop_assert!(owner_of(shard, &nodes) != Some(&nodes[0].at));
            prop_assert_eq!(owner_of(shard, &nodes).is_some(), nodes.len() > 1);
        }
    }
}
