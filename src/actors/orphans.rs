//! News that came before its call was known: kept for a while, told again when the call is there.
//!
//! Callbacks overtake each other, and the answer to our own request to place a leg. Bounded in
//! count and age; what is dropped here is still in the store for a person to see.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::call::CarrierNews;
use crate::domain::time::{Millis, Timestamp};

/// Most news kept; the oldest goes first.
const MOST: usize = 4_096;
/// How long it is kept: far longer than any provider retries.
const LONGEST: Millis = Millis::from_secs(120);

struct Orphan {
    provider: Box<str>,
    names: Box<[Box<str>]>,
    news: CarrierNews,
    at: Timestamp,
}

/// News without a call.
#[derive(Default)]
pub(super) struct Orphans {
    kept: Mutex<VecDeque<Orphan>>,
    count: AtomicUsize,
}

impl Orphans {
    pub(super) fn keep(&self, provider: &str, news: CarrierNews, names: &[Box<str>], now: Timestamp) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |orphan: &Orphan| now.since(orphan.at) > LONGEST;
        while kept.len() >= MOST || kept.front().is_some_and(is_old) {
            kept.pop_front();
        }
        kept.push_back(Orphan { provider: provider.into(), names: names.into(), news, at: now });
        self.count.store(kept.len(), Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Takes out what belongs to one of these names, oldest first.
    pub(super) fn adopt<'a>(
        &self,
        provider: &str,
        names: impl Iterator<Item = &'a Box<str>>,
        now: Timestamp,
    ) -> Vec<CarrierNews> {
        let names: Vec<_> = names.collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut adopted, mut rest) = (Vec::new(), VecDeque::new());
        for orphan in kept.drain(..) {
            let is_theirs =
                *orphan.provider == *provider && orphan.names.iter().any(|name| names.contains(&name));
            if is_theirs {
                adopted.push(orphan.news);
            } else if now.since(orphan.at) <= LONGEST {
                rest.push_back(orphan);
            }
        }
        *kept = rest;
        self.count.store(kept.len(), Ordering::Release);
        adopted
    }
}
