//! What must be kept of a sign-in while somebody is with an outside provider, and of a person who came back
//! until a page of ours asks for it.
//!
//! Both are grants that work once, under the hash of what their holder knows; their content is sealed, so
//! that whoever reads the store cannot finish a sign-in that somebody else began.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::person::Person;
use crate::domain::time::Millis;
use crate::store::grants::{Grant, GrantKind};

/// How long somebody may stay with a provider.
pub(super) const AWAY: Millis = Millis::from_secs(600);
/// How long a page may take to ask for a person who came back.
const HANDED_OVER: Millis = Millis::from_secs(60);
/// Letters of a code challenge of RFC 7636 with S256.
const CHALLENGE: usize = 43;

/// Where a page of ours wants its user back, and what proves that it is the page that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Return {
    /// There; one of the URLs that the provider's section lists.
    pub(super) url: String,
    /// Hash of what the page keeps (RFC 7636, S256).
    pub(super) challenge: String,
}

/// A sign-in that is under way.
#[derive(Serialize, Deserialize)]
pub(super) struct Journey {
    /// The provider's section.
    pub(super) provider: String,
    /// What its id token must have.
    pub(super) nonce: String,
    /// What redeems its code.
    pub(super) verifier: String,
    /// Hash of what the browser was given.
    pub(super) browser: String,
    /// Where it ends; absent when the answer is the end.
    pub(super) back: Option<Return>,
}

/// A person who came back to a page of ours.
#[derive(Serialize, Deserialize)]
pub(super) struct HandedOver {
    /// The provider's section.
    pub(super) provider: String,
    /// The person.
    pub(super) person: Person,
    /// Hash of what the page keeps.
    challenge: String,
}

/// 32 bytes that nobody guesses.
pub(super) fn fresh() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The hash under which something is kept that only its holder knows.
pub(super) fn hashed(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

/// Whether a text is the challenge of a verifier.
pub(super) fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE && URL_SAFE_NO_PAD.decode(text).is_ok()
}

/// Whether a verifier is the one behind a challenge.
fn proves(verifier: &str, challenge: &str) -> bool {
    let found = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    bool::from(found.as_bytes().ct_eq(challenge.as_bytes()))
}

impl Journey {
    /// Keeps a journey under its state.
    pub(super) async fn keep(&self, state: &EdgeState, name: &str) -> Result<(), ApiError> {
        keep(state, ("journey", name), self, AWAY).await
    }

    /// The journey of a state; it is gone then.
    pub(super) async fn take(state: &EdgeState, name: &str) -> Result<Option<Self>, ApiError> {
        take(state, ("journey", name)).await
    }
}

impl HandedOver {
    /// Keeps a person for a page; answers what the page asks with.
    pub(super) async fn keep(
        state: &EdgeState,
        provider: &str,
        person: Person,
        challenge: String,
    ) -> Result<String, ApiError> {
        let handoff = fresh();
        let handed = Self { provider: provider.to_owned(), person, challenge };
        keep(state, ("handoff", &handoff), &handed, HANDED_OVER).await?;
        Ok(handoff)
    }

    /// The person of a handoff, for the page that keeps what began it; it is gone then, also for a page
    /// that does not.
    ///
    /// # Errors
    /// `LinkNotUsable` when it was used, is too old, or belongs to another page or provider.
    pub(super) async fn take(
        state: &EdgeState,
        provider: &str,
        (handoff, verifier): (&str, &str),
    ) -> Result<Person, ApiError> {
        let found: Option<Self> = take(state, ("handoff", handoff)).await?;
        let found = found.filter(|handed| handed.provider == provider && proves(verifier, &handed.challenge));
        found.map(|handed| handed.person).ok_or(ApiError::new(Code::LinkNotUsable))
    }
}

async fn keep<T: Serialize + Sync>(
    state: &EdgeState,
    (use_, secret): (&str, &str),
    content: &T,
    life: Millis,
) -> Result<(), ApiError> {
    let now = state.engine.clock().now();
    let content = serde_json::to_vec(content).map_err(|_| ApiError::new(Code::Internal))?;
    let grant = Grant {
        kind: GrantKind::Outside,
        key: hashed(&format!("{use_}:{secret}")),
        subject: Uuid::nil(),
        body: Value::String(state.vault.seal(&label(use_), &content)?),
        version: 1,
        created_at: now,
        expires_at: now + life,
    };
    Ok(state.engine.stores().grants.put(grant).await?)
}

async fn take<T: DeserializeOwned>(
    state: &EdgeState,
    (use_, secret): (&str, &str),
) -> Result<Option<T>, ApiError> {
    let now = state.engine.clock().now();
    let key = hashed(&format!("{use_}:{secret}"));
    let grant = state.engine.stores().grants.take(GrantKind::Outside, &key, now).await?;
    let sealed = grant.as_ref().and_then(|grant| grant.body.as_str());
    let content = sealed.and_then(|sealed| state.vault.open(&label(use_), sealed));
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}

fn label(use_: &str) -> String {
    format!("outside:{use_}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_verifier_of_a_challenge_proves_it() {
        // The example of RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(is_challenge(challenge) && proves(verifier, challenge));
        assert!(!proves(challenge, challenge) && !proves("", challenge));
        for text in
            ["", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw c="]
        {
            assert!(!is_challenge(text), "{text}");
        }
    }
}
