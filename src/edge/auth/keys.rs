//! Tokens: JWTs signed with Ed25519 (RFC 8037), the algorithm fixed by the key.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use serde_json::Value;
use uuid::Uuid;

use super::super::error::{ApiError, Code};
use super::claims::{AUDIENCE, Claims, Holder, Subject};
use super::gate::{EVERY, KEYS_CHANGED};
use super::ring::{self, Key, Ring, SHOWN_FIRST, SigningKey};
use super::vault::{KeyError, Vault};
use crate::domain::id::RequestId;
use crate::domain::time::{Clock, Millis, Timestamp};
use crate::store::grants::Revocation;
use crate::store::records::{RecordKind, Records, StoredRecord};
use crate::store::{StoreError, Stores};

pub use super::ring::LONGEST_LIFE;

/// Longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;
/// How far the clock of the node that made a token may be ahead of ours, in seconds.
const AHEAD: i64 = 5;
/// Checked tokens that are remembered.
const REMEMBERED: u64 = 100_000;
/// Tries to store a change of the keys while others change them.
const TRIES: u32 = 5;
/// What the salt of a vault's first key is made from. Whoever knows the master secret can tell it, so
/// that programs beside a node sign for it without reading its store.
const FIRST: &str = "first signing key";

/// Makes and checks tokens.
pub struct Authority {
    vault: Arc<Vault>,
    issuer: String,
    /// How long a key signs until the next one is made.
    key_life: Millis,
    ring: RwLock<Arc<Ring>>,
    good: Cache<[u8; 32], Arc<Claims>>,
}

