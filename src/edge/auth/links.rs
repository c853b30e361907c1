//! Links with which somebody sets a password: the first admin, whoever is invited, whoever forgot theirs.
//!
//! A link carries 256 bits of chance; the store has the SHA-256 of them. It works once.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::error::{ApiError, Code};
use super::secret::Secret;
use crate::domain::id::UserId;
use crate::domain::identity::{Email, RoleName};
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind, Grants};

/// What a link begins with, so that it is known for what it is where it should not be.
const MARK: &str = "lnk_";
/// Longest text that is looked at, in bytes.
const LONGEST: usize = 128;

/// What a link is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "purpose")]
pub enum Purpose {
    /// Makes the first admin, as long as there is no user at all.
    FirstAdmin,
    /// Makes an admin, whoever is there: asked for on the host.
    Recovery,
    /// Makes a user.
    Invitation {
        /// What it will be.
        roles: BTreeSet<RoleName>,
        /// Where the link was sent.
        email: Option<Email>,
        /// Who invited.
        invited_by: UserId,
    },
    /// Sets the password of a user that did not change otherwise in the meantime.
    Password {
        /// Whose.
        user_id: UserId,
        /// The user's epoch when the link was made.
        epoch: u64,
    },
}

impl Purpose {
    /// Whom a link is about; nil when that is nobody yet.
    const fn subject(&self) -> Uuid {
        match self {
            Self::FirstAdmin | Self::Recovery => Uuid::nil(),
            Self::Invitation { invited_by, .. } => invited_by.uuid(),
            Self::Password { user_id, .. } => user_id.uuid(),
        }
    }

    /// What the page that opens a link shows.
    const fn page(&self) -> &'static str {
        match self {
            Self::FirstAdmin | Self::Recovery => "setup",
            Self::Invitation { .. } => "invitation",
            Self::Password { .. } => "password",
        }
    }
}

/// A link that was made. Nobody sees it again.
#[derive(Clone, Serialize, ToSchema)]
pub struct MadeLink {
    /// What is sent to the API.
    pub link: String,
    /// The page that does it in a browser; what stands after `#` never reaches a log.
    pub url: String,
    /// When it stops to work.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Shows no link.
impl std::fmt::Debug for MadeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeLink").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

fn key(link: &str) -> String {
    hex::encode(digest(&SHA256, link.as_bytes()))
}

/// Makes a link; `public_url` is how the outside reaches us.
///
/// # Errors
/// When the store does not take it.
pub async fn make(
    grants: &dyn Grants,
    purpose: &Purpose,
    public_url: &str,
    life: Millis,
    now: Timestamp,
) -> Result<MadeLink, StoreError> {
    let link = format!("{MARK}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let expires_at = now + life;
    let grant = Grant {
        kind: GrantKind::Link,
        key: key(&link),
        subject: purpose.subject(),
        body: serde_json::to_value(purpose).map_err(|error| StoreError::Refused(error.to_string()))?,
        version: 1,
        created_at: now,
        expires_at,
    };
    grants.put(grant).await?;
    let url = format!("{}/auth/link#{}:{link}", public_url.trim_end_matches('/'), purpose.page());
    Ok(MadeLink { link, url, expires_at })
}

/// What a link is good for; it stays as it is.
///
/// # Errors
/// `LinkNotUsable` when there is none, or its time is over.
pub async fn look(grants: &dyn Grants, link: &Secret, now: Timestamp) -> Result<Purpose, ApiError> {
    let link = link.expose();
    if link.len() > LONGEST || !link.starts_with(MARK) {
        return Err(not_usable());
    }
    let grant = grants.get(GrantKind::Link, &key(link), now).await?.ok_or_else(not_usable)?;
    serde_json::from_value(grant.body).map_err(|_| not_usable())
}

/// Uses a link up. Of several callers at a time one gets it.
///
/// # Errors
/// `LinkNotUsable` when it is not there any more.
pub async fn take(grants: &dyn Grants, link: &Secret, now: Timestamp) -> Result<Grant, ApiError> {
    grants.take(GrantKind::Link, &key(link.expose()), now).await?.ok_or_else(not_usable)
}

/// Puts a link back that was taken for nothing.
///
/// # Errors
/// When the store does not take it.
pub async fn put_back(grants: &dyn Grants, link: Grant) -> Result<(), ApiError> {
    match grants.put(link).await {
        Ok(()) | Err(StoreError::Exists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is answered whatever is wrong with a link.
#[must_use]
pub fn not_usable() -> ApiError {
    ApiError::new(Code::LinkNotUsable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const LIFE: Millis = Millis::from_secs(60);

    #[tokio::test]
    async fn a_link_works_once_and_for_a_while() {
        let store = MemoryStore::default();
        let purpose = Purpose::Password { user_id: UserId::fresh(), epoch: 3 };
        let made = make(&store, &purpose, "https://eml.example.org/", LIFE, NOW).await.unwrap();
        assert_eq!(made.url, format!("https://eml.example.org/auth/link#password:{}", made.link));
        let link = Secret::new(made.link.clone());
        assert_eq!(look(&store, &link, NOW).await.unwrap(), purpose);
        assert!(look(&store, &link, NOW + LIFE).await.is_err(), "it is too old");
        let takes = futures_util::future::join_all((0..20).map(|_| take(&store, &link, NOW))).await;
        assert_eq!(takes.iter().filter(|taken| taken.is_ok()).count(), 1);
        for text in [made.link.as_str(), "", "lnk_", "x", &"lnk_".repeat(100)] {
            let refused = look(&store, &Secret::new(text.to_owned()), NOW).await.unwrap_err();
            assert_eq!(refused.code(), Code::LinkNotUsable, "{text}");
        }
    }

    #[tokio::test]
    async fn whoever_reads_the_store_has_no_link() {
        let store = MemoryStore::default();
        let made = make(&store, &Purpose::Recovery, "https://x", LIFE, NOW).await.unwrap();
        let stored = store.about(GrantKind::Link, Uuid::nil(), NOW).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert!(!format!("{stored:?} {made:?}").contains(&made.link));
    }
}
