//! Sessions: one per sign-in, with refresh tokens that follow each other.
//!
//! A refresh token works once. One that comes again was stolen, or its owner's was: the session ends, and
//! with it every token that came from it. Truth is the store, where one of several refreshes at a time
//! wins; the cache spares a reading of it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::claims::{Claims, Subject, is_strong, scope};
use super::factors;
use super::gate::EVERY;
use super::origin::Origin;
use super::refresh::RefreshToken;
use super::trail::Act;
use super::vault::Vault;
use crate::domain::directory::User;
use crate::domain::id::{ClientId, SessionId, UserId};
use crate::domain::identity::{Actor, PermissionSet};
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind};
use crate::store::records::RecordKind;

/// Tries to change a session while something else changes it.
const TRIES: u32 = 5;
/// How long a session is kept in the cache after it was used.
const CACHED: Millis = Millis::from_secs(900);

/// Who signs in, and how.
#[derive(Debug, Clone)]
pub struct SignIn<'a> {
    /// The user.
    pub user: &'a User,
    /// What it has shown (RFC 8176): `pwd`, `otp`, `ext` …
    pub amr: Vec<&'static str>,
    /// The client that gets the tokens, and what it may use them for; absent for our own sign-in.
    pub client: Option<(ClientId, PermissionSet)>,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// What a sign-in or refresh leads to.
#[derive(Clone, Serialize, ToSchema)]
pub struct Tokens {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds until the access token does not work any more.
    pub expires_in: u64,
    /// Exchanged for fresh tokens; works once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// What the token may be used for, when that is not everything its user may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Shows no token.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Number of the refresh token that works.
    pub generation: u64,
    /// SHA-256 of that token's secret, in hex; empty when the session has no refresh tokens.
    secret_hash: String,
    /// Where it was last used from.
    pub ip: IpAddr,
    /// What it was last used with.
    pub user_agent: Option<String>,
    /// When it was last used.
    pub last_used: Timestamp,
    /// The client it belongs to.
    #[serde(default)]
    pub client_id: Option<ClientId>,
    /// What the client may do.
    #[serde(default)]
    pub scope: Option<PermissionSet>,
    /// What its user has shown.
    pub amr: Vec<String>,
    /// When its user last showed it.
    pub auth_time: Timestamp,
}

/// A session with its name and times.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: SessionId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends if it is not used.
    pub expires_at: Timestamp,
    /// The rest.
    pub session: Session,
}

/// What stands behind a refresh token.
#[derive(Debug, Clone)]
pub struct Behind {
    /// Whose session it is.
    pub user_id: UserId,
    /// Whether the token is the one that works.
    pub is_current: bool,
    /// The session.
    pub listed: Listed,
}

/// What the cache keeps of a session's grant.
#[derive(Serialize, Deserialize)]
struct Cached {
    subject: Uuid,
    body: Session,
    version: u64,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// A session's grant, read.
#[derive(Clone)]
struct Held {
    id: SessionId,
    subject: Uuid,
    session: Session,
    version: u64,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// Begins, continues and ends sessions.
pub struct Sessions {
    vault: Arc<Vault>,
}

impl Sessions {
    /// Sessions whose refresh tokens this vault signs.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// Begins a session; the sign-in is noted before its tokens go out.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn begin(&self, state: &EdgeState, sign_in: SignIn<'_>) -> Result<Tokens, ApiError> {
        let now = state.engine.clock().now();
        Ok(self.begin_at(state, sign_in, now).await?.1)
    }

    /// The same for somebody who showed who it is at an earlier time. Answers with the session too.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn begin_at(
        &self,
        state: &EdgeState,
        sign_in: SignIn<'_>,
        auth_time: Timestamp,
    ) -> Result<(SessionId, Tokens), ApiError> {
        let now = state.engine.clock().now();
        let SignIn { user, amr, client, origin } = sign_in;
        let id = SessionId::fresh();
        let token = RefreshToken::fresh(&self.vault, id, 1);
        let session = Session {
            generation: 1,
            secret_hash: token.hash(),
            ip: origin.ip,
            user_agent: origin.user_agent.clone(),
            last_used: now,
            client_id: client.map(|(id, _)| id),
            scope: client.map(|(_, scope)| scope),
            amr: amr.iter().map(|method| (*method).to_owned()).collect(),
            auth_time,
        };
        let created = (now, user.id.uuid());
        let held = Held::new(id, created, session, end_of(state, now, now));
        state.engine.stores().grants.put(held.grant()?).await?;
        state.trail.note(begun(&held, origin)).await?;
        remember(state, &held).await;
        Ok((id, tokens(state, user, &held, Some(token.text()))?))
    }

