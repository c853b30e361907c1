//! The second factor: codes of the present time, recovery codes, and when they are asked for.

mod challenges;
mod enrolment;
mod kept;
mod recovery;
mod routes;
mod step_up;
mod totp;
mod trial;

pub use challenges::{FirstFactor, Purpose, challenge};
pub use kept::{forget, is_enrolled};
pub use trial::accept;

pub(crate) use routes::{
    __path_answer, __path_confirm, __path_enroll, __path_remove, __path_renew, __path_show, answer, confirm,
    enroll, remove, renew, show,
};

pub(in super::super) use step_up::check;

use super::super::error::ApiError;
use super::super::router::EdgeState;
use super::Origin;
use crate::domain::directory::User;
use crate::domain::identity::Method;

/// Whether a user must show a second factor: it has one, or one of its roles asks for one.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_due(state: &EdgeState, user: &User) -> Result<bool, ApiError> {
    Ok(is_required(state, user) || is_enrolled(state, user.id).await?)
}

/// Whether one of a user's roles asks for a second factor.
#[must_use]
pub fn is_required(state: &EdgeState, user: &User) -> bool {
    user.roles.iter().any(|role| state.settings.second_factor_roles.contains(role))
}

/// What a user has shown once its first factor was right, as a session names it (RFC 8176): the first alone
/// where no second one is due, or both where its code came with the first.
///
/// # Errors
/// `SecondFactorDue` with a challenge when there is no code, or none can be: then one must be enrolled;
/// `SecondFactorWrong` or `TooManyTries` when the code does not count.
pub async fn complete(
    state: &EdgeState,
    user: &User,
    purpose: Purpose,
    code: Option<&str>,
    origin: &Origin,
) -> Result<Vec<&'static str>, ApiError> {
    let first = purpose.methods();
    let enrolled = is_enrolled(state, user.id).await?;
    match code {
        Some(code) if enrolled => Ok(with(first, accept(state, user, code, origin).await?)),
        Some(_) | None if enrolled || is_required(state, user) => {
            Err(challenge(state, user, purpose, origin).await?)
        }
        Some(_) | None => Ok(first),
    }
}

/// What was shown, with a second factor.
fn with(mut methods: Vec<&'static str>, second: Method) -> Vec<&'static str> {
    methods.push(word(second));
    methods
}

/// A second factor as sessions and tokens name it. RFC 8176 has no word for recovery codes.
const fn word(method: Method) -> &'static str {
    match method {
        Method::Code => "otp",
        Method::RecoveryCode => "recovery",
    }
}
