//! Critical acts: whoever has a second factor must have shown it a short while ago.

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::Caller;
use crate::store::grants::GrantKind;

/// Lets a caller do something critical.
///
/// # Errors
/// `StepUpDue` when it has a second factor that it did not show lately.
pub(in super::super) async fn check(state: &EdgeState, caller: &Caller) -> Result<(), ApiError> {
    let now = state.engine.clock().now();
    let is_fresh = caller.strong_at.is_some_and(|at| now.since(at) <= state.settings.step_up);
    if is_fresh || caller.is_client() {
        return Ok(());
    }
    let key = caller.user_id.to_string();
    match state.engine.stores().grants.get(GrantKind::Factor, &key, now).await? {
        Some(_) => Err(ApiError::new(Code::StepUpDue)),
        None => Ok(()),
    }
}