    /// The session that a refresh token of ours belongs to, and whether the token still works; `None`
    /// when it is not one of ours or its session is over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of_token(&self, state: &EdgeState, text: &str) -> Result<Option<Behind>, ApiError> {
        let Some(token) = RefreshToken::read(&self.vault, text) else { return Ok(None) };
        let held = fetch(state, token.session, state.engine.clock().now()).await?;
        Ok(held.map(|held| Behind {
            user_id: UserId::from_uuid(held.subject),
            is_current: token.is_current(&held.session),
            listed: Listed {
                id: held.id,
                created_at: held.created_at,
                expires_at: held.expires_at,
                session: held.session,
            },
        }))
    }

    /// Exchanges a refresh token for fresh tokens. `client` is the client that shows it, if one does.
    ///
    /// # Errors
    /// `NoToken` when it is not one of ours, `SessionOver` when its session has ended or ends by this:
    /// a token that was used before ends its session.
    pub async fn refresh(
        &self,
        state: &EdgeState,
        text: &str,
        client: Option<ClientId>,
        origin: &Origin,
    ) -> Result<(Tokens, User), ApiError> {
        let token = RefreshToken::read(&self.vault, text).ok_or(ApiError::new(Code::NoToken))?;
        let now = state.engine.clock().now();
        let mut known = recall(state, token.session, now).await;
        for _ in 0..TRIES {
            let is_stored = known.is_none();
            let held = match known.take() {
                Some(held) => held,
                None => fetch(state, token.session, now).await?.ok_or(over())?,
            };
            if held.session.client_id != client {
                return Err(ApiError::new(Code::NoToken));
            }
            if !token.is_current(&held.session) {
                if is_stored {
                    return Err(self.reused(state, &held, origin).await?);
                }
                // The cache may be behind; the store is not.
                continue;
            }
            // Who became somebody that must have a second factor signs in again, and shows or enrolls one.
            let is_enough = |user: &User| is_strong(&held.session.amr) || !factors::is_required(state, user);
            let user = usable_user(state, held.subject).await?.filter(is_enough);
            let Some(user) = user else {
                self.end(state, held.id, act_of("user.session_ended", &held, origin)).await?;
                return Err(over());
            };
            let next = RefreshToken::fresh(&self.vault, held.id, held.session.generation + 1);
            let changed = held.used(state, &next, origin, now);
            match state.engine.stores().grants.replace(changed.grant()?).await {
                Ok(version) => {
                    let held = Held { version, ..changed };
                    remember(state, &held).await;
                    return Ok((tokens(state, &user, &held, Some(next.text()))?, user));
                }
                // Another request with this token won, or the session was changed otherwise: look again.
                Err(StoreError::Changed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::new(Code::Overloaded))
    }

    /// Ends the session of a token that came twice.
    async fn reused(&self, state: &EdgeState, held: &Held, origin: &Origin) -> Result<ApiError, ApiError> {
        tracing::warn!(session = %held.id, ip = %origin.ip, "a refresh token came twice: its session ends");
        self.end(state, held.id, act_of("user.session_reuse", held, origin)).await?;
        Ok(over())
    }

    /// Ends a session and refuses its tokens everywhere; the act is noted if there was such a session.
    /// Answers whether there was.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn end(&self, state: &EdgeState, id: SessionId, act: Act<'_>) -> Result<bool, ApiError> {
        let was = self.close(state, id).await?;
        if was {
            state.trail.note(act).await?;
        }
        Ok(was)
    }

    async fn close(&self, state: &EdgeState, id: SessionId) -> Result<bool, ApiError> {
        let stores = state.engine.stores();
        let now = state.engine.clock().now();
        // Refused first: a session that is gone could not be ended again if this broke off between.
        state.gate.revoke(&*stores.grants, id.uuid(), EVERY).await?;
        let taken = stores.grants.take(GrantKind::Session, &id.to_string(), now).await?;
        let _ = stores.cache.remove(&cache_key(id)).await;
        Ok(taken.is_some())
    }

    /// Ends all sessions of a user except one; answers how many. The caller notes why.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn end_all(
        &self,
        state: &EdgeState,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<usize, ApiError> {
        let mut ended = 0;
        for listed in self.list(state, user).await? {
            if Some(listed.id) != except && self.close(state, listed.id).await? {
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// The sessions of a user, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, state: &EdgeState, user: UserId) -> Result<Vec<Listed>, ApiError> {
        let now = state.engine.clock().now();
        let grants = state.engine.stores().grants.about(GrantKind::Session, user.uuid(), now).await?;
        let listed = grants.iter().filter_map(Held::of).map(|held| Listed {
            id: held.id,
            created_at: held.created_at,
            expires_at: held.expires_at,
            session: held.session,
        });
        Ok(listed.collect())
    }

    /// A user's session; `None` when it has none of this id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn owner(&self, state: &EdgeState, id: SessionId) -> Result<Option<UserId>, ApiError> {
        let held = fetch(state, id, state.engine.clock().now()).await?;
        Ok(held.map(|held| UserId::from_uuid(held.subject)))
    }

    /// Notes in a session that its user showed something more, and answers with an access token that
    /// says so. The refresh token stays the same.
    ///
    /// # Errors
    /// `SessionOver` when there is no such session, or its user may not sign in any more.
    pub async fn strengthen(
        &self,
        state: &EdgeState,
        id: SessionId,
        method: &'static str,
    ) -> Result<Tokens, ApiError> {
        let now = state.engine.clock().now();
        for _ in 0..TRIES {
            let mut held = fetch(state, id, now).await?.ok_or(over())?;
            if held.session.amr.iter().all(|known| known != method) {
                held.session.amr.push(method.to_owned());
            }
            held.session.auth_time = now;
            let user = usable_user(state, held.subject).await?.ok_or(over())?;
            match state.engine.stores().grants.replace(held.grant()?).await {
                Ok(version) => {
                    let held = Held { version, ..held };
                    remember(state, &held).await;
                    return tokens(state, &user, &held, None);
                }
                Err(StoreError::Changed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::new(Code::Overloaded))
    }
}

fn over() -> ApiError {
    ApiError::new(Code::SessionOver)
}

fn begun<'a>(held: &Held, origin: &'a Origin) -> Act<'a> {
    let mut act = act_of("user.login_succeeded", held, origin);
    act.details.insert("amr".to_owned(), held.session.amr.join(" ").into());
    if let Some(client_id) = held.session.client_id {
        act.details.insert("client_id".to_owned(), client_id.to_string().into());
    }
    act
}

fn act_of<'a>(what: &'static str, held: &Held, origin: &'a Origin) -> Act<'a> {
    let actor = Actor::User { id: UserId::from_uuid(held.subject) };
    Act { what, actor, subject: Some(held.id.to_string()), origin: Some(origin), details: Map::new() }
}

/// A session for a token that is made on the host: it has no refresh tokens, and ends with that token.
///
/// # Errors
/// When it cannot be written, which is a fault of ours.
pub fn host_session(
    id: SessionId,
    user: UserId,
    scope: Option<PermissionSet>,
    (now, life): (Timestamp, Millis),
) -> Result<Grant, ApiError> {
    let session = Session {
        generation: 0,
        secret_hash: String::new(),
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        user_agent: Some(concat!("eml/", env!("CARGO_PKG_VERSION"), " token create").to_owned()),
        last_used: now,
        client_id: None,
        scope,
        amr: vec!["host".to_owned()],
        auth_time: now,
    };
    Held::new(id, (now, user.uuid()), session, now + life).grant()
}

/// When a session ends that began and was used at these times.
fn end_of(state: &EdgeState, began: Timestamp, used: Timestamp) -> Timestamp {
    (used + state.settings.refresh_ttl).min(began + state.settings.session_ttl)
}

/// The tokens of a session as it is now.
fn tokens(
    state: &EdgeState,
    user: &User,
    held: &Held,
    refresh_token: Option<String>,
) -> Result<Tokens, ApiError> {
    let session = &held.session;
    let life = state.settings.access_ttl;
    let claims = state.authority.claims(Subject::User(user.id), life);
    let claims = Claims {
        client_id: session.client_id,
        sid: Some(held.id),
        roles: user.roles.clone(),
        scope: session.scope,
        agent: state.engine.directory().agent_of(user.id).map(|agent| agent.id),
        epoch: user.epoch,
        auth_time: session.auth_time.millis() / 1000,
        amr: session.amr.clone(),
        ..claims
    };
    Ok(Tokens {
        access_token: state.authority.mint(&claims)?,
        token_type: "Bearer",
        expires_in: life.0 / 1000,
        refresh_token,
        scope: session.scope.map(scope::text),
    })
}

async fn usable_user(state: &EdgeState, id: Uuid) -> Result<Option<User>, ApiError> {
    let stored = state.engine.stores().records.by_id(RecordKind::User, id).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    Ok(user.filter(|user| user.enabled))
}

impl Held {
    const fn new(
        id: SessionId,
        (created_at, subject): (Timestamp, Uuid),
        session: Session,
        expires_at: Timestamp,
    ) -> Self {
        Self { id, subject, session, version: 1, created_at, expires_at }
    }

    fn of(grant: &Grant) -> Option<Self> {
        let id = grant.key.parse().ok()?;
        let session = serde_json::from_value(grant.body.clone()).ok()?;
        let Grant { subject, version, created_at, expires_at, .. } = *grant;
        Some(Self { id, subject, session, version, created_at, expires_at })
    }

    fn grant(&self) -> Result<Grant, ApiError> {
        Ok(Grant {
            kind: GrantKind::Session,
            key: self.id.to_string(),
            subject: self.subject,
            body: serde_json::to_value(&self.session).map_err(|_| ApiError::new(Code::Internal))?,
            version: self.version,
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }

    /// The same after a refresh.
    fn used(&self, state: &EdgeState, next: &RefreshToken, origin: &Origin, now: Timestamp) -> Self {
        let session = Session {
            generation: next.generation,
            secret_hash: next.hash(),
            ip: origin.ip,
            user_agent: origin.user_agent.clone(),
            last_used: now,
            ..self.session.clone()
        };
        Self { session, expires_at: end_of(state, self.created_at, now), ..self.clone() }
    }
}

impl RefreshToken {
    fn is_current(&self, session: &Session) -> bool {
        self.generation == session.generation && self.matches(&session.secret_hash)
    }
}

fn cache_key(id: SessionId) -> String {
    format!("session:{id}")
}

/// The session as the store has it.
async fn fetch(state: &EdgeState, id: SessionId, now: Timestamp) -> Result<Option<Held>, ApiError> {
    let grant = state.engine.stores().grants.get(GrantKind::Session, &id.to_string(), now).await?;
    Ok(grant.as_ref().and_then(Held::of))
}

/// The session as the cache has it, which may be behind. A cache that is away only costs time.
async fn recall(state: &EdgeState, id: SessionId, now: Timestamp) -> Option<Held> {
    let text = state.engine.stores().cache.get(&cache_key(id)).await.ok()??;
    let Cached { subject, body, version, created_at, expires_at } = serde_json::from_str(&text).ok()?;
    (now < expires_at).then_some(Held { id, subject, session: body, version, created_at, expires_at })
}

async fn remember(state: &EdgeState, held: &Held) {
    let Held { id, subject, session, version, created_at, expires_at } = held.clone();
    let cached = Cached { subject, body: session, version, created_at, expires_at };
    if let Ok(text) = serde_json::to_string(&cached) {
        let _ = state.engine.stores().cache.put(&cache_key(id), &text, CACHED).await;
    }
}
