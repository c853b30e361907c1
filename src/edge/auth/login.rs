//! Signing in with login and password.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::super::error::{ApiError, Code};
use super::super::request::{ClientIp, Json};
use super::super::router::EdgeState;
use super::super::users::UserView;
use super::keys::Use;
use super::{Caller, digest};
use crate::domain::directory::User;
use crate::domain::time::Millis;
use crate::store::StoreError;
use crate::store::cache::Cache;
use crate::store::records::RecordKind;

/// bcrypt runs at a time: checking passwords never takes more than one core from calls.
static BCRYPT: Semaphore = Semaphore::const_new(1);
/// The span in which tries are counted.
const WINDOW: Millis = Millis::from_secs(60);

/// What somebody signs in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The login, in any case.
    login: String,
    /// The password.
    password: String,
}

/// What a refresh token is exchanged with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The token of the last sign-in or refresh.
    refresh_token: String,
}

/// What a sign-in leads to.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedIn {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds until the access token does not work any more.
    expires_in: u64,
    /// Exchanged for fresh tokens by `POST /auth/refresh`.
    refresh_token: String,
    /// Who signed in.
    user: UserView,
}

/// Counts tries per login and address, on all nodes that share a cache.
pub struct Throttle {
    cache: Arc<dyn Cache>,
}

impl Throttle {
    /// Counts in this cache.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }

    /// Counts one try; answers whether it is still allowed.
    ///
    /// # Errors
    /// When the cache cannot be reached.
    pub async fn allows(&self, login: &str, ip: IpAddr, most: u32) -> Result<bool, StoreError> {
        let counted = self.cache.count(&tries_key(login, ip), WINDOW).await?;
        Ok(counted.count <= u64::from(most))
    }
}

/// Where the tries of a login from an address are counted.
fn tries_key(login: &str, ip: IpAddr) -> String {
    format!("tries:{}:{ip}", digest(login))
}

/// Hashes a password off the async threads.
///
/// # Errors
/// When it is longer than bcrypt's 72 bytes.
pub async fn hash_password(password: String, cost: u32) -> Result<String, ApiError> {
    let hash = in_bcrypt(move || bcrypt::non_truncating_hash(password, cost)).await?;
    hash.map_err(|_| ApiError::new(Code::Validation).at("/password", "must be 1 to 72 bytes long"))
}

/// The hash of a password that nobody knows.
async fn unknowable(state: &EdgeState) -> Result<String, ApiError> {
    hash_password(hex::encode(rand::random::<[u8; 16]>()), state.settings.bcrypt_cost).await
}

async fn in_bcrypt<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let _turn = BCRYPT.acquire().await.map_err(|_| ApiError::new(Code::Internal))?;
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::new(Code::Internal))
}

/// Signs in.
///
/// # Errors
/// When login or password is wrong, or there were too many tries.
#[utoipa::path(post, path = "/auth/login", tag = "auth", security(()), request_body = Credentials, responses(
    (status = 200, body = SignedIn), (status = 401, description = "login or password is wrong"),
))]
pub async fn login(
    state: State<EdgeState>,
    ip: Extension<ClientIp>,
    credentials: Json<Credentials>,
) -> Result<axum::Json<SignedIn>, ApiError> {
    sign_in(state, ip, credentials).await
}

/// Signs in; the same as `/auth/login`.
#[utoipa::path(post, path = "/users/login", tag = "users", security(()), request_body = Credentials, responses(
    (status = 200, body = SignedIn), (status = 401, description = "login or password is wrong"),
))]
pub(crate) async fn login_user(
    state: State<EdgeState>,
    ip: Extension<ClientIp>,
    credentials: Json<Credentials>,
) -> Result<axum::Json<SignedIn>, ApiError> {
    sign_in(state, ip, credentials).await
}

