//! Codes that browsers carry to clients: each is exchanged once, within a minute. One that comes again was
//! stolen or kept: what it led to ends.

use serde::{Deserialize, Serialize};

use super::super::router::EdgeState;
use super::error::{Fault, OAuthError};
use super::journey::{Asked, Proof};
use super::pkce::Challenge;
use super::secret;
use crate::domain::id::SessionId;
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind};

/// How long a code waits for its exchange.
const LIFE: Millis = Millis::from_secs(60);
/// How long one is remembered after that, so that it is known when it comes again.
const KEPT: Millis = Millis::from_secs(24 * 3600);

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Use {
    /// Nobody has shown it.
    Fresh,
    /// Somebody has, and gets tokens.
    Taken,
    /// It led to this session.
    Led(SessionId),
    /// It came again, or with a wrong proof: it leads nowhere any more.
    Burnt,
}

/// What stands behind a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Code {
    /// The client, and what its user let it do.
    pub asked: Asked,
    /// The address that it was sent to.
    pub redirect_uri: String,
    /// Shown of the secret that the exchange needs.
    pub challenge: Challenge,
    /// Who signed in.
    pub proof: Proof,
    /// What became of it.
    pub used: Use,
    /// When it can be exchanged no more.
    until: Timestamp,
}

/// A code that was taken: nobody else gets it.
pub(super) struct Taken {
    /// What stands behind it.
    pub code: Code,
    grant: Grant,
}

/// What becomes of a code that somebody shows.
pub(super) enum Shown {
    /// It is the caller's.
    Taken(Box<Taken>),
    /// It was shown before, and led to this session.
    Again(Option<SessionId>, Box<Code>),
    /// There is no such code, or its time is over.
    Unknown,
}

fn broken(error: impl std::fmt::Display) -> OAuthError {
    tracing::error!(%error, "code cannot be read or written");
    OAuthError::new(Fault::ServerError, "a fault of ours")
}

/// Makes a code.
///
/// # Errors
/// When the store does not take it.
pub(super) async fn issue(
    state: &EdgeState,
    (asked, proof): (Asked, Proof),
    redirect_uri: String,
    challenge: Challenge,
) -> Result<String, OAuthError> {
    let now = state.engine.clock().now();
    let text = secret::fresh();
    let subject = proof.user_id.uuid();
    let code = Code { asked, redirect_uri, challenge, proof, used: Use::Fresh, until: now + LIFE };
    let grant = Grant {
        kind: GrantKind::Code,
        key: secret::key(&text),
        subject,
        body: serde_json::to_value(&code).map_err(broken)?,
        version: 1,
        created_at: now,
        expires_at: now + LIFE + KEPT,
    };
    state.engine.stores().grants.put(grant).await?;
    Ok(text)
}

/// Takes a code for its exchange. Of several at a time one gets it.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn take(state: &EdgeState, text: &str) -> Result<Shown, OAuthError> {
    let grants = &state.engine.stores().grants;
    let now = state.engine.clock().now();
    let key = secret::key(text);
    // Each turn sees what a faster one has made of it; after taken, led and burnt nothing follows.
    for _ in 0..4 {
        let Some(mut grant) = grants.get(GrantKind::Code, &key, now).await? else {
            return Ok(Shown::Unknown);
        };
        let mut code: Code = serde_json::from_value(grant.body.clone()).map_err(broken)?;
        let (next, session) = match code.used {
            Use::Fresh if code.until <= now => return Ok(Shown::Unknown),
            Use::Fresh => (Use::Taken, None),
            Use::Taken => (Use::Burnt, None),
            Use::Led(session) => (Use::Burnt, Some(session)),
            Use::Burnt => return Ok(Shown::Again(None, Box::new(code))),
        };
        let was_fresh = code.used == Use::Fresh;
        code.used = next;
        grant.body = serde_json::to_value(&code).map_err(broken)?;
        match grants.replace(grant.clone()).await {
            Ok(version) if was_fresh => {
                grant.version = version;
                return Ok(Shown::Taken(Box::new(Taken { code, grant })));
            }
            Ok(_) => return Ok(Shown::Again(session, Box::new(code))),
            Err(StoreError::Changed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OAuthError::new(Fault::Unavailable, "try again"))
}

/// Notes what a code led to. Answers whether it came again meanwhile: then the session must not live.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn led_to(state: &EdgeState, taken: Taken, used: Use) -> Result<bool, OAuthError> {
    let Taken { mut code, mut grant } = taken;
    code.used = used;
    grant.body = serde_json::to_value(&code).map_err(broken)?;
    match state.engine.stores().grants.replace(grant).await {
        Ok(_) => Ok(true),
        Err(StoreError::Changed) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
