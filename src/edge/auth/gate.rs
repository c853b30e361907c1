//! The gate: which tokens are not accepted any more, although their signature holds.
//!
//! Revocations are kept in the store. Each node asks for new ones several times a second and keeps them
//! in memory until the last token they are about has expired, so that a request costs one look into a
//! map. Open sockets are registered here too, and closed when their token is revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claims::Claims;
use super::keys::{Authority, LONGEST_LIFE};
use crate::domain::time::{Clock, Millis, Timestamp};
use crate::store::grants::{Grants, Revocation};
use crate::store::{StoreError, Stores};

/// The epoch that no token reaches: all of a subject's tokens are refused.
pub const EVERY: u64 = u64::MAX >> 1;
/// What is told when the signing keys have changed; the epoch is when.
pub(super) const KEYS_CHANGED: Uuid = Uuid::from_u128(0x7f5a_1be0_0c5d_4a53_9d0e_6b1d_3c0f_a811);
/// How often the store is asked.
const PERIOD: Duration = Duration::from_millis(400);
/// How far each question goes back: a commit may show later than its time says.
const OVERLAP: Millis = Millis::from_secs(5);
/// How long a revocation outlives the longest token: clocks may differ.
const SLACK: Millis = Millis::from_secs(300);

/// Refuses revoked tokens.
#[derive(Default)]
pub struct Gate {
    revoked: RwLock<HashMap<Uuid, Refused>>,
    sockets: Mutex<HashMap<u64, Watched>>,
    next: AtomicU64,
    /// The store's time of the last answer.
    asked: Mutex<Timestamp>,
}

#[derive(Clone, Copy)]
struct Refused {
    least_epoch: u64,
    until: Timestamp,
}

struct Watched {
    claims: Arc<Claims>,
    closing: CancellationToken,
}

/// A socket's place at the gate; it is given up when this is dropped.
pub struct Watch {
    gate: Arc<Gate>,
    number: u64,
    closing: CancellationToken,
}

impl Watch {
    /// Waits until the socket's token is revoked.
    pub async fn revoked(&self) {
        self.closing.cancelled().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.gate.sockets().remove(&self.number);
    }
}