async fn sign_in(
    State(state): State<EdgeState>,
    Extension(ClientIp(ip)): Extension<ClientIp>,
    Json(Credentials { login, password }): Json<Credentials>,
) -> Result<axum::Json<SignedIn>, ApiError> {
    let login = login.trim().to_lowercase();
    if !state.throttle.allows(&login, ip, state.settings.login_tries_per_minute).await? {
        return Err(ApiError::new(Code::TooManyTries));
    }
    let stored = state.engine.stores().records.by_key(RecordKind::User, &login).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    // An unknown login costs the same time as a known one.
    let hash = match &user {
        Some(user) => user.password_hash.clone(),
        None => state.no_such_user_hash.get_or_try_init(|| unknowable(&state)).await?.clone(),
    };
    let holds = in_bcrypt(move || bcrypt::non_truncating_verify(password, &hash)).await?.unwrap_or(false);
    let Some(user) = user.filter(|user| holds && user.enabled) else {
        tracing::warn!(%ip, "sign-in refused");
        return Err(ApiError::new(Code::BadCredentials));
    };
    tracing::info!(user = %user.id, %ip, "signed in");
    tokens(&state, &user)
}

fn tokens(state: &EdgeState, user: &User) -> Result<axum::Json<SignedIn>, ApiError> {
    let agent_id = state.engine.directory().agent_of(user.id).map(|agent| agent.id);
    let caller = Caller { user_id: user.id, role: user.role, agent_id };
    let settings = &state.settings;
    Ok(axum::Json(SignedIn {
        access_token: state.authority.mint(&caller, Use::Access, settings.access_ttl)?,
        token_type: "Bearer",
        expires_in: settings.access_ttl.0 / 1000,
        refresh_token: state.authority.mint(&caller, Use::Refresh, settings.refresh_ttl)?,
        user: UserView::of(user, agent_id),
    }))
}

/// Exchanges a refresh token for fresh tokens. Refresh tokens are signed, not stored: one that was
/// given out works until it expires, unless its user is disabled.
///
/// # Errors
/// When the token is not one of ours.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", security(()), request_body = RefreshRequest, responses(
    (status = 200, body = SignedIn), (status = 401, description = "token not usable"),
))]
pub async fn refresh(
    State(state): State<EdgeState>,
    Json(RefreshRequest { refresh_token }): Json<RefreshRequest>,
) -> Result<axum::Json<SignedIn>, ApiError> {
    let caller = state.authority.check(&refresh_token, Use::Refresh)?;
    let stored = state.engine.stores().records.by_id(RecordKind::User, caller.user_id.uuid()).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    let user = user.filter(|user| user.enabled).ok_or(ApiError::new(Code::NoToken))?;
    tokens(&state, &user)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::store::memory::MemoryCache;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test]
    async fn tries_are_counted_per_login_and_address() {
        let throttle = Throttle::new(Arc::new(MemoryCache::default()));
        assert!(throttle.allows("ann", HERE, 2).await.unwrap());
        assert!(throttle.allows("ann", HERE, 2).await.unwrap());
        assert!(!throttle.allows("ann", HERE, 2).await.unwrap());
        assert!(throttle.allows("ben", HERE, 2).await.unwrap());
        assert!(throttle.allows("ann", THERE, 2).await.unwrap(), "a stranger elsewhere locks nobody out");
    }

    #[tokio::test]
    async fn tries_are_counted_per_minute_and_on_all_nodes_of_a_cache() {
        let cache = Arc::new(MemoryCache::default());
        let [one, other] = [(); 2].map(|()| Throttle::new(cache.clone()));
        assert!(one.allows("ann", HERE, 2).await.unwrap());
        assert!(other.allows("ann", HERE, 2).await.unwrap());
        assert!(!one.allows("ann", HERE, 2).await.unwrap());
        let counted = cache.count(&tries_key("ann", HERE), Millis(1)).await.unwrap();
        assert_eq!(counted.count, 4, "refused tries count too");
        assert!((50_000..=60_000).contains(&counted.resets_after.0), "{counted:?}");
    }
}
