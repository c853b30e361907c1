//! Setting a second factor up, giving it recovery codes, and removing it.

use serde_json::Map;

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::super::super::users::{self, AccountError};
use super::super::{Act, Caller, Origin};
use super::challenges::Open;
use super::routes::Enrolment;
use super::totp::{TotpSecret, qr_svg};
use super::trial::{MOST_ROUNDS, digits, refused};
use super::{is_required, kept, recovery, step_up};
use crate::domain::directory::User;
use crate::domain::id::{SessionId, UserId};
use crate::domain::identity::factor::{OFFER_LIFE, RECOVERY_CODES};
use crate::domain::identity::{Actor, Factor, FactorRefusal};

/// Who sets a second factor up.
pub(super) enum Enroller {
    /// Somebody whose sign-in waits for one.
    Challenged(Open),
    /// Somebody who is signed in.
    SignedIn(User, Caller),
}

impl Enroller {
    const fn user(&self) -> &User {
        match self {
            Self::Challenged(open) => &open.user,
            Self::SignedIn(user, _) => user,
        }
    }

    /// Whether it may set up a second factor where this is what counts so far. A password alone is enough
    /// for the first one, and not for another one in its place.
    async fn check(&self, state: &EdgeState, factor: &Factor, origin: &Origin) -> Result<(), ApiError> {
        match self {
            Self::Challenged(_) if factor.active.is_some() => {
                Err(ApiError::new(Code::Exists).detail("there is a second factor: answer the challenge"))
            }
            Self::Challenged(_) => Ok(()),
            Self::SignedIn(_, caller) if factor.active.is_some() => {
                step_up::check(state, caller, origin).await
            }
            Self::SignedIn(_, caller) => {
                let age = state.engine.clock().now().since(caller.signed_in_at);
                if age <= state.settings.step_up {
                    return Ok(());
                }
                Err(ApiError::new(Code::StepUpDue).detail("you signed in too long ago: sign in again"))
            }
        }
    }
}

/// Makes a secret and shows it.
///
/// # Errors
/// When this is not allowed, or the store does not take it.
pub(super) async fn offer(
    state: &EdgeState,
    enroller: &Enroller,
    origin: &Origin,
) -> Result<Enrolment, ApiError> {
    let user = enroller.user();
    let secret = TotpSecret::fresh();
    let sealed = kept::seal(state, user.id, &secret)?;
    let unwritable = || ApiError::new(Code::Internal);
    let otpauth_url = secret.otpauth(&state.settings.totp_issuer, &user.login).ok_or_else(unwritable)?;
    let qr_svg = qr_svg(&otpauth_url).ok_or_else(unwritable)?;
    for _ in 0..MOST_ROUNDS {
        let kept = kept::read(state, user.id).await?;
        enroller.check(state, &kept.factor, origin).await?;
        let next = kept.factor.after_offer(state.engine.clock().now(), sealed.clone());
        if kept::write(state, &kept, &next).await? {
            state.trail.note(act("user.second_factor_offered", user, origin)).await?;
            let expires_in = OFFER_LIFE.0 / 1000;
            return Ok(Enrolment { secret: secret.base32(), otpauth_url, qr_svg, expires_in });
        }
    }
    Err(ApiError::new(Code::Overloaded))
}