impl Gate {
    /// Whether a token is still accepted. A user's or client's own tokens are refused by their epoch,
    /// those that a client was given by the second in which they were made; a session and a key that
    /// signed only as a whole.
    #[must_use]
    pub fn admits(&self, claims: &Claims) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if revoked.is_empty() {
            return true;
        }
        let own = revoked.get(&claims.sub.uuid()).is_some_and(|refused| claims.epoch < refused.least_epoch);
        let made = u64::try_from(claims.iat).unwrap_or_default();
        let client = claims.client_id.and_then(|id| revoked.get(&id.uuid()));
        let by_client = client.is_some_and(|refused| made < refused.least_epoch);
        let whole = [claims.sid.map(crate::domain::id::SessionId::uuid), Some(claims.key)];
        let is_over = |id: &Uuid| revoked.get(id).is_some_and(|refused| refused.least_epoch >= EVERY);
        !own && !by_client && !whole.iter().flatten().any(is_over)
    }

    /// Registers a socket; `None` when its token is refused already.
    #[must_use]
    pub fn watch(self: &Arc<Self>, claims: &Arc<Claims>) -> Option<Watch> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let closing = CancellationToken::new();
        let watched = Watched { claims: claims.clone(), closing: closing.clone() };
        // Registered first: a revocation between the two would be missed the other way round.
        self.sockets().insert(number, watched);
        let watch = Watch { gate: self.clone(), number, closing };
        self.admits(claims).then_some(watch)
    }

    /// Refuses a subject's tokens below an epoch, here at once and everywhere within a second.
    ///
    /// # Errors
    /// When the store does not take it; nothing is refused then.
    pub async fn revoke(
        &self,
        grants: &dyn Grants,
        subject: Uuid,
        least_epoch: u64,
    ) -> Result<(), StoreError> {
        let now = Clock.now();
        let revocation = Revocation { subject, least_epoch, at: now, until: now + LONGEST_LIFE + SLACK };
        grants.revoke(revocation).await?;
        self.apply(&[revocation]);
        Ok(())
    }

    /// Asks the store for what was revoked since it was last asked; answers whether keys have changed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn catch_up(&self, grants: &dyn Grants) -> Result<bool, StoreError> {
        let since = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (revocations, now) = grants.revoked_since(since - OVERLAP).await?;
        let keys_changed = self.apply(&revocations);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.forget(Clock.now());
        Ok(keys_changed)
    }

    fn apply(&self, revocations: &[Revocation]) -> bool {
        let mut news = false;
        let mut keys_changed = false;
        {
            let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
            for revocation in revocations {
                let Revocation { subject, least_epoch, until, .. } = *revocation;
                let known = revoked.get(&subject).copied();
                if known.is_some_and(|known| known.least_epoch >= least_epoch && known.until >= until) {
                    continue;
                }
                let refused = known.map_or(Refused { least_epoch, until }, |known| Refused {
                    least_epoch: known.least_epoch.max(least_epoch),
                    until: known.until.max(until),
                });
                revoked.insert(subject, refused);
                news = true;
                keys_changed |= subject == KEYS_CHANGED;
            }
        }
        if news {
            self.close_refused();
        }
        keys_changed
    }

    fn close_refused(&self) {
        let sockets = self.sockets();
        for watched in sockets.values().filter(|watched| !self.admits(&watched.claims)) {
            watched.closing.cancel();
        }
    }

    fn forget(&self, now: Timestamp) {
        let is_over = |refused: &Refused| refused.until < now;
        let read = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        let any = read.values().any(is_over);
        drop(read);
        if any {
            let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
            revoked.retain(|_, refused| !is_over(refused));
        }
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Watched>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a node's gate and keys up to date until it stops.
pub async fn follow(gate: Arc<Gate>, authority: Arc<Authority>, stores: Stores, stop: CancellationToken) {
    let mut is_behind = false;
    let mut keys_changed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let asked = match gate.catch_up(&*stores.grants).await {
            Ok(changed) => {
                keys_changed |= changed;
                // Tried again the next time when it fails, and when there are no news.
                if keys_changed || authority.is_due(Clock.now()) {
                    authority.keep_up(&stores).await.map(|()| keys_changed = false)
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(error),
        };
        match asked {
            Ok(()) => is_behind = false,
            Err(error) if !is_behind => {
                is_behind = true;
                tracing::error!(%error, "revocations cannot be read; those that are known still hold");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::Subject;
    use super::super::vault::Vault;
    use super::*;
    use crate::domain::id::{ClientId, SessionId, UserId};
    use crate::store;

    fn claims(user: UserId, epoch: u64) -> Claims {
        let vault = Arc::new(Vault::of_seed(&[1; 32]));
        let authority = Authority::new(vault, "eml", Millis::from_secs(3_600)).unwrap();
        let claims = authority.claims(Subject::User(user), Millis::from_secs(60));
        Claims {
            epoch,
            sid: Some(SessionId::fresh()),
            client_id: Some(ClientId::fresh()),
            key: Uuid::now_v7(),
            ..claims
        }
    }

    #[tokio::test]
    async fn a_token_is_refused_by_its_epoch_or_by_what_it_belongs_to() {
        let stores = store::open("memory:").await.unwrap();
        let user = UserId::fresh();
        let token = claims(user, 3);
        let (session, client) = (token.sid.unwrap().uuid(), token.client_id.unwrap().uuid());
        for (why, subject, least_epoch, want) in [
            ("another user's epoch", UserId::fresh().uuid(), EVERY, true),
            ("its own epoch is enough", user.uuid(), 3, true),
            ("its epoch is over", user.uuid(), 4, false),
            ("its session is over", session, EVERY, false),
            ("its client has another epoch, which is not the user's", client, 9, true),
            ("its client is refused", client, EVERY, false),
            ("its key is refused", token.key, EVERY, false),
        ] {
            let gate = Gate::default();
            gate.revoke(&*stores.grants, subject, least_epoch).await.unwrap();
            assert_eq!(gate.admits(&token), want, "{why}");
        }
    }

    #[tokio::test]
    async fn what_one_node_refuses_another_does_once_it_has_asked() {
        let stores = store::open("memory:").await.unwrap();
        let (here, there) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let token = Arc::new(claims(UserId::fresh(), 0));
        let watch = there.watch(&token).unwrap();
        let other = there.watch(&Arc::new(claims(UserId::fresh(), 0))).unwrap();
        here.revoke(&*stores.grants, token.sub.uuid(), 1).await.unwrap();
        assert!(!here.admits(&token) && there.admits(&token));
        assert!(!there.catch_up(&*stores.grants).await.unwrap());
        assert!(!there.admits(&token) && there.watch(&token).is_none());
        watch.revoked().await;
        assert!(!other.closing.is_cancelled(), "nobody else is shown out");
        drop((watch, other));
        assert!(there.sockets().is_empty());
        // One that starts later learns everything, and a smaller epoch takes nothing back.
        here.revoke(&*stores.grants, token.sub.uuid(), 0).await.unwrap();
        let late = Gate::default();
        late.catch_up(&*stores.grants).await.unwrap();
        assert!(!late.admits(&token));
    }

    #[tokio::test]
    async fn what_nobody_can_show_any_more_is_forgotten() {
        let stores = store::open("memory:").await.unwrap();
        let gate = Gate::default();
        gate.revoke(&*stores.grants, Uuid::now_v7(), 1).await.unwrap();
        gate.forget(Clock.now() + LONGEST_LIFE);
        assert_eq!(gate.revoked.read().unwrap().len(), 1);
        gate.forget(Clock.now() + LONGEST_LIFE + SLACK + Millis(1));
        assert_eq!(gate.revoked.read().unwrap().len(), 0);
    }
}
