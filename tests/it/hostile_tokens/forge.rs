use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use eml::domain::id::{SessionId, UserId};
use eml::domain::time::Millis;
use eml::edge::auth::{Authority, EVERY, Holder};
use serde_json::{Value, json};

use crate::support::House;

/// A class of forged tokens, and its token of a number.
pub type Class = (&'static str, fn(&Forge, usize) -> String);

/// Makes tokens of every kind.
pub struct Forge {
    /// The key that the node signs with.
    ours: Ed25519KeyPair,
    /// A key that it has never heard of.
    theirs: Ed25519KeyPair,
    pub kid: String,
    good: String,
    user: UserId,
    pub revoked_session: SessionId,
    pub revoked_user: UserId,
    pub cluster_secret: Vec<u8>,
    pub refresh_token: String,
    made: AtomicUsize,
}

pub fn part(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Forge {
    pub async fn of(house: &House) -> Self {
        let edge = &house.node().edge;
        let stores = house.node().engine.stores();
        let key = Authority::stored(&*stores.records).await.unwrap().remove(0);
        let seed = edge.vault.derive(&format!("jwt:{}", key.salt));
        let ours = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let user = UserId::fresh();
        let good = house.node().authority.token_for(&Holder::admin(user), Millis::from_secs(3600)).unwrap();
        let (revoked_session, revoked_user) = (SessionId::fresh(), UserId::fresh());
        edge.gate.revoke(&*stores.grants, revoked_session.uuid(), EVERY).await.unwrap();
        edge.gate.revoke(&*stores.grants, revoked_user.uuid(), 7).await.unwrap();
        Self {
            ours,
            theirs: Ed25519KeyPair::generate().unwrap(),
            kid: key.kid,
            good,
            user,
            revoked_session,
            revoked_user,
            cluster_secret: edge.vault.derive("a guess").to_vec(),
            refresh_token: format!("{revoked_session}.1.{}", part([7; 32])),
            made: AtomicUsize::new(0),
        }
    }

    /// A token that is accepted.
    pub fn good(&self) -> &str {
        &self.good
    }

    /// The three parts of it.
    pub fn parts(&self) -> [&str; 3] {
        self.good.split('.').collect::<Vec<_>>().try_into().unwrap()
    }

    /// What an honest token of this node says; another one each time.
    pub fn honest(&self) -> Value {
        let body = BASE64_URL_SAFE_NO_PAD.decode(self.parts()[1]).unwrap();
        let mut claims: Value = serde_json::from_slice(&body).unwrap();
        claims["sub"] = self.user.to_string().into();
        claims["jti"] = format!("forged-{}", self.made.fetch_add(1, Ordering::Relaxed)).into();
        claims
    }

    pub fn head(&self) -> Value {
        json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.kid })
    }

    /// The head as the node writes it.
    pub fn right_head(&self) -> String {
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, self.kid)
    }

    /// Claims under the right head, signed with the node's own key.
    pub fn signed(&self, claims: &Value) -> String {
        self.signed_raw(&self.right_head(), claims.to_string().as_bytes())
    }

    /// Honest claims with one changed, signed with the node's own key.
    pub fn with(&self, claim: &str, value: Value) -> String {
        let mut claims = self.honest();
        claims[claim] = value;
        self.signed(&claims)
    }

    /// Honest claims without one, for one user after the other.
    pub fn without(&self, claim: &str) -> String {
        let mut claims = self.honest();
        claims["x"] = claims["jti"].clone();
        claims.as_object_mut().unwrap().remove(claim).unwrap();
        self.signed(&claims)
    }

    /// Any bytes, signed with the node's own key.
    pub fn signed_raw(&self, head: &str, body: &[u8]) -> String {
        let message = format!("{}.{}", part(head), part(body));
        let signature = self.ours.sign(message.as_bytes());
        format!("{message}.{}", part(signature))
    }

    /// Honest claims under another head, signed with the node's own key.
    pub fn headed(&self, head: &str) -> String {
        self.signed_raw(head, self.honest().to_string().as_bytes())
    }

    /// Honest claims under a head, signed with a key that the node does not know.
    pub fn foreign_under(&self, head: &str) -> String {
        let message = format!("{}.{}", part(head), part(self.honest().to_string()));
        let signature = self.theirs.sign(message.as_bytes());
        format!("{message}.{}", part(signature))
    }

    /// A whole token of somebody else.
    pub fn foreign(&self) -> String {
        let kid = hex::encode(&digest::digest(&digest::SHA256, self.their_public()).as_ref()[..16]);
        self.foreign_under(&format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#))
    }

    /// Honest claims under a head, with a code by a shared secret.
    pub fn coded(&self, algorithm: hmac::Algorithm, head: &str, secret: &[u8]) -> String {
        let message = format!("{}.{}", part(head), part(self.honest().to_string()));
        let code = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
        format!("{message}.{}", part(code))
    }

    pub fn public(&self) -> &[u8] {
        self.ours.public_key().as_ref()
    }

    pub fn their_public(&self) -> &[u8] {
        self.theirs.public_key().as_ref()
    }
}
