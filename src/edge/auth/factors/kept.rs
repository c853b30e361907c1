//! Second factors where they are kept: one grant per user, changed by whoever read the latest version.

use aws_lc_rs::digest::{SHA256, digest};

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::totp::TotpSecret;
use crate::domain::id::UserId;
use crate::domain::identity::Factor;
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind, Grants};

/// How long a factor counts that nobody removes: a hundred years.
const LIFE: Millis = Millis::from_secs(100 * 365 * 86_400);

/// A user's factor with the version that was read.
pub(super) struct Kept {
    /// The factor.
    pub(super) factor: Factor,
    /// Whose it is.
    pub(super) user: UserId,
    /// 0 when there is none yet.
    version: u64,
    created_at: Timestamp,
}

/// Reads a user's factor; an empty one where there is none.
///
/// # Errors
/// When the store cannot be read, or holds something else.
pub(super) async fn read(state: &EdgeState, user: UserId) -> Result<Kept, ApiError> {
    let now = state.engine.clock().now();
    let grants = &state.engine.stores().grants;
    let Some(grant) = grants.get(GrantKind::Factor, &key(user), now).await? else {
        return Ok(Kept { factor: Factor::default(), user, version: 0, created_at: now });
    };
    let factor = serde_json::from_value(grant.body).map_err(|error| {
        tracing::error!(%error, user = %user, "second factor cannot be read");
        ApiError::new(Code::Internal)
    })?;
    Ok(Kept { factor, user, version: grant.version, created_at: grant.created_at })
}

/// Whether a user has a second factor that counts.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_enrolled(state: &EdgeState, user: UserId) -> Result<bool, ApiError> {
    Ok(read(state, user).await?.factor.active.is_some())
}

/// Stores what became of a factor; answers whether nobody else changed it since it was read, so that this
/// is what counts.
///
/// # Errors
/// When the store cannot be written.
pub(super) async fn write(state: &EdgeState, kept: &Kept, next: &Factor) -> Result<bool, ApiError> {
    let now = state.engine.clock().now();
    // What was never confirmed goes by itself.
    let expires_at = match (&next.active, &next.offer) {
        (None, Some(offer)) => offer.until,
        (Some(_), _) | (None, None) => now + LIFE,
    };
    let grant = Grant {
        kind: GrantKind::Factor,
        key: key(kept.user),
        subject: kept.user.uuid(),
        body: serde_json::to_value(next).map_err(|_| ApiError::new(Code::Internal))?,
        version: kept.version.max(1),
        created_at: kept.created_at,
        expires_at,
    };
    let grants = &state.engine.stores().grants;
    let written = match kept.version {
        0 => grants.put(grant).await,
        _ => grants.replace(grant).await.map(|_| ()),
    };
    match written {
        Ok(()) => Ok(true),
        Err(StoreError::Changed | StoreError::Exists(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes a user's factor; answers whether there was one. Also for those who have only the store.
///
/// # Errors
/// When the store cannot be written.
pub async fn forget(grants: &dyn Grants, user: UserId) -> Result<bool, StoreError> {
    Ok(grants.take_all(GrantKind::Factor, user.uuid()).await? > 0)
}

/// A secret as it is stored.
///
/// # Errors
/// When it cannot be sealed.
pub(super) fn seal(state: &EdgeState, user: UserId, secret: &TotpSecret) -> Result<String, ApiError> {
    state.vault.seal(&label(user), secret.bytes())
}

/// A stored secret.
///
/// # Errors
/// When it was sealed for somebody else, or with another key.
pub(super) fn open(state: &EdgeState, user: UserId, sealed: &str) -> Result<TotpSecret, ApiError> {
    let bytes = state.vault.open(&label(user), sealed);
    bytes.and_then(|bytes| TotpSecret::of_bytes(&bytes)).ok_or_else(|| {
        tracing::error!(user = %user, "secret of a second factor cannot be opened");
        ApiError::new(Code::Internal)
    })
}

/// SHA-256 of a secret that somebody holds, as the key of a grant.
pub(super) fn digest_of(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

fn key(user: UserId) -> String {
    user.uuid().to_string()
}

/// Binds a sealed secret to its user, so that it cannot be moved to another.
fn label(user: UserId) -> String {
    format!("totp:{user}")
}