/// Makes the offered secret count, by a code of it. Answers with its recovery codes. Whoever knows the
/// secret was allowed to see it; only a password is not enough in place of a factor that counts meanwhile.
///
/// # Errors
/// When the code does not count, or the store does not take it.
pub(super) async fn confirm(
    state: &EdgeState,
    enroller: &Enroller,
    code: &str,
    origin: &Origin,
) -> Result<Vec<String>, ApiError> {
    let user = enroller.user();
    let code = digits(code).ok_or_else(|| ApiError::new(Code::Validation).at("/code", "must be 6 digits"))?;
    let (codes, hashes) = recovery_codes(state, user.id);
    for _ in 0..MOST_ROUNDS {
        let kept = kept::read(state, user.id).await?;
        if matches!(enroller, Enroller::Challenged(_)) {
            enroller.check(state, &kept.factor, origin).await?;
        }
        let now = state.engine.clock().now();
        let offer = kept.factor.offer(now).ok_or_else(|| {
            ApiError::new(Code::SecondFactorWrong)
                .detail("no secret waits to be confirmed: POST /auth/2fa/enroll")
        })?;
        let secret = kept::open(state, user.id, &offer.sealed)?;
        let next = kept.factor.after_confirmation(now, |step| secret.has_code(&code, step), hashes.clone());
        if kept::write(state, &kept, &next.map_err(refused)?).await? {
            let mut act = act("user.second_factor_enrolled", user, origin);
            act.details.insert("replaced".to_owned(), kept.factor.active.is_some().into());
            state.trail.note(act).await?;
            return Ok(codes);
        }
    }
    Err(ApiError::new(Code::Overloaded))
}

/// Gives a user's second factor other recovery codes.
///
/// # Errors
/// When it has none, or the store does not take it.
pub(super) async fn renew_recovery_codes(
    state: &EdgeState,
    user: &User,
    origin: &Origin,
) -> Result<Vec<String>, ApiError> {
    let (codes, hashes) = recovery_codes(state, user.id);
    for _ in 0..MOST_ROUNDS {
        let kept = kept::read(state, user.id).await?;
        let next = match kept.factor.with_recovery_codes(hashes.clone()) {
            Ok(next) => next,
            Err(FactorRefusal::NotEnrolled) => return Err(no_factor()),
            Err(refusal) => return Err(refused(refusal)),
        };
        if kept::write(state, &kept, &next).await? {
            state.trail.note(act("user.recovery_codes_made", user, origin)).await?;
            return Ok(codes);
        }
    }
    Err(ApiError::new(Code::Overloaded))
}

/// Removes a user's second factor, ends its sessions but this one, and refuses the tokens of before.
///
/// # Errors
/// When a role asks for one, there is none, or the store does not take it.
pub(super) async fn remove(
    state: &EdgeState,
    user: &User,
    except: Option<SessionId>,
    origin: &Origin,
) -> Result<(), ApiError> {
    if is_required(state, user) {
        let why = "a role of yours asks for a second factor: enroll another one in its place";
        return Err(ApiError::new(Code::Forbidden).detail(why));
    }
    if !kept::is_enrolled(state, user.id).await? {
        return Err(no_factor());
    }
    let epoch = raise_epoch(state, user.id).await?;
    let stores = state.engine.stores();
    state.gate.revoke(&*stores.grants, user.id.uuid(), epoch).await?;
    state.sessions.end_all(state, user.id, except).await?;
    kept::forget(&*stores.grants, user.id).await?;
    state.trail.note(act("user.second_factor_removed", user, origin)).await
}

/// Lets a user's epoch grow; answers with the new one.
async fn raise_epoch(state: &EdgeState, id: UserId) -> Result<u64, ApiError> {
    let edit = |user: &mut User| {
        user.epoch += 1;
        Ok::<(), AccountError>(())
    };
    let (records, now) = (&*state.engine.stores().records, state.engine.clock().now());
    let (_, after) = users::change(records, id, None, now, edit).await?;
    Ok(after.user.epoch)
}

fn recovery_codes(state: &EdgeState, user: UserId) -> (Vec<String>, Vec<String>) {
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery::fresh()).collect();
    let read = codes.iter().filter_map(|code| recovery::read(code));
    let hashes = read.map(|code| recovery::hash(&state.vault, user, &code)).collect();
    (codes, hashes)
}

fn no_factor() -> ApiError {
    ApiError::new(Code::NotFound).detail("there is no second factor")
}

/// Something that a user did with its second factor.
pub(super) fn act<'a>(what: &'static str, user: &User, origin: &'a Origin) -> Act<'a> {
    let (actor, subject) = (Actor::User { id: user.id }, Some(user.id.to_string()));
    Act { what, actor, subject, origin: Some(origin), details: Map::new() }
}
