//! Devices that wait for their user's consent (RFC 8628): one secret that the device knows, and a short
//! code that the user types elsewhere.

use serde::{Deserialize, Serialize};

use super::super::router::EdgeState;
use super::error::{Fault, OAuthError};
use super::journey::{Asked, Proof, WaitingDevice};
use super::secret;
use crate::domain::id::ClientId;
use crate::domain::time::Millis;
use crate::store::StoreError;
use crate::store::grants::{Grant, GrantKind};

/// How long a device waits.
pub(super) const LIFE: Millis = Millis::from_secs(600);
/// Seconds that it waits between two questions.
pub(super) const INTERVAL: u64 = 5;
/// A little less than that: the network brings some a little sooner.
const SOONEST: Millis = Millis(INTERVAL * 1000 - 1000);
/// Tries to find a code that no other device shows.
const TRIES: u32 = 5;

/// What the user said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Pending,
    Allowed(Proof, Asked),
    Denied,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    asked: Asked,
    answer: Answer,
}

/// What a user code leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Behind {
    /// The device's grant.
    device: String,
    asked: Asked,
}

/// The two secrets of a device that begins.
pub(super) struct Begun {
    /// What the device shows us.
    pub device_code: String,
    /// What it shows its user.
    pub user_code: String,
}

/// What a device hears that asks.
pub(super) enum Heard {
    /// The user lets it; it hears that once.
    Allowed(Proof, Asked),
    /// The user has not decided.
    Pending,
    /// The user said no.
    Denied,
    /// It asks too often.
    TooSoon,
    /// There is no such device, it waited too long, or it was of another client.
    Unknown,
}

fn broken(error: impl std::fmt::Display) -> OAuthError {
    tracing::error!(%error, "device cannot be read or written");
    OAuthError::new(Fault::ServerError, "a fault of ours")
}

/// Lets a device wait.
///
/// # Errors
/// When the store does not take it.
pub(super) async fn begin(state: &EdgeState, asked: Asked) -> Result<Begun, OAuthError> {
    let grants = &state.engine.stores().grants;
    let now = state.engine.clock().now();
    let device_code = secret::fresh();
    let key = secret::key(&device_code);
    let subject = asked.client_id.uuid();
    let grant = |kind, key: String, body| Grant {
        kind,
        key,
        subject,
        body,
        version: 1,
        created_at: now,
        expires_at: now + LIFE,
    };
    let device = Device { asked: asked.clone(), answer: Answer::Pending };
    let body = serde_json::to_value(&device).map_err(broken)?;
    grants.put(grant(GrantKind::Device, key.clone(), body)).await?;
    let body = serde_json::to_value(Behind { device: key, asked }).map_err(broken)?;
    for _ in 0..TRIES {
        let user_code = secret::fresh_user_code();
        match grants.put(grant(GrantKind::DeviceUserCode, secret::key(&user_code), body.clone())).await {
            Ok(()) => return Ok(Begun { device_code, user_code }),
            Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OAuthError::new(Fault::Unavailable, "too many devices wait"))
}

/// The device that shows this code.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn showing(
    state: &EdgeState,
    user_code: String,
) -> Result<Option<WaitingDevice>, OAuthError> {
    let now = state.engine.clock().now();
    let key = secret::key(&user_code);
    let found = state.engine.stores().grants.get(GrantKind::DeviceUserCode, &key, now).await?;
    let Some(grant) = found else { return Ok(None) };
    let Behind { asked, .. } = serde_json::from_value(grant.body).map_err(broken)?;
    Ok(Some(WaitingDevice { asked, user_code }))
}

/// Tells a device what its user said; its code works once. Answers whether it still waits.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn answer(
    state: &EdgeState,
    waiting: &WaitingDevice,
    allowed: Option<(Proof, Asked)>,
) -> Result<bool, OAuthError> {
    let grants = &state.engine.stores().grants;
    let now = state.engine.clock().now();
    let key = secret::key(&waiting.user_code);
    let Some(grant) = grants.take(GrantKind::DeviceUserCode, &key, now).await? else { return Ok(false) };
    let Behind { device, .. } = serde_json::from_value(grant.body).map_err(broken)?;
    let Some(mut grant) = grants.get(GrantKind::Device, &device, now).await? else { return Ok(false) };
    let mut device: Device = serde_json::from_value(grant.body).map_err(broken)?;
    // Whoever took the code is the only one who changes this.
    device.answer = match allowed {
        Some((proof, asked)) => Answer::Allowed(proof, asked),
        None => Answer::Denied,
    };
    grant.body = serde_json::to_value(&device).map_err(broken)?;
    match grants.replace(grant).await {
        Ok(_) => Ok(true),
        Err(StoreError::Changed) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a device hears that asks with its code.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn ask(
    state: &EdgeState,
    device_code: &str,
    client_id: ClientId,
) -> Result<Heard, OAuthError> {
    let grants = &state.engine.stores().grants;
    let now = state.engine.clock().now();
    let key = secret::key(device_code);
    let Some(grant) = grants.get(GrantKind::Device, &key, now).await? else { return Ok(Heard::Unknown) };
    let device: Device = serde_json::from_value(grant.body).map_err(broken)?;
    if device.asked.client_id != client_id {
        return Ok(Heard::Unknown);
    }
    match device.answer {
        Answer::Pending => {
            let counted = grants.count(&format!("device:{key}"), SOONEST, 1, now).await?;
            Ok(if counted.count > 1 { Heard::TooSoon } else { Heard::Pending })
        }
        Answer::Denied => {
            grants.take(GrantKind::Device, &key, now).await?;
            Ok(Heard::Denied)
        }
        Answer::Allowed(proof, asked) => {
            let got = grants.take(GrantKind::Device, &key, now).await?;
            Ok(if got.is_some() { Heard::Allowed(proof, asked) } else { Heard::Unknown })
        }
    }
}
