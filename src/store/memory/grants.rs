//! Grants, counters and revocations in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use uuid::Uuid;

use super::MemoryStore;
use crate::domain::time::{Millis, Timestamp};
use crate::store::cache::{self, Counted};
use crate::store::error::StoreError;
use crate::store::grants::{FORGOTTEN_AT_A_TIME, Grant, GrantKind, Grants, Revocation, counted};

/// A grant's kind and key.
type Place = (GrantKind, String);

/// What lets somebody in, and what counts and takes away.
#[derive(Default)]
pub(super) struct Passes {
    grants: BTreeMap<Place, Grant>,
    /// The same by whom they are about, oldest first.
    about: BTreeSet<(Uuid, GrantKind, Timestamp, String)>,
    /// The same by their end, so that forgetting looks at old ones only.
    ends: BTreeSet<(Timestamp, Place)>,
    counters: HashMap<String, Counter>,
    revocations: HashMap<Uuid, Revocation>,
}

#[derive(Clone, Copy)]
struct Counter {
    count: u64,
    ends_at: Timestamp,
}

impl Passes {
    fn put(&mut self, grant: Grant) {
        let place = (grant.kind, grant.key.clone());
        self.remove(&place);
        self.about.insert((grant.subject, grant.kind, grant.created_at, grant.key.clone()));
        self.ends.insert((grant.expires_at, place.clone()));
        self.grants.insert(place, grant);
    }

    fn remove(&mut self, place: &Place) -> Option<Grant> {
        let grant = self.grants.remove(place)?;
        self.about.remove(&(grant.subject, grant.kind, grant.created_at, grant.key.clone()));
        self.ends.remove(&(grant.expires_at, place.clone()));
        Some(grant)
    }

    /// The keys of one kind about somebody, oldest first.
    fn keys_about(&self, kind: GrantKind, subject: Uuid) -> impl Iterator<Item = &String> {
        let start = (subject, kind, Timestamp::from_millis(i64::MIN), String::new());
        let same =
            move |(other, of, _, _): &&(Uuid, GrantKind, Timestamp, String)| *other == subject && *of == kind;
        self.about.range(start..).take_while(same).map(|(_, _, _, key)| key)
    }

    fn forget_grants(&mut self, now: Timestamp) -> usize {
        let over = self.ends.iter().take_while(|(end, _)| *end <= now).take(FORGOTTEN_AT_A_TIME);
        let places: Vec<_> = over.map(|(_, place)| place.clone()).collect();
        for place in &places {
            self.remove(place);
        }
        places.len()
    }
}

#[async_trait]
impl Grants for MemoryStore {
    async fn put(&self, grant: Grant) -> Result<(), StoreError> {
        let mut passes = self.passes();
        let stored = passes.grants.get(&(grant.kind, grant.key.clone()));
        if stored.is_some_and(|stored| stored.expires_at > grant.created_at) {
            return Err(StoreError::Exists(grant.key));
        }
        passes.put(Grant { version: 1, ..grant });
        Ok(())
    }

    async fn get(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let passes = self.passes();
        let grant = passes.grants.get(&(kind, key.to_owned()));
        Ok(grant.filter(|grant| grant.expires_at > now).cloned())
    }

    async fn about(&self, kind: GrantKind, subject: Uuid, now: Timestamp) -> Result<Vec<Grant>, StoreError> {
        let passes = self.passes();
        let grants =
            passes.keys_about(kind, subject).filter_map(|key| passes.grants.get(&(kind, key.clone())));
        Ok(grants.filter(|grant| grant.expires_at > now).cloned().collect())
    }

    async fn replace(&self, grant: Grant) -> Result<u64, StoreError> {
        let mut passes = self.passes();
        let stored = passes.grants.get(&(grant.kind, grant.key.clone()));
        let is_same =
            |stored: &&Grant| stored.version == grant.version && stored.created_at == grant.created_at;
        if !stored.as_ref().is_some_and(is_same) {
            return Err(StoreError::Changed);
        }
        let version = grant.version.saturating_add(1);
        passes.put(Grant { version, ..grant });
        Ok(version)
    }

    async fn take(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let mut passes = self.passes();
        let place = (kind, key.to_owned());
        if passes.grants.get(&place).is_none_or(|grant| grant.expires_at <= now) {
            return Ok(None);
        }
        Ok(passes.remove(&place))
    }

    async fn take_all(&self, kind: GrantKind, subject: Uuid) -> Result<u64, StoreError> {
        let mut passes = self.passes();
        let keys: Vec<_> = passes.keys_about(kind, subject).cloned().collect();
        let taken = keys.len() as u64;
        for key in keys {
            passes.remove(&(kind, key));
        }
        Ok(taken)
    }

    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut passes = self.passes();
        let before = passes.counters.len() + passes.revocations.len();
        let grants = passes.forget_grants(now);
        passes.counters.retain(|_, counter| counter.ends_at > now);
        passes.revocations.retain(|_, revocation| revocation.until > now);
        let others = before - passes.counters.len() - passes.revocations.len();
        Ok((grants + others) as u64)
    }

    async fn count(
        &self,
        key: &str,
        window: Millis,
        most: u64,
        now: Timestamp,
    ) -> Result<Counted, StoreError> {
        let mut passes = self.passes();
        let running = passes.counters.get(key).copied().filter(|counter| counter.ends_at > now);
        let before = running.unwrap_or(Counter { count: 0, ends_at: now + cache::life(window) });
        let count = before.count.saturating_add(1);
        if before.count < most {
            passes.counters.insert(key.to_owned(), Counter { count, ..before });
        }
        Ok(counted(count, before.ends_at, now))
    }

    async fn forget_count(&self, key: &str) -> Result<(), StoreError> {
        self.passes().counters.remove(key);
        Ok(())
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        let at = self.roster().now();
        let mut passes = self.passes();
        let Revocation { subject, mut least_epoch, mut until, .. } = revocation;
        if let Some(known) = passes.revocations.get(&subject) {
            least_epoch = least_epoch.max(known.least_epoch);
            until = until.max(known.until);
        }
        passes.revocations.insert(subject, Revocation { subject, least_epoch, at, until });
        Ok(())
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<(Vec<Revocation>, Timestamp), StoreError> {
        let now = self.roster().now();
        let passes = self.passes();
        let newer = passes.revocations.values().filter(|revocation| revocation.at >= since);
        Ok((newer.copied().collect(), now))
    }
}
