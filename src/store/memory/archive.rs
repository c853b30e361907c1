//! The shelf of the archive in memory.

use std::ops::Range;

use async_trait::async_trait;

use super::MemoryStore;
use crate::store::archive::{Item, Shelf};
use crate::store::error::StoreError;

#[async_trait]
impl Shelf for MemoryStore {
    async fn put(&self, items: &[Item], replace: bool) -> Result<(), StoreError> {
        let mut kept = self.items();
        for item in items {
            let name = (item.kind.clone(), item.id.clone());
            if replace {
                kept.insert(name, item.clone());
            } else {
                kept.entry(name).or_insert_with(|| item.clone());
            }
        }
        Ok(())
    }

    async fn get(&self, kind: &str, id: &str) -> Result<Option<Item>, StoreError> {
        Ok(self.items().get(&(kind.to_owned(), id.to_owned())).cloned())
    }

    async fn about(
        &self,
        kind: &str,
        subject: &str,
        from: i64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let kept = self.items();
        let about = |item: &&Item| item.kind == kind && item.subject == subject && item.place >= from;
        let mut found: Vec<_> = kept.values().filter(about).cloned().collect();
        found.sort_by(|one, other| (one.place, &one.id).cmp(&(other.place, &other.id)));
        found.truncate(limit);
        Ok(found)
    }

    async fn in_order(
        &self,
        kind: &str,
        behind: Option<(i64, String)>,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let kept = self.items();
        let mut found: Vec<_> = kept.values().filter(|item| item.kind == kind).cloned().collect();
        found.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
        if !ascending {
            found.reverse();
        }
        if let Some((at, id)) = behind {
            found.retain(|item| {
                let order = (item.at, &item.id).cmp(&(at, &id));
                if ascending { order.is_gt() } else { order.is_lt() }
            });
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn count_in(&self, kind: &str, span: Range<i64>) -> Result<u64, StoreError> {
        let shelved =
            self.items().values().filter(|item| item.kind == kind && span.contains(&item.at)).count();
        let stored = self.facts().count_at(&span);
        Ok((shelved + stored) as u64)
    }
}
