//! Critical acts: whoever has a second factor, or must have one, must have shown it a short while ago.

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::super::{Caller, Origin};
use super::challenges::find_user;
use super::{Purpose, challenge, is_due};

/// Lets a caller do something critical.
///
/// # Errors
/// `StepUpDue` with a challenge when its second factor is due and was not shown lately.
pub(in super::super::super) async fn check(
    state: &EdgeState,
    caller: &Caller,
    origin: &Origin,
) -> Result<(), ApiError> {
    let now = state.engine.clock().now();
    let is_fresh = caller.strong_at.is_some_and(|at| now.since(at) <= state.settings.step_up);
    if is_fresh || caller.is_client() {
        return Ok(());
    }
    let Some(user) = find_user(state, caller.user_id.uuid()).await? else { return Ok(()) };
    if !is_due(state, &user).await? {
        return Ok(());
    }
    let Some(session) = caller.session_id else {
        return Err(ApiError::new(Code::StepUpDue).detail("this token belongs to no session: sign in"));
    };
    Err(challenge(state, &user, Purpose::StepUp { session }, origin).await?)
}
