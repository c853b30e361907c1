//! Counts tries to sign in, in the store: all nodes count together, and a restart forgets nothing.
//!
//! Each account has three counters for an hour: for places that it never signed in from, for addresses
//! that it did, and for devices that it had remembered. So a stranger who uses up the first locks nobody
//! out of the other two. Together they let 50 tries through in one window; since any hour touches two
//! windows at most, that is never more than 100 in an hour. A login that nobody has is counted like any
//! other. Each address has a counter for a minute besides, against whoever tries many logins.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::super::error::{ApiError, Code};
use super::secret::Secret;
use super::vault::Vault;
use crate::domain::id::UserId;
use crate::domain::identity::Login;
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind, Grants};

/// The span in which tries for an account are counted.
const ACCOUNT_WINDOW: Millis = Millis::from_secs(3600);
/// The span in which tries from an address are counted.
const ADDRESS_WINDOW: Millis = Millis::from_secs(60);
/// Tries for an account and window from all places that it is not known from, together.
const FROM_STRANGE_PLACES: u64 = 25;
/// Tries for an account and window from addresses that it is known from, together.
const FROM_KNOWN_ADDRESSES: u64 = 15;
/// Tries for an account and window from devices that it is known from, together.
const FROM_KNOWN_DEVICES: u64 = 10;
/// How long a place stays known after the last sign-in from it.
const PLACE_LIFE: Millis = Millis::from_secs(90 * 24 * 3600);
/// A known place is noted again when it has less than this left.
const PLACE_RENEWAL: Millis = Millis::from_secs(60 * 24 * 3600);
/// Known places that a user has at most; the oldest give way.
const MOST_PLACES: usize = 20;
/// Full counters that are remembered, so that the store is not asked about them.
const MOST_REMEMBERED: usize = 10_000;
/// Label of the key under which logins and places are kept.
const LABEL: &str = "throttle";
/// What a device's token begins with.
const DEVICE: &str = "dev_";

/// A login as counters and places know it: nobody can read it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(String);

/// How well a place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Strange,
    Address,
    Device,
}

impl Standing {
    const fn word(self) -> &'static str {
        match self {
            Self::Strange => "strange",
            Self::Address => "address",
            Self::Device => "device",
        }
    }

    const fn most(self) -> u64 {
        match self {
            Self::Strange => FROM_STRANGE_PLACES,
            Self::Address => FROM_KNOWN_ADDRESSES,
            Self::Device => FROM_KNOWN_DEVICES,
        }
    }
}

/// Where somebody tries to sign in from.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The address.
    pub ip: IpAddr,
    /// What an earlier sign-in had the device remember.
    pub device: Option<&'a Secret>,
}

/// A try that was let through.
#[derive(Debug)]
pub struct Try {
    account: Account,
    standing: Standing,
    /// The grant by which the place is known, or will be.
    place: String,
    known: Option<Grant>,
}

/// Counts tries.
pub struct Throttle {
    grants: Arc<dyn Grants>,
    vault: Arc<Vault>,
    per_minute: u64,
    /// Counters that are full, and until when.
    full: Mutex<HashMap<String, Timestamp>>,
}

impl Throttle {
    /// Counters in the store; `per_minute` is how many tries an address has.
    #[must_use]
    pub fn new(grants: Arc<dyn Grants>, vault: Arc<Vault>, per_minute: u32) -> Self {
        Self { grants, vault, per_minute: u64::from(per_minute), full: Mutex::default() }
    }

    /// The account behind a typed login, whether there is one or not.
    #[must_use]
    pub fn account(&self, typed: &str) -> Account {
        let login = typed.parse::<Login>().map_or_else(|_| typed.to_owned(), Login::into_string);
        Account(hex::encode(self.vault.mac(LABEL, format!("account {login}").as_bytes())))
    }

    /// Counts one try before its password is looked at.
    ///
    /// # Errors
    /// `TooManyTries` when the account or the address has had enough.
    pub async fn admit(&self, account: &Account, place: Place<'_>, now: Timestamp) -> Result<Try, ApiError> {
        let attempt = self.recognise(account, place, now).await?;
        let address = format!("tries:from:{}", network(place.ip));
        let from = self.count(&address, ADDRESS_WINDOW, self.per_minute, now).await;
        // Whoever is known here shall not wait for strangers behind the same address.
        if attempt.standing == Standing::Strange {
            from?;
        }
        let key = counter(account, attempt.standing);
        self.count(&key, ACCOUNT_WINDOW, attempt.standing.most(), now).await?;
        Ok(attempt)
    }

    /// Counts one sign-in that an address begins with an outside provider.
    ///
    /// # Errors
    /// `TooManyTries` when the address has had enough.
    pub async fn visit(&self, ip: IpAddr, now: Timestamp) -> Result<(), ApiError> {
        let address = format!("visits:from:{}", network(ip));
        self.count(&address, ADDRESS_WINDOW, self.per_minute, now).await
    }