impl Authority {
    /// An authority that knows the vault's first key only; `keep_up` reads what is stored.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(vault: Arc<Vault>, issuer: &str, key_life: Millis) -> Result<Self, KeyError> {
        let first = first(&vault, Timestamp::from_millis(0))?;
        let ring = Ring::of(&vault, vec![first])?;
        let good = Cache::builder().max_capacity(REMEMBERED).time_to_live(LONGEST_LIFE.duration()).build();
        let ring = RwLock::new(Arc::new(ring));
        Ok(Self { vault, issuer: issuer.to_owned(), key_life, ring, good })
    }

    /// What signs and checks tokens is derived from.
    #[must_use]
    pub const fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Who signs tokens, as they name it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Claims about somebody who has just shown who it is, with everything that all tokens have.
    #[must_use]
    pub fn claims(&self, sub: Subject, life: Millis) -> Claims {
        let now = Clock.now();
        let seconds = now.millis() / 1000;
        Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub,
            client_id: None,
            sid: None,
            roles: std::collections::BTreeSet::new(),
            scope: None,
            agent: None,
            epoch: 0,
            iat: seconds,
            // The clock of the node that checks it may be behind ours.
            nbf: seconds - AHEAD,
            exp: (now + life.min(LONGEST_LIFE)).millis() / 1000,
            jti: RequestId::fresh().uuid().simple().to_string(),
            auth_time: seconds,
            amr: vec!["pwd".to_owned()],
            key: Uuid::nil(),
        }
    }

    /// A token that says this.
    ///
    /// # Errors
    /// When there is no key, which is a fault of ours.
    pub fn mint(&self, claims: &Claims) -> Result<String, ApiError> {
        let ring = self.ring();
        let key = ring.signing(Clock.now()).ok_or_else(|| {
            tracing::error!("there is no key to sign tokens with");
            ApiError::new(Code::Internal)
        })?;
        ring::sign(key, claims).map_err(|error| {
            tracing::error!(%error, "token cannot be written");
            ApiError::new(Code::Internal)
        })
    }

    /// A token for somebody who does not sign in, without a session.
    ///
    /// # Errors
    /// As `mint`.
    pub fn token_for(&self, holder: &Holder, life: Millis) -> Result<String, ApiError> {
        let Holder { user_id, roles, agent_id } = holder.clone();
        let claims = self.claims(Subject::User(user_id), life);
        self.mint(&Claims { roles, agent: agent_id, ..claims })
    }

    /// What a token says, if it is one of ours and its time is now. Whether it was revoked is the
    /// gate's to know.
    ///
    /// # Errors
    /// `TokenExpired` when only its time is over, else `NoToken`.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, ApiError> {
        if token.len() > LONGEST {
            return Err(ApiError::new(Code::NoToken));
        }
        let now = Clock.now();
        let ring = self.ring();
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.good.get(&name).filter(|known| ring.holds(known.key, now)) {
            return in_time(&known, now).map(|()| known);
        }
        let claims = self.check(&ring, token, now).ok_or(ApiError::new(Code::NoToken))?;
        in_time(&claims, now)?;
        let claims = Arc::new(claims);
        self.good.insert(name, claims.clone());
        Ok(claims)
    }

    /// Everything but the time.
    fn check(&self, ring: &Ring, token: &str, now: Timestamp) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (head, body) = message.split_once('.')?;
        // The head names the key, and is the one that this key writes: algorithm, type and everything
        // else in it are fixed with that.
        let key = ring.of_head(head, now)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !key.verifies(message.as_bytes(), &signature) {
            return None;
        }
        let body = URL_SAFE_NO_PAD.decode(body).ok()?;
        let mut claims: Claims = serde_json::from_slice(&body).ok()?;
        let is_ours = claims.iss == self.issuer && claims.aud == AUDIENCE;
        let is_sane = claims.nbf < claims.exp
            && claims
                .exp
                .checked_sub(claims.iat)
                .is_some_and(|life| i64::try_from(LONGEST_LIFE.0 / 1000).is_ok_and(|most| life <= most));
        claims.key = key.id;
        (is_ours && is_sane).then_some(claims)
    }

    /// The public keys that verify tokens at this moment (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.ring().jwks(Clock.now())
    }

    /// Reads the keys of the store, writes the first one when there is none, and makes the next one when
    /// the newest is old enough.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn keep_up(&self, stores: &Stores) -> Result<(), StoreError> {
        self.reload(&*stores.records).await?;
        if self.is_due(Clock.now()) {
            let kid = self.rotate(stores).await?;
            tracing::info!(kid, "the key that signs tokens is old: another one follows");
        }
        Ok(())
    }

    /// Whether it is time for another key.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.ring().newest().is_none_or(|key| key.stored.created_at + self.key_life <= now)
    }

    async fn reload(&self, records: &dyn Records) -> Result<(), StoreError> {
        let mut stored = records.all(RecordKind::SigningKey).await?;
        if stored.is_empty() {
            let key = first(&self.vault, Clock.now()).map_err(refused)?;
            match insert(records, 1, &key).await {
                // Another node begins at the same time.
                Ok(()) | Err(StoreError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
            stored = records.all(RecordKind::SigningKey).await?;
        }
        let ring = Ring::of(&self.vault, stored.iter().filter_map(ring::read).collect()).map_err(refused)?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// Makes the next key; it signs as soon as every node knows it, and the one before verifies until its
    /// tokens have expired. Answers with its name, or that of the one which another node made meanwhile.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn rotate(&self, stores: &Stores) -> Result<String, StoreError> {
        let records = &*stores.records;
        let known = records.all(RecordKind::SigningKey).await?;
        let number = known.iter().filter_map(|record| record.key.parse::<u64>().ok()).max().unwrap_or(0) + 1;
        let now = Clock.now();
        let salt = hex::encode(rand::random::<[u8; 16]>());
        let key = Key::derived(&self.vault, &salt, now).map_err(refused)?.stored;
        match insert(records, number, &key).await {
            Ok(()) | Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
        forget_dead(records, &known, now).await?;
        self.tell(stores).await?;
        self.reload(records).await?;
        Ok(self.ring().newest().map_or(key.kid, |newest| newest.stored.kid.clone()))
    }

    /// Refuses everything that a key has signed, everywhere within a second; another one takes its place.
    /// Answers whether there is such a key.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn revoke_key(&self, stores: &Stores, kid: &str) -> Result<bool, StoreError> {
        let Ok(id) = Uuid::parse_str(kid) else { return Ok(false) };
        let records = &*stores.records;
        for _ in 0..TRIES {
            let Some(mut record) = records.by_id(RecordKind::SigningKey, id).await? else { return Ok(false) };
            let Some(key) = ring::read(&record) else { return Ok(false) };
            let key = SigningKey { revoked: true, ..key };
            record.body = serde_json::to_value(&key).map_err(refused)?;
            record.updated_at = Clock.now();
            match records.update(RecordKind::SigningKey, record).await {
                Ok(_) => break,
                Err(StoreError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        let now = Clock.now();
        let until = now + LONGEST_LIFE + LONGEST_LIFE;
        stores.grants.revoke(Revocation { subject: id, least_epoch: EVERY, at: now, until }).await?;
        self.rotate(stores).await?;
        Ok(true)
    }

    /// Tells all nodes that the keys have changed.
    async fn tell(&self, stores: &Stores) -> Result<(), StoreError> {
        let now = Clock.now();
        let least_epoch = u64::try_from(now.millis()).unwrap_or_default();
        let until = now + SHOWN_FIRST + LONGEST_LIFE;
        stores.grants.revoke(Revocation { subject: KEYS_CHANGED, least_epoch, at: now, until }).await
    }

    /// The keys as they are stored, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored(records: &dyn Records) -> Result<Vec<SigningKey>, StoreError> {
        let stored = records.all(RecordKind::SigningKey).await?;
        let mut keys: Vec<SigningKey> = stored.iter().filter_map(ring::read).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
        Ok(keys)
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a token's time is now.
fn in_time(claims: &Claims, now: Timestamp) -> Result<(), ApiError> {
    let now = now.millis() / 1000;
    if claims.exp <= now {
        return Err(ApiError::new(Code::TokenExpired));
    }
    if claims.nbf > now || claims.iat > now.saturating_add(AHEAD) {
        return Err(ApiError::new(Code::NoToken));
    }
    Ok(())
}

fn first(vault: &Vault, created_at: Timestamp) -> Result<SigningKey, KeyError> {
    let salt = hex::encode(&vault.derive(FIRST)[..16]);
    Ok(Key::derived(vault, &salt, created_at)?.stored)
}

async fn insert(records: &dyn Records, number: u64, key: &SigningKey) -> Result<(), StoreError> {
    let record = StoredRecord {
        id: Uuid::parse_str(&key.kid).map_err(refused)?,
        key: number.to_string(),
        body: serde_json::to_value(key).map_err(refused)?,
        version: 1,
        created_at: key.created_at,
        updated_at: key.created_at,
    };
    records.insert(RecordKind::SigningKey, record).await
}

/// Removes keys that verify nothing any more, except the newest few: a revoked first key that was
/// forgotten would be taken for a missing one.
async fn forget_dead(
    records: &dyn Records,
    stored: &[StoredRecord],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut keys: Vec<(SigningKey, Uuid)> =
        stored.iter().filter_map(|record| Some((ring::read(record)?, record.id))).collect();
    keys.sort_by_key(|(key, _)| std::cmp::Reverse(key.created_at));
    for pair in keys.windows(2) {
        let [(newer, _), (_, id)] = pair else { continue };
        if newer.created_at + SHOWN_FIRST + LONGEST_LIFE < now {
            records.remove(RecordKind::SigningKey, *id).await?;
        }
    }
    Ok(())
}

fn refused(error: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(error.to_string())
}

#[cfg(test)]
mod tests;
