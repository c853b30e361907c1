//! What users do with their second factor: show it, set it up, and take it away.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::super::error::{ApiError, Code};
use super::super::super::request::Json;
use super::super::super::router::EdgeState;
use super::super::super::users::UserView;
use super::super::{Caller, Origin, Secret, SignIn, Tokens};
use super::challenges::{self, Open, find_user};
use super::enrolment::{self, Enroller};
use super::{Purpose, is_required, kept, trial, with, word};
use crate::domain::directory::User;
use crate::domain::identity::Method;
use crate::domain::time::Timestamp;

/// What a challenge is answered with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The challenge.
    #[schema(value_type = String)]
    challenge: Secret,
    /// Six digits, or a recovery code.
    #[schema(value_type = String)]
    code: Secret,
}

/// Who wants a second factor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollRequest {
    /// The challenge of a sign-in whose user needs a second factor and has none; without it the bearer token
    /// says who.
    #[schema(value_type = Option<String>)]
    challenge: Option<Secret>,
}

/// The first code of a new second factor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmRequest {
    /// As in the request that asked for the secret.
    #[schema(value_type = Option<String>)]
    challenge: Option<Secret>,
    /// Six digits.
    #[schema(value_type = String)]
    code: Secret,
}

/// A secret for an authenticator app. It counts once a code of it was confirmed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Enrolment {
    /// The secret in base 32, for typing.
    pub(super) secret: String,
    /// The same with whose it is, for tapping.
    pub(super) otpauth_url: String,
    /// The same as a QR code in SVG, for scanning.
    pub(super) qr_svg: String,
    /// Seconds until the secret is forgotten if it is not confirmed.
    pub(super) expires_in: u64,
}

/// What a right answer leads to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completed {
    #[serde(flatten)]
    tokens: Tokens,
    /// Who is signed in.
    user: UserView,
}

/// A second factor that counts from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Confirmed {
    /// Each signs in once instead of a code. They are not shown again.
    recovery_codes: Vec<String>,
    /// Tokens that say that the second factor was shown; absent when there is no session to be continued.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
}

/// New recovery codes.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    /// Each signs in once instead of a code; those of before do not count any more.
    recovery_codes: Vec<String>,
}

/// How it stands with a user's second factor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FactorView {
    /// Whether one counts.
    enrolled: bool,
    /// Whether one of the user's roles asks for one.
    required: bool,
    /// Since when it counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Recovery codes that are left.
    recovery_codes_left: usize,
}

/// Answers a challenge: completes a sign-in, or makes a session strong enough for something critical.
#[utoipa::path(post, path = "/auth/2fa", tag = "auth", security(()), request_body = Answer, responses(
    (status = 200, body = Completed, description = "for a critical act without `refresh_token`: the one of before goes on"),
    (status = 401, description = "the code does not count, or the challenge is over"),
    (status = 429, description = "there were too many wrong codes"),
))]
pub(crate) async fn answer(
    State(state): State<EdgeState>,
    origin: Origin,
    Json(Answer { challenge, code }): Json<Answer>,
) -> Result<Response, ApiError> {
    let open = challenges::find(&state, challenge.expose()).await?;
    let method = trial::accept(&state, &open.user, code.expose(), &origin).await?;
    challenges::end(&state, &open).await?;
    let tokens = proceed(&state, &open, method, &origin).await?;
    let agent_id = state.engine.directory().agent_of(open.user.id).map(|agent| agent.id);
    Ok(private(Completed { tokens, user: UserView::of(&open.user, agent_id) }))
}

/// Goes on with what a challenge was for.
async fn proceed(
    state: &EdgeState,
    open: &Open,
    method: Method,
    origin: &Origin,
) -> Result<Tokens, ApiError> {
    match open.purpose {
        Purpose::SignIn { client, .. } => {
            let amr = with(open.purpose.methods(), method);
            state.sessions.begin(state, SignIn { user: &open.user, amr, client, origin }).await
        }
        Purpose::StepUp { session } => {
            let tokens = state.sessions.strengthen(state, session, word(method)).await?;
            let mut act = enrolment::act("user.stepped_up", &open.user, origin);
            act.details.insert("session".to_owned(), session.to_string().into());
            state.trail.note(act).await?;
            Ok(tokens)
        }
    }
}

/// How it stands with one's second factor.
#[utoipa::path(get, path = "/auth/2fa", tag = "auth", responses(
    (status = 200, body = FactorView), (status = 404, description = "the user was removed"),
))]
pub(crate) async fn show(State(state): State<EdgeState>, caller: Caller) -> Result<Response, ApiError> {
    let user = own_user(&state, &caller).await?;
    let active = kept::read(&state, user.id).await?.factor.active;
    Ok(private(FactorView {
        enrolled: active.is_some(),
        required: is_required(&state, &user),
        since: active.as_ref().map(|active| active.since),
        recovery_codes_left: active.map_or(0, |active| active.recovery.len()),
    }))
}