    /// Notes that a try was the right one: its place is known from now on. With `remember_device`
    /// answers with what the device shows next time.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn succeeded(
        &self,
        attempt: Try,
        user: UserId,
        remember_device: bool,
        now: Timestamp,
    ) -> Result<Option<Secret>, ApiError> {
        let Try { account, standing, place, known } = attempt;
        match standing {
            // Tries of strangers count on: they must not gain by a sign-in of the owner.
            Standing::Strange => self.know(place, user, now).await?,
            Standing::Address | Standing::Device => {
                let key = counter(&account, standing);
                self.grants.forget_count(&key).await?;
                self.full().remove(&key);
                self.renew(known, now).await?;
            }
        }
        let device = if remember_device {
            let token = format!("{DEVICE}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
            self.know(self.device_key(&account, &token), user, now).await?;
            Some(Secret::new(token))
        } else {
            None
        };
        self.forget_oldest_places(user, now).await?;
        Ok(device)
    }

    /// Forgets all places of a user, as after its password was reset.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn forget_places(&self, user: UserId) -> Result<(), ApiError> {
        self.grants.take_all(GrantKind::KnownPlace, user.uuid()).await?;
        Ok(())
    }

    /// Tells how well a place is known. Looks up as much for a login that nobody has.
    async fn recognise(&self, account: &Account, place: Place<'_>, now: Timestamp) -> Result<Try, ApiError> {
        let by_address = self.key(account, &format!("address {}", network(place.ip)));
        if let Some(device) = place.device {
            let by_device = self.device_key(account, device.expose());
            if let Some(known) = self.grants.get(GrantKind::KnownPlace, &by_device, now).await? {
                let account = account.clone();
                return Ok(Try { account, standing: Standing::Device, place: by_device, known: Some(known) });
            }
        }
        let known = self.grants.get(GrantKind::KnownPlace, &by_address, now).await?;
        let standing = if known.is_some() { Standing::Address } else { Standing::Strange };
        Ok(Try { account: account.clone(), standing, place: by_address, known })
    }

    fn key(&self, account: &Account, what: &str) -> String {
        hex::encode(self.vault.mac(LABEL, format!("place {} {what}", account.0).as_bytes()))
    }

    fn device_key(&self, account: &Account, token: &str) -> String {
        self.key(account, &format!("device {token}"))
    }

    async fn count(&self, key: &str, window: Millis, most: u64, now: Timestamp) -> Result<(), ApiError> {
        let until = self.full().get(key).copied().filter(|until| *until > now);
        if let Some(until) = until {
            return Err(too_many(until.since(now)));
        }
        let counted = self.grants.count(key, window, most, now).await?;
        if counted.count <= most {
            return Ok(());
        }
        self.remember(key, now + counted.resets_after, now);
        Err(too_many(counted.resets_after))
    }

    fn remember(&self, key: &str, until: Timestamp, now: Timestamp) {
        let mut full = self.full();
        if full.len() >= MOST_REMEMBERED {
            full.retain(|_, until| *until > now);
        }
        if full.len() < MOST_REMEMBERED {
            full.insert(key.to_owned(), until);
        }
    }

    fn full(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn know(&self, key: String, user: UserId, now: Timestamp) -> Result<(), ApiError> {
        let grant = Grant {
            kind: GrantKind::KnownPlace,
            key,
            subject: user.uuid(),
            body: json!({}),
            version: 1,
            created_at: now,
            expires_at: now + PLACE_LIFE,
        };
        match self.grants.put(grant).await {
            // Another sign-in from there was faster.
            Ok(()) | Err(StoreError::Exists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn renew(&self, known: Option<Grant>, now: Timestamp) -> Result<(), ApiError> {
        let Some(grant) = known.filter(|grant| grant.expires_at.since(now) < PLACE_RENEWAL) else {
            return Ok(());
        };
        match self.grants.replace(Grant { expires_at: now + PLACE_LIFE, ..grant }).await {
            Ok(_) | Err(StoreError::Changed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn forget_oldest_places(&self, user: UserId, now: Timestamp) -> Result<(), ApiError> {
        let places = self.grants.about(GrantKind::KnownPlace, user.uuid(), now).await?;
        let too_many = places.len().saturating_sub(MOST_PLACES);
        for place in places.iter().take(too_many) {
            self.grants.take(GrantKind::KnownPlace, &place.key, now).await?;
        }
        Ok(())
    }
}

fn counter(account: &Account, standing: Standing) -> String {
    format!("tries:{}:{}", standing.word(), account.0)
}

fn too_many(wait: Millis) -> ApiError {
    ApiError::new(Code::TooManyTries).with("retry_after", wait.0.div_ceil(1000))
}

/// What counts as one address: of IPv6 the network of 64 bits that one customer usually has.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [one, two, three, four, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(one, two, three, four, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
