//! Who owns each shard, as this node knows it now.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::domain::node::NodeRef;
use crate::domain::placement::SHARDS;

/// The owners of all shards. Cheap to clone; all clones are one table.
#[derive(Clone)]
pub struct Owners {
    table: Arc<RwLock<Vec<Option<Arc<NodeRef>>>>>,
    changes: watch::Sender<u64>,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            table: Arc::new(RwLock::new(vec![None; usize::from(SHARDS)])),
            changes: watch::Sender::default(),
        }
    }
}

impl Owners {
    /// The owner of a shard; `None` while nobody is known to have it.
    #[must_use]
    pub fn owner(&self, shard: u16) -> Option<Arc<NodeRef>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(usize::from(shard)).cloned().flatten()
    }

    /// The shards of a node, in order.
    #[must_use]
    pub fn shards_of(&self, node: &NodeRef) -> Vec<u16> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        (0..)
            .zip(table.iter())
            .filter(|(_, owner)| owner.as_deref() == Some(node))
            .map(|(shard, _)| shard)
            .collect()
    }

    /// Sets owners; answers the shards whose owner is another now.
    pub fn set(&self, owners: impl IntoIterator<Item = (u16, Option<NodeRef>)>) -> Vec<u16> {
        let mut changed = Vec::new();
        {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            for (shard, owner) in owners {
                if let Some(place) = table.get_mut(usize::from(shard))
                    && place.as_deref() != owner.as_ref()
                {
                    *place = owner.map(Arc::new);
                    changed.push(shard);
                }
            }
        }
        if !changed.is_empty() {
            self.changes.send_modify(|version| *version += 1);
        }
        changed
    }

    /// Changes whenever an owner does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let owners = Owners::default();
        let changes = owners.changes();
        let node = NodeRef { node: "a".into(), incarnation: Uuid::nil() };
        assert_eq!(owners.set([(3, Some(node.clone())), (4, None), (9, Some(node.clone()))]), [3, 9]);
        assert!(changes.has_changed().unwrap());
        assert_eq!(owners.shards_of(&node), [3, 9]);
        assert_eq!(owners.set([(3, Some(node.clone()))]), Vec::<u16>::new());
        assert_eq!(owners.set([(3, None)]), [3]);
        assert_eq!((owners.owner(3), owners.owner(9).as_deref()), (None, Some(&node)));
    }
}