/// Makes a secret for an authenticator app. One that counts already goes on until the new one is confirmed.
#[utoipa::path(post, path = "/auth/2fa/enroll", tag = "auth", request_body = EnrollRequest, responses(
    (status = 200, body = Enrolment), (status = 404, description = "the user was removed"), (status = 401, description = "signed in too long ago, or the challenge is over"),
))]
pub(crate) async fn enroll(
    State(state): State<EdgeState>,
    caller: Option<Extension<Caller>>,
    origin: Origin,
    Json(EnrollRequest { challenge }): Json<EnrollRequest>,
) -> Result<Response, ApiError> {
    let enroller = enroller(&state, caller, challenge).await?;
    Ok(private(enrolment::offer(&state, &enroller, &origin).await?))
}

/// Confirms a secret by its first code: from now on it counts. Answers with recovery codes, and with tokens
/// that say that a second factor was shown.
#[utoipa::path(post, path = "/auth/2fa/confirm", tag = "auth", request_body = ConfirmRequest, responses(
    (status = 200, body = Confirmed), (status = 404, description = "the user was removed"), (status = 401, description = "the code does not count, or the challenge is over"),
))]
pub(crate) async fn confirm(
    State(state): State<EdgeState>,
    caller: Option<Extension<Caller>>,
    origin: Origin,
    Json(ConfirmRequest { challenge, code }): Json<ConfirmRequest>,
) -> Result<Response, ApiError> {
    let enroller = enroller(&state, caller, challenge).await?;
    let recovery_codes = enrolment::confirm(&state, &enroller, code.expose(), &origin).await?;
    // The codes are shown once: what fails from here on must not keep them back. Whoever gets no tokens
    // signs in with the factor that counts now.
    let tokens = match &enroller {
        Enroller::Challenged(open) => match challenges::end(&state, open).await {
            Ok(()) => proceed(&state, open, Method::Code, &origin).await,
            Err(error) => Err(error),
        },
        Enroller::SignedIn(_, caller) => match caller.session_id {
            Some(session) => state.sessions.strengthen(&state, session, word(Method::Code)).await,
            None => Err(ApiError::new(Code::SessionOver)),
        },
    };
    Ok(private(Confirmed { recovery_codes, tokens: tokens.ok() }))
}

/// Removes one's second factor. All other sessions end; the tokens of this one must be refreshed.
#[utoipa::path(delete, path = "/auth/2fa", tag = "auth", responses(
    (status = 204, description = "there is none any more"), (status = 403, description = "a role asks for one"),
    (status = 404, description = "there was none"),
))]
pub(crate) async fn remove(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
) -> Result<StatusCode, ApiError> {
    let user = own_user(&state, &caller).await?;
    enrolment::remove(&state, &user, caller.session_id, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes new recovery codes; those of before do not count any more.
#[utoipa::path(post, path = "/auth/2fa/recovery-codes", tag = "auth", responses(
    (status = 200, body = RecoveryCodes), (status = 404, description = "there is no second factor"),
))]
pub(crate) async fn renew(
    State(state): State<EdgeState>,
    caller: Caller,
    origin: Origin,
) -> Result<Response, ApiError> {
    let user = own_user(&state, &caller).await?;
    let recovery_codes = enrolment::renew_recovery_codes(&state, &user, &origin).await?;
    Ok(private(RecoveryCodes { recovery_codes }))
}

async fn enroller(
    state: &EdgeState,
    caller: Option<Extension<Caller>>,
    challenge: Option<Secret>,
) -> Result<Enroller, ApiError> {
    match (challenge, caller) {
        (Some(challenge), _) => Ok(Enroller::Challenged(challenges::find(state, challenge.expose()).await?)),
        (None, Some(Extension(caller))) => Ok(Enroller::SignedIn(own_user(state, &caller).await?, caller)),
        (None, None) => Err(ApiError::new(Code::NoToken)),
    }
}

/// The caller's user, when it signed in with us: no client handles anybody's second factor.
async fn own_user(state: &EdgeState, caller: &Caller) -> Result<User, ApiError> {
    if caller.client_id.is_some() {
        return Err(ApiError::new(Code::Forbidden).detail("a client cannot do this for its user"));
    }
    find_user(state, caller.user_id.uuid()).await?.ok_or(ApiError::new(Code::NotFound))
}

/// An answer that nobody keeps.
fn private(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}
