//! What of an installation lets people in and tells what they did: grants, counters, revocations, and the
//! audit trail with its numbers and hashes.

use crate::cli::Failure;
use crate::domain::time::{Clock, Timestamp};
use crate::store::Stores;
use crate::store::audit::AuditLog as _;
use crate::store::grants::Grants as _;
use crate::store::journal::Journal as _;
use crate::store::sqlite::SqliteStore;

/// Grants and audit entries of one read.
const PAGE: usize = 500;
/// Who tells the bus of audit entries, and the shard it keeps its place under.
const ANNOUNCER: &str = "audit";

/// Copies what lets somebody in; answers how many grants there were.
pub(super) async fn grants(source: &SqliteStore, target: &Stores) -> Result<u64, Failure> {
    let now = Clock.now();
    let (mut copied, mut last) = (0, None);
    loop {
        let page = source.grants_behind(last.as_ref(), now, PAGE).await?;
        let is_last = page.len() < PAGE;
        for grant in page {
            target.grants.put(grant.clone()).await?;
            copied += 1;
            last = Some(grant);
        }
        if is_last {
            break;
        }
    }
    for counter in source.counters(now).await? {
        for _ in 0..counter.counted.count {
            target.grants.count(&counter.key, counter.counted.resets_after, u64::MAX, now).await?;
        }
    }
    let (revocations, _) = source.revoked_since(Timestamp::from_millis(0)).await?;
    for revocation in revocations {
        target.grants.revoke(revocation).await?;
    }
    Ok(copied)
}

/// Copies the audit trail; answers how many entries it has.
pub(super) async fn audit(source: &SqliteStore, target: &Stores) -> Result<u64, Failure> {
    let mut last = 0;
    loop {
        let page = source.audit_after(last, PAGE).await?;
        if page.is_empty() {
            break;
        }
        last = target.audit.adopt_audit(page).await?;
    }
    if source.audit_end().await? != target.audit.audit_end().await? {
        return Err(Failure::failed("the audit trail is broken, or was added to: see `eml audit verify`"));
    }
    let told = source.cursors(ANNOUNCER).await?;
    target.journal.move_cursors(ANNOUNCER, &told).await?;
    Ok(last)
}
