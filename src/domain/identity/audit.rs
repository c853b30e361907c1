//! The audit trail: who did what, and the chain that shows that nothing was taken out or changed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::domain::id::{ClientId, UserId};
use crate::domain::time::Timestamp;

/// The hash before the first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Actor {
    /// Somebody who is not known, as before a sign-in.
    Unknown,
    /// A user.
    User {
        /// Which.
        #[schema(value_type = String)]
        id: UserId,
    },
    /// A client of the authorization server that acts for itself.
    Client {
        /// Which.
        #[schema(value_type = String)]
        id: ClientId,
    },
    /// Somebody with a shell on the host.
    Host,
}

impl Actor {
    /// In one word: an id with its prefix, or `host` or `unknown`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Unknown => "unknown".to_owned(),
            Self::User { id } => id.to_string(),
            Self::Client { id } => id.to_string(),
            Self::Host => "host".to_owned(),
        }
    }
}

/// One act, as it is stored and shown. Holds no password, token or code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// When it was done.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What was done, as an event type: `user.login_succeeded`, `role.changed` …
    pub what: String,
    /// Who did it.
    pub actor: Actor,
    /// What it was done to, as an id with its prefix; absent when there is no such thing.
    pub subject: Option<String>,
    /// Where it came from; absent when from the host itself.
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The node that took it.
    pub node: String,
    /// What else is known; a flat object.
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An entry in its place of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// The entry's JSON, byte for byte as it was hashed.
    pub body: String,
    /// Hash over the one before, the number and the body.
    pub hash: [u8; 32],
}

/// The hash of an entry: `SHA-256(before || number as 8 bytes, big-endian || body)`. The caller brings
/// the digest, since the domain has no cryptography of its own.
#[must_use]
pub fn chain_hash(
    sha256: impl FnOnce(&[u8]) -> [u8; 32],
    before: &[u8; 32],
    number: u64,
    body: &str,
) -> [u8; 32] {
    let mut input = Vec::with_capacity(40 + body.len());
    input.extend_from_slice(before);
    input.extend_from_slice(&number.to_be_bytes());
    input.extend_from_slice(body.as_bytes());
    sha256(&input)
}
