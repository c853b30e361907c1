//! Signing in with login and password.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::super::error::{ApiError, Code};
use super::super::request::Json;
use super::super::router::EdgeState;
use super::super::users::UserView;
use super::Origin;
use super::sessions::{SignIn, Tokens};
use crate::domain::directory::User;
use crate::domain::time::Millis;
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

/// What a sign-in leads to.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedIn {
    #[serde(flatten)]
    tokens: Tokens,
    /// Who signed in.
    user: UserView,
}

/// Counts tries per login and address, in the cache: all nodes that share it count together.
pub struct Throttle {
    cache: Arc<dyn Cache>,
}

impl Throttle {
    /// Counters in a cache.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache }
    }

    /// Counts one try; answers whether it is still allowed.
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn allows(&self, login: &str, ip: IpAddr, most: u32) -> Result<bool, ApiError> {
        // Logins may hold anything, and should not be read in a cache.
        let who = hex::encode(digest(&SHA256, format!("{ip} {login}").as_bytes()));
        let counted = self.cache.count(&format!("tries:{who}"), WINDOW).await?;
        Ok(counted.count <= u64::from(most))
    }
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
    origin: Origin,
    credentials: Json<Credentials>,
) -> Result<Response, ApiError> {
    sign_in(state, origin, credentials).await
}

/// Signs in; the same as `/auth/login`.
#[utoipa::path(post, path = "/users/login", tag = "users", security(()), request_body = Credentials, responses(
    (status = 200, body = SignedIn), (status = 401, description = "login or password is wrong"),
))]
pub(crate) async fn login_user(
    state: State<EdgeState>,
    origin: Origin,
    credentials: Json<Credentials>,
) -> Result<Response, ApiError> {
    sign_in(state, origin, credentials).await
}

async fn sign_in(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(Credentials { login, password }): Json<Credentials>,
) -> Result<Response, ApiError> {
    let user = prove(&state, &origin, login, password).await?;
    let sign_in = SignIn { user: &user, amr: vec!["pwd"], client: None, origin: &origin };
    let tokens = state.sessions.begin(&state, sign_in).await?;
    let agent_id = state.engine.directory().agent_of(user.id).map(|agent| agent.id);
    let body = SignedIn { tokens, user: UserView::of(&user, agent_id) };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

/// Compares a password with the one of its user.
pub(crate) async fn prove(
    state: &EdgeState,
    origin: &Origin,
    login: String,
    password: String,
) -> Result<User, ApiError> {
    let ip = origin.ip;
    let login = login.trim().to_lowercase();
    if !state.throttle.allows(&login, ip, state.settings.login_tries_per_minute).await? {
        return Err(ApiError::new(Code::TooManyTries));
    }
    let stored = state.engine.stores().records.by_key(RecordKind::User, &login).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    // An unknown login costs the same time as a known one.
    let hash = match &user {
        Some(user) => user.password_hash.clone(),
        None => state.no_such_user_hash.get_or_try_init(|| unknowable(state)).await?.clone(),
    };
    let holds = in_bcrypt(move || bcrypt::non_truncating_verify(password, &hash)).await?.unwrap_or(false);
    user.filter(|user| holds && user.enabled).ok_or_else(|| {
        tracing::warn!(%ip, "sign-in refused");
        ApiError::new(Code::BadCredentials)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryCache;

    #[tokio::test]
    async fn tries_are_counted_per_login_and_address() {
        let throttle = Throttle::new(Arc::new(MemoryCache::default()));
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for (login, ip, want) in [
            ("ann", here, true),
            ("ann", here, true),
            ("ann", here, false),
            ("ben", here, true),
            // A stranger elsewhere locks nobody out.
            ("ann", there, true),
        ] {
            assert_eq!(throttle.allows(login, ip, 2).await.unwrap(), want, "{login} {ip}");
        }
    }
}
