//! Trying a code. A try is stored before anybody hears how it went, and of several at a time one is stored:
//! so a code counts once on all nodes, and guessing many at a time is no faster.

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::super::{Act, Origin};
use super::kept::{self, Kept};
use super::recovery;
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{Actor, Factor, FactorRefusal, Method};
use crate::domain::time::Millis;

/// How often a change that lost against another begins again.
pub(super) const MOST_ROUNDS: usize = 8;
/// Digits of a code of the present time.
const DIGITS: usize = 6;

/// What somebody typed.
pub(super) enum Typed {
    /// A code of the present time.
    Code(String),
    /// The hash of a recovery code.
    Recovery(String),
}

impl Typed {
    /// Reads what was typed; blanks and hyphens do no harm.
    ///
    /// # Errors
    /// When it cannot be a code of either kind: that is no guess.
    pub(super) fn read(state: &EdgeState, user: UserId, text: &str) -> Result<Self, ApiError> {
        if let Some(code) = digits(text) {
            return Ok(Self::Code(code));
        }
        let code = recovery::read(text).ok_or_else(|| {
            ApiError::new(Code::Validation).at("/code", "must be 6 digits or a recovery code")
        })?;
        Ok(Self::Recovery(recovery::hash(&state.vault, user, &code)))
    }

    const fn method(&self) -> Method {
        match self {
            Self::Code(_) => Method::Code,
            Self::Recovery(_) => Method::RecoveryCode,
        }
    }

    /// What this makes of a factor.
    fn applied(&self, state: &EdgeState, kept: &Kept) -> Result<Result<Factor, FactorRefusal>, ApiError> {
        let now = state.engine.clock().now();
        Ok(match (self, &kept.factor.active) {
            (_, None) => Err(FactorRefusal::NotEnrolled),
            (Self::Code(code), Some(active)) => {
                let secret = kept::open(state, kept.user, &active.sealed)?;
                kept.factor.after_code(now, |step| secret.has_code(code, step))
            }
            (Self::Recovery(hash), Some(_)) => kept.factor.after_recovery_code(now, hash),
        })
    }
}

/// The six digits of a code; `None` when it has others.
pub(super) fn digits(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').collect();
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// Takes a code of a user's second factor; from then on it does not count any more.
///
/// # Errors
/// When it does not count, or there were too many wrong ones.
pub async fn accept(state: &EdgeState, user: &User, code: &str, origin: &Origin) -> Result<Method, ApiError> {
    let typed = Typed::read(state, user.id, code)?;
    let method = typed.method();
    let (what, reason) = match tried(state, user.id, &typed).await? {
        Ok(()) if method == Method::Code => return Ok(method),
        Ok(()) => ("user.recovery_code_used", None),
        // Told and slowed down, not noted: whoever comes too soon may come often.
        Err(FactorRefusal::TooSoon(wait)) => return Err(too_soon(wait)),
        Err(refusal) => ("user.second_factor_refused", Some(refusal)),
    };
    let subject = Some(user.id.to_string());
    let mut details = serde_json::Map::new();
    if let Some(refusal) = reason {
        details.insert("reason".to_owned(), word(refusal).into());
    }
    let actor = if reason.is_some() { Actor::Unknown } else { Actor::User { id: user.id } };
    state.trail.note(Act { what, actor, subject, origin: Some(origin), details }).await?;
    reason.map_or(Ok(method), |refusal| Err(refused(refusal)))
}

async fn tried(
    state: &EdgeState,
    user: UserId,
    typed: &Typed,
) -> Result<Result<(), FactorRefusal>, ApiError> {
    for _ in 0..MOST_ROUNDS {
        let kept = kept::read(state, user).await?;
        let (next, outcome) = match typed.applied(state, &kept)? {
            Ok(next) => (next, Ok(())),
            Err(FactorRefusal::Wrong) => {
                (kept.factor.after_wrong(state.engine.clock().now()), Err(FactorRefusal::Wrong))
            }
            Err(
                refusal @ (FactorRefusal::NotEnrolled
                | FactorRefusal::Used
                | FactorRefusal::TooSoon(_)
                | FactorRefusal::Exhausted),
            ) => return Ok(Err(refusal)),
        };
        if kept::write(state, &kept, &next).await? {
            return Ok(outcome);
        }
    }
    Err(ApiError::new(Code::TooManyTries))
}

/// The answer to a code that does not count. A wrong and a used one are answered alike.
pub(super) fn refused(refusal: FactorRefusal) -> ApiError {
    match refusal {
        FactorRefusal::Wrong | FactorRefusal::Used | FactorRefusal::NotEnrolled => {
            ApiError::new(Code::SecondFactorWrong)
        }
        FactorRefusal::Exhausted => ApiError::new(Code::SecondFactorWrong)
            .detail("there were too many wrong codes: only a recovery code counts now"),
        FactorRefusal::TooSoon(wait) => too_soon(wait),
    }
}

/// The answer to a code that comes too soon after wrong ones.
fn too_soon(wait: Millis) -> ApiError {
    let seconds = wait.0.div_ceil(1000);
    ApiError::new(Code::TooManyTries)
        .detail(format!("there were too many wrong codes: wait {seconds} s"))
        .with("retry_after", seconds)
}

const fn word(refusal: FactorRefusal) -> &'static str {
    match refusal {
        FactorRefusal::NotEnrolled => "not_enrolled",
        FactorRefusal::Wrong => "wrong",
        FactorRefusal::Used => "used",
        FactorRefusal::TooSoon(_) => "too_soon",
        FactorRefusal::Exhausted => "exhausted",
    }
}
