//! The chain of audit entries: adding to it, and finding where it was broken.

use aws_lc_rs::digest::{SHA256, digest};

use super::AuditLog;
use crate::domain::identity::{AuditEntry, GENESIS, Sealed, chain_hash};
use crate::store::error::StoreError;

/// Entries that are checked at a time.
const VERIFY_PAGE: usize = 1_000;

/// Where a chain ends: the number and the hash of its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEnd {
    /// Number of the last entry, 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self { number: 0, hash: GENESIS }
    }
}

impl ChainEnd {
    /// Puts an entry behind the last one, and is behind it then.
    fn seal(&mut self, body: String) -> Sealed {
        let number = self.number.saturating_add(1);
        let hash = chain_hash(sha256, &self.hash, number, &body);
        *self = Self { number, hash };
        Sealed { number, body, hash }
    }

    /// Goes on to an entry that was read, if it is the one that belongs there; else answers with what
    /// is wrong.
    ///
    /// # Errors
    /// When the chain is broken at this place.
    pub fn follow(&mut self, entry: &Sealed) -> Result<(), Break> {
        let number = self.number.saturating_add(1);
        if entry.number != number {
            return Err(Break { number, why: Wrong::Missing });
        }
        if chain_hash(sha256, &self.hash, number, &entry.body) != entry.hash {
            return Err(Break { number, why: Wrong::Hash });
        }
        *self = Self { number, hash: entry.hash };
        Ok(())
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} {why}")]
pub struct Break {
    /// The first number that is not as it was.
    pub number: u64,
    /// What is wrong there.
    pub why: Wrong,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It, or its hash, was changed.
    #[error("was changed")]
    Hash,
    /// What lists are filtered by says something else than the entry itself.
    #[error("is listed as something that it is not")]
    Columns,
}

/// Walks a whole chain and answers where it ends. `known` are ends that it had at some time, as noted
/// elsewhere: whoever can write the store can make a chain anew, and only they show that.
///
/// # Errors
/// When it cannot be read. `Ok(Err(…))` names the first break.
pub async fn verify(log: &dyn AuditLog, known: &[ChainEnd]) -> Result<Result<ChainEnd, Break>, StoreError> {
    let mut landmarks = known.to_vec();
    // Read first: entries that come meanwhile are behind it.
    landmarks.push(log.audit_end().await?);
    let mut end = ChainEnd::default();
    loop {
        let page = match log.audit_after(end.number, VERIFY_PAGE).await {
            Ok(page) => page,
            Err(error) => return first_corrupt(log, end, error).await.map(Err),
        };
        for entry in &page {
            if let Err(broken) = end.follow(entry) {
                return Ok(Err(broken));
            }
            if landmarks.iter().any(|mark| mark.number == end.number && mark.hash != end.hash) {
                return Ok(Err(Break { number: end.number, why: Wrong::Hash }));
            }
        }
        if page.len() < VERIFY_PAGE {
            let is_short = landmarks.iter().any(|mark| mark.number > end.number);
            let missing = Break { number: end.number.saturating_add(1), why: Wrong::Missing };
            return Ok(if is_short { Err(missing) } else { Ok(end) });
        }
    }
}

/// Finds the first break of a page that cannot be read whole.
async fn first_corrupt(
    log: &dyn AuditLog,
    mut end: ChainEnd,
    error: StoreError,
) -> Result<Break, StoreError> {
    if !matches!(error, StoreError::Corrupt { .. }) {
        return Err(error);
    }
    loop {
        let number = end.number.saturating_add(1);
        match log.audit_after(end.number, 1).await {
            Ok(page) => match page.first().map(|entry| end.follow(entry)) {
                Some(Ok(())) => {}
                Some(Err(broken)) => return Ok(broken),
                None => return Err(error),
            },
            Err(StoreError::Corrupt { .. }) => return Ok(Break { number, why: Wrong::Columns }),
            Err(error) => return Err(error),
        }
    }
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut hash = GENESIS;
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// An entry on its way into a store.
pub(in crate::store) struct Link {
    pub(in crate::store) columns: Columns,
    pub(in crate::store) sealed: Sealed,
}

/// New entries in their places behind an end, and the end behind them.
pub(in crate::store) fn seal_all(
    mut end: ChainEnd,
    entries: &[AuditEntry],
) -> Result<(Vec<Link>, ChainEnd), StoreError> {
    let mut links = Vec::with_capacity(entries.len());
    for entry in entries {
        let body = serde_json::to_string(entry)
            .map_err(|error| StoreError::Refused(format!("audit entry {}: {error}", entry.what)))?;
        links.push(Link { columns: Columns::of(entry), sealed: end.seal(body) });
    }
    Ok((links, end))
}

/// Entries of another store behind an end, and the end behind them.
pub(in crate::store) fn adopt_all(
    mut end: ChainEnd,
    entries: Vec<Sealed>,
) -> Result<(Vec<Link>, ChainEnd), StoreError> {
    let mut links = Vec::with_capacity(entries.len());
    for sealed in entries {
        end.follow(&sealed).map_err(|broken| StoreError::Refused(broken.to_string()))?;
        let columns = Columns::read(&sealed.body)
            .ok_or_else(|| StoreError::Refused(format!("entry {} makes no sense", sealed.number)))?;
        links.push(Link { columns, sealed });
    }
    Ok((links, end))
}

/// What a product keeps beside an entry, to find it by.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Columns {
    pub(in crate::store) at: i64,
    pub(in crate::store) what: String,
    pub(in crate::store) actor: String,
    pub(in crate::store) subject: Option<String>,
}

impl Columns {
    fn of(entry: &AuditEntry) -> Self {
        Self {
            at: entry.at.millis(),
            what: entry.what.clone(),
            actor: entry.actor.word(),
            subject: entry.subject.clone(),
        }
    }

    fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok().map(|entry| Self::of(&entry))
    }

    /// Whether an entry is found by what it says.
    pub(in crate::store) fn belong_to(&self, body: &str) -> bool {
        Self::read(body).is_some_and(|columns| columns == *self)
    }
}
