//! Challenges: what somebody holds who showed one factor and owes another. They last minutes, work until the
//! right code comes, and hold no right of their own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::super::super::users;
use super::super::{Act, Origin};
use super::kept::{digest_of, is_enrolled};
use crate::domain::directory::User;
use crate::domain::id::{ClientId, SessionId, UserId};
use crate::domain::identity::factor::OFFER_LIFE;
use crate::domain::identity::{Actor, PermissionSet};
use crate::domain::time::Millis;
use crate::store::grants::{Grant, GrantKind};

/// How long somebody may look for the phone.
const LIFE: Millis = Millis::from_secs(300);

/// What somebody showed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstFactor {
    /// A password.
    Password,
    /// That an outside provider knows it.
    Outside,
}

/// What a second factor is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Purpose {
    /// To complete a sign-in.
    SignIn {
        /// What was shown already.
        first: FirstFactor,
        /// The client that it is for, and what that may do; absent for our own sign-in.
        client: Option<(ClientId, PermissionSet)>,
    },
    /// To do something critical in a session whose second factor was shown too long ago.
    StepUp {
        /// That session.
        session: SessionId,
    },
}

impl Purpose {
    /// To complete our own sign-in.
    #[must_use]
    pub const fn sign_in(first: FirstFactor) -> Self {
        Self::SignIn { first, client: None }
    }

    /// What was shown already, by the words of RFC 8176.
    #[must_use]
    pub fn methods(&self) -> Vec<&'static str> {
        match self {
            Self::SignIn { first: FirstFactor::Password, .. } => vec!["pwd"],
            Self::SignIn { first: FirstFactor::Outside, .. } => vec!["ext"],
            Self::StepUp { .. } => Vec::new(),
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::SignIn { .. } => Code::SecondFactorDue,
            Self::StepUp { .. } => Code::StepUpDue,
        }
    }
}

/// What is kept of a challenge.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    purpose: Purpose,
    /// The user's epoch: when it grew, what was shown before does not count any more.
    epoch: u64,
}

/// A challenge that is open, and whom it is about.
pub(super) struct Open {
    /// The user, as it is now.
    pub(super) user: User,
    /// What it is for.
    pub(super) purpose: Purpose,
    key: String,
}

/// The refusal that asks for a user's second factor, with a `challenge` in it. Where the user has none it
/// asks for the enrolment of one: `methods` says which.
///
/// # Errors
/// When the store does not take it.
pub async fn challenge(
    state: &EdgeState,
    user: &User,
    purpose: Purpose,
    origin: &Origin,
) -> Result<ApiError, ApiError> {
    let (life, methods): (_, &[&str]) = if is_enrolled(state, user.id).await? {
        (LIFE, &["totp", "recovery_code"])
    } else {
        (OFFER_LIFE, &["enroll"])
    };
    let (secret, now) = (URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()), state.engine.clock().now());
    let body = serde_json::to_value(Body { purpose, epoch: user.epoch });
    let grant = Grant {
        kind: GrantKind::Challenge,
        key: digest_of(&secret),
        subject: user.id.uuid(),
        body: body.map_err(|_| ApiError::new(Code::Internal))?,
        version: 1,
        created_at: now,
        expires_at: now + life,
    };
    state.engine.stores().grants.put(grant).await?;
    let (actor, subject) = (Actor::User { id: user.id }, Some(user.id.to_string()));
    let mut details = Map::new();
    details.insert("methods".to_owned(), methods.into());
    let what = "user.second_factor_asked";
    state.trail.note(Act { what, actor, subject, origin: Some(origin), details }).await?;
    let error = ApiError::new(purpose.code()).with("challenge", secret);
    Ok(error.with("expires_in", life.0 / 1000).with("methods", methods))
}

/// Finds an open challenge; it stays open.
///
/// # Errors
/// When there is none, or its user may not sign in any more or changed since.
pub(super) async fn find(state: &EdgeState, secret: &str) -> Result<Open, ApiError> {
    let over = || ApiError::new(Code::ChallengeOver);
    let (key, now) = (digest_of(secret), state.engine.clock().now());
    let grant = state.engine.stores().grants.get(GrantKind::Challenge, &key, now).await?.ok_or_else(over)?;
    let Body { purpose, epoch } = serde_json::from_value(grant.body).map_err(|_| over())?;
    let user = find_user(state, grant.subject).await?.filter(|user| user.enabled && user.epoch == epoch);
    Ok(Open { user: user.ok_or_else(over)?, purpose, key })
}

/// Ends a challenge; of several at a time one does.
///
/// # Errors
/// When another did.
pub(super) async fn end(state: &EdgeState, open: &Open) -> Result<(), ApiError> {
    let now = state.engine.clock().now();
    let taken = state.engine.stores().grants.take(GrantKind::Challenge, &open.key, now).await?;
    taken.map(|_| ()).ok_or_else(|| ApiError::new(Code::ChallengeOver))
}

/// A user as stored.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn find_user(state: &EdgeState, id: uuid::Uuid) -> Result<Option<User>, ApiError> {
    let account = users::by_id(&*state.engine.stores().records, UserId::from_uuid(id)).await?;
    Ok(account.map(|account| account.user))
}
