//! Grants: what lets somebody in, for a while. Sessions, codes, invitations, second factors, and what
//! takes them away again.
//!
//! Each is one small document under a key that the holder proves to know, with a version by which one of
//! several changes at a time wins. Products: memory, SQLite and PostgreSQL. All pass the contract suite in
//! `tests/it/grants_contract.rs`.

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use super::cache::Counted;
use super::error::StoreError;
use crate::domain::time::{Millis, Timestamp};

/// The kinds of grants; the text is what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantKind {
    /// A sign-in: the family of refresh tokens that follow each other. Key: the session's id.
    Session,
    /// A second factor that is due before a sign-in is complete, or for a critical act.
    Challenge,
    /// A user's second factor, its last used step and its recovery codes. Key: the user's id.
    Factor,
    /// A link with which somebody sets a password: first start, invitation, or a forgotten one.
    Link,
    /// A code of the authorization server that waits for its exchange.
    Code,
    /// A device that waits for its user's consent, by what the device knows.
    Device,
    /// The same by what the user types.
    DeviceUserCode,
    /// A sign-in with an outside provider that is under way.
    Outside,
    /// A place from which a user signed in before. Key: hash of user and place.
    KnownPlace,
    /// What a user let a client do. Key: user and client.
    Consent,
}

impl GrantKind {
    /// The kind of a stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Session,
        Self::Challenge,
        Self::Factor,
        Self::Link,
        Self::Code,
        Self::Device,
        Self::DeviceUserCode,
        Self::Outside,
        Self::KnownPlace,
        Self::Consent,
    ];

    /// The stored word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Challenge => "challenge",
            Self::Factor => "factor",
            Self::Link => "link",
            Self::Code => "code",
            Self::Device => "device",
            Self::DeviceUserCode => "device_user_code",
            Self::Outside => "outside",
            Self::KnownPlace => "known_place",
            Self::Consent => "consent",
        }
    }
}

/// A grant as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// What it is.
    pub kind: GrantKind,
    /// Unique among its kind: a bare id, or the SHA-256 in hex of what the holder knows. Never the secret
    /// itself: whoever reads the store must not be able to use what is in it.
    pub key: String,
    /// Whom it is about: a user or client; nil when that is not known yet.
    pub subject: Uuid,
    /// Its content.
    pub body: Value,
    /// Grows by one with each change, from 1.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to count; the store may forget it any time after that.
    pub expires_at: Timestamp,
}

/// Tokens that were given out and shall not be accepted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// A user, client, session or signing key.
    pub subject: Uuid,
    /// Tokens of this subject with a smaller epoch are refused; `u64::MAX >> 1` refuses all.
    pub least_epoch: u64,
    /// When it was revoked, by the store's clock.
    pub at: Timestamp,
    /// When the last such token will have expired, so that this can be forgotten.
    pub until: Timestamp,
}

/// Most of each sort that are forgotten at a time.
pub(super) const FORGOTTEN_AT_A_TIME: usize = 1_000;

/// Where a counter stands that ends at some time.
pub(super) fn counted(count: u64, ends_at: Timestamp, now: Timestamp) -> Counted {
    Counted { count, resets_after: ends_at.since(now) }
}

/// Where grants are kept.
#[async_trait]
pub trait Grants: Send + Sync + 'static {
    /// Stores a new grant with version 1. One whose time was over when this one was made gives way.
    ///
    /// # Errors
    /// `Exists` when there is a living one with this kind and key.
    async fn put(&self, grant: Grant) -> Result<(), StoreError>;

    /// A grant that still counts at `now`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn get(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError>;

    /// All grants of a kind about somebody that still count at `now`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn about(&self, kind: GrantKind, subject: Uuid, now: Timestamp) -> Result<Vec<Grant>, StoreError>;

    /// Replaces subject, body and `expires_at`; `grant.version` and `grant.created_at` are what was
    /// read. Answers with the new version. Of several at a time one wins.
    ///
    /// # Errors
    /// `Changed` when the stored version is another, or the grant is gone or was made anew.
    async fn replace(&self, grant: Grant) -> Result<u64, StoreError>;

    /// Removes a grant and answers it, if it still counts at `now`. Of several callers at a time one
    /// gets it.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn take(&self, kind: GrantKind, key: &str, now: Timestamp) -> Result<Option<Grant>, StoreError>;

    /// Removes all grants of a kind about somebody; answers how many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn take_all(&self, kind: GrantKind, subject: Uuid) -> Result<u64, StoreError>;

    /// Forgets what does not count any more at `now`, a bounded number at a time: grants, counters and
    /// revocations. Answers how many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Counts one event of a key in a fixed window that starts with its first event; survives restarts
    /// and is shared by all nodes. An event beyond `most` is told, as one more than are counted, but not
    /// counted.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn count(
        &self,
        key: &str,
        window: Millis,
        most: u64,
        now: Timestamp,
    ) -> Result<Counted, StoreError>;

    /// Ends a counter, as after a success.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_count(&self, key: &str) -> Result<(), StoreError>;

    /// Refuses tokens from now on, on all nodes; the larger epoch and the later end count where there is
    /// one already. `at` of the argument is ignored: the store's clock sets it.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError>;

    /// Revocations at or after `since` by the store's clock, in no order, and the store's time now.
    /// A reader goes back some seconds each time, since a commit may show later than its time says.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn revoked_since(&self, since: Timestamp) -> Result<(Vec<Revocation>, Timestamp), StoreError>;
}
