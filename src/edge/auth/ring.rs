//! The keys that tokens are signed with: the newest signs, older ones verify until their tokens have
//! expired. What is stored of a key is no secret: the key follows from it and the vault.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::vault::{KeyError, Vault};
use crate::domain::time::{Millis, Timestamp};
use crate::store::records::StoredRecord;

/// Longest life of a token: how long a key verifies after it stopped to sign.
pub const LONGEST_LIFE: Millis = Millis::from_secs(86_400);
/// How long a new key is only shown before it signs, so that every node knows it by then.
pub(super) const SHOWN_FIRST: Millis = Millis::from_secs(5);

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its name in tokens.
    pub kid: String,
    /// What distinguishes it from others of the same vault.
    pub salt: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether all that it signed is refused.
    #[serde(default)]
    pub revoked: bool,
}

/// A key that may sign or verify.
pub(super) struct Key {
    pub(super) id: Uuid,
    pub(super) stored: SigningKey,
    /// The first part of each token that it signs, byte for byte; no other is accepted.
    pub(super) head: String,
    pair: Ed25519KeyPair,
    public: ParsedPublicKey,
    /// When it stops to verify, once there is a newer one.
    ends_at: Option<Timestamp>,
}

impl Key {
    /// The key that follows from a salt.
    ///
    /// # Errors
    /// When the library makes none of it.
    pub(super) fn derived(vault: &Vault, salt: &str, created_at: Timestamp) -> Result<Self, KeyError> {
        let unusable = || KeyError::Signing(salt.to_owned());
        let pair = Ed25519KeyPair::from_seed_unchecked(&vault.derive(&format!("jwt:{salt}")))
            .map_err(|_| unusable())?;
        let bytes = pair.public_key().as_ref();
        let public = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| unusable())?;
        let mut name = [0; 16];
        name.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
        let id = Uuid::from_bytes(name);
        let kid = id.simple().to_string();
        let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#));
        let stored = SigningKey { kid, salt: salt.to_owned(), created_at, revoked: false };
        Ok(Self { id, stored, head, pair, public, ends_at: None })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.stored.kid,
            "x": URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
        })
    }
}

/// The keys of a node that were not revoked, newest first.
pub(super) struct Ring(Vec<Key>);

impl Ring {
    /// The keys behind stored ones.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(super) fn of(vault: &Vault, mut stored: Vec<SigningKey>) -> Result<Self, KeyError> {
        stored.retain(|key| !key.revoked);
        stored.sort_by(|one, other| other.created_at.cmp(&one.created_at).then(other.kid.cmp(&one.kid)));
        let mut keys: Vec<Key> = Vec::with_capacity(stored.len());
        for stored in stored {
            let mut key = Key::derived(vault, &stored.salt, stored.created_at)?;
            key.ends_at = keys.last().map(|newer| newer.stored.created_at + SHOWN_FIRST + LONGEST_LIFE);
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// The key that signs.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&Key> {
        let is_known = |key: &&Key| key.stored.created_at + SHOWN_FIRST <= now;
        self.0.iter().find(is_known).or(self.0.last())
    }

    /// The key whose tokens begin with these characters.
    pub(super) fn of_head(&self, head: &str, now: Timestamp) -> Option<&Key> {
        self.0.iter().find(|key| key.head == head && key.is_live(now))
    }

    /// Whether a key may verify.
    pub(super) fn holds(&self, id: Uuid, now: Timestamp) -> bool {
        self.0.iter().any(|key| key.id == id && key.is_live(now))
    }

    /// The newest key, whether it signs already or not.
    pub(super) fn newest(&self) -> Option<&Key> {
        self.0.first()
    }

    /// The public keys that may verify (RFC 7517).
    pub(super) fn jwks(&self, now: Timestamp) -> Value {
        let live = self.0.iter().filter(|key| key.is_live(now));
        json!({ "keys": live.map(Key::jwk).collect::<Vec<_>>() })
    }
}

/// A token over claims, signed.
pub(super) fn sign(key: &Key, claims: &impl Serialize) -> Result<String, serde_json::Error> {
    let body = serde_json::to_vec(claims)?;
    let mut token = String::with_capacity(key.head.len() + body.len() * 4 / 3 + 92);
    token.push_str(&key.head);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&body, &mut token);
    let signature = key.pair.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
    Ok(token)
}

/// Reads what is stored of a key; `None` when this version does not understand it.
pub(super) fn read(record: &StoredRecord) -> Option<SigningKey> {
    serde_json::from_value(record.body.clone()).ok()
}
