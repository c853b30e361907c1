//! Configuration records: queues, agents, skills, numbers, activities, dispositions, users.
//!
//! One small document per thing, with a unique key per kind and a version for optimistic locking.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::time::Timestamp;

/// The kinds of configuration records; the text is what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// A person who can sign in.
    User,
    /// An agent.
    Agent,
    /// A queue.
    Queue,
    /// A skill.
    Skill,
    /// An inbound number.
    Number,
    /// An activity.
    Activity,
    /// A disposition.
    Disposition,
    /// What a role may do, by its name.
    Role,
    /// A client of the authorization server, by its id.
    Client,
    /// An e-mail address that a user has, so that no other gets it.
    Email,
    /// The user behind somebody whom an outside provider knows.
    OutsideIdentity,
    /// A key that tokens are signed with; holds no secret of its own.
    SigningKey,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::User,
        Self::Agent,
        Self::Queue,
        Self::Skill,
        Self::Number,
        Self::Activity,
        Self::Disposition,
        Self::Role,
        Self::Client,
        Self::Email,
        Self::OutsideIdentity,
        Self::SigningKey,
    ];

    /// The stored word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Queue => "queue",
            Self::Skill => "skill",
            Self::Number => "number",
            Self::Activity => "activity",
            Self::Disposition => "disposition",
            Self::Role => "role",
            Self::Client => "client",
            Self::Email => "email",
            Self::OutsideIdentity => "outside_identity",
            Self::SigningKey => "signing_key",
        }
    }
}

/// Most requests without a call that a database keeps.
pub(super) const MOST_ORPHANS: i64 = 100_000;

/// A record as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// Its bare id.
    pub id: Uuid,
    /// Unique among its kind: a login, a number, a name.
    pub key: String,
    /// Its content.
    pub body: serde_json::Value,
    /// Grows by one with each change, from 1.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An answer that was given to a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RememberedAnswer {
    /// Hash of the request's body, to notice another request with the same key.
    pub request_hash: String,
    /// The HTTP status; 0 while the first request is still running.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// A request that wants to be the one with its idempotency key.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The key, with the scope the edge gave it.
    pub key: &'a str,
    /// Hash of the request's body.
    pub request_hash: &'a str,
    /// When it came.
    pub now: Timestamp,
    /// Keys that were claimed before are forgotten.
    pub expired_before: Timestamp,
    /// A request that was claimed before and still has no answer died with its node: the same
    /// request may claim its key again.
    pub abandoned_before: Timestamp,
}

/// Where configuration records are kept, and the few small things that live beside them.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// All records of a kind, by key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn all(&self, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError>;

    /// One record by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn by_id(&self, kind: RecordKind, id: Uuid) -> Result<Option<StoredRecord>, StoreError>;

    /// One record by key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn by_key(&self, kind: RecordKind, key: &str) -> Result<Option<StoredRecord>, StoreError>;

    /// Stores a new record with version 1.
    ///
    /// # Errors
    /// `Exists` when the key or the id is taken.
    async fn insert(&self, kind: RecordKind, record: StoredRecord) -> Result<(), StoreError>;

    /// Replaces a record's key, body and `updated_at`; `record.version` is the version that was
    /// read. Answers with the new version.
    ///
    /// # Errors
    /// `Changed` when the stored version is another or the record is gone, `Exists` when the new
    /// key is taken.
    async fn update(&self, kind: RecordKind, record: StoredRecord) -> Result<u64, StoreError>;

    /// Removes a record; answers whether there was one.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn remove(&self, kind: RecordKind, id: Uuid) -> Result<bool, StoreError>;

    /// Claims an idempotency key: answers `None` when it is now the caller's, else what is stored
    /// under it. Expired keys are forgotten first.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn claim_key(&self, claim: Claim<'_>) -> Result<Option<RememberedAnswer>, StoreError>;

    /// Replaces what is stored under an idempotency key; `None` gives the key free again.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn settle_key(&self, key: &str, answer: Option<RememberedAnswer>) -> Result<(), StoreError>;

    /// Keeps a provider's request that belongs to no known call; the oldest of too many give way.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn keep_orphan(
        &self,
        provider: &str,
        name: &str,
        fields: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;
}
