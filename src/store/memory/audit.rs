//! The audit trail in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::identity::{AuditEntry, Sealed};
use crate::store::audit::{AuditFilter, AuditLog, ChainEnd, Link, adopt_all, seal_all};
use crate::store::error::StoreError;

/// All entries in order, and the end of their chain.
#[derive(Default)]
pub(super) struct Chain {
    entries: Vec<(AuditEntry, Sealed)>,
    end: ChainEnd,
}

impl Chain {
    fn add(&mut self, entries: Vec<AuditEntry>, links: Vec<Link>, end: ChainEnd) -> u64 {
        self.entries.extend(entries.into_iter().zip(links.into_iter().map(|link| link.sealed)));
        self.end = end;
        end.number
    }

    /// The first `count` entries.
    fn first(&self, count: u64) -> &[(AuditEntry, Sealed)] {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.entries.get(..count).unwrap_or(&self.entries)
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError> {
        let mut chain = self.chain();
        let (links, end) = seal_all(chain.end, &entries)?;
        Ok(chain.add(entries, links, end))
    }

    async fn adopt_audit(&self, entries: Vec<Sealed>) -> Result<u64, StoreError> {
        let mut chain = self.chain();
        let (links, end) = adopt_all(chain.end, entries)?;
        let read = |link: &Link| serde_json::from_str(&link.sealed.body);
        let entries = links.iter().map(read).collect::<Result<_, _>>();
        let entries = entries.map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(chain.add(entries, links, end))
    }

    async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Sealed>, StoreError> {
        let chain = self.chain();
        let older = chain.first(before.map_or(u64::MAX, |number| number.saturating_sub(1))).iter().rev();
        let wanted = older.filter(|(entry, _)| filter.matches(entry)).take(limit);
        Ok(wanted.map(|(_, sealed)| sealed.clone()).collect())
    }

    async fn audit_after(&self, number: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        let chain = self.chain();
        let known = chain.first(number).len();
        Ok(chain.entries.iter().skip(known).take(limit).map(|(_, sealed)| sealed.clone()).collect())
    }

    async fn audit_end(&self) -> Result<ChainEnd, StoreError> {
        Ok(self.chain().end)
    }
}
