//! The person before our pages: signs in by the same way as everybody, with the same limits and the same
//! second factor.

use axum::http::StatusCode;

use super::super::auth::passwords::Password;
use super::super::auth::{self, Credentials, Origin, Proven, Secret, factors};
use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::error::OAuthError;
use super::journey::Proof;
use crate::domain::directory::User;
use crate::domain::identity::{Method, PermissionSet};
use crate::store::records::RecordKind;

/// How much somebody has shown.
pub(super) enum Shown {
    /// The password; the second factor is due.
    Half(Proof),
    /// Everything.
    Whole(Proof),
}

/// What a page says when something was wrong.
pub(super) struct Wrong {
    /// In a sentence.
    pub said: String,
    /// How it is answered.
    pub status: StatusCode,
}

impl From<ApiError> for Wrong {
    fn from(error: ApiError) -> Self {
        let status = error.code().status();
        let said = if error.code() == Code::BadCredentials {
            "Login or password is wrong."
        } else if error.code() == Code::SecondFactorWrong {
            "The code is wrong, or was used before."
        } else if error.code() == Code::TooManyTries {
            "Too many tries. Wait a while."
        } else if status.is_client_error() {
            "This does not work any more. Begin again."
        } else {
            "This cannot be done at the moment. Try again."
        };
        Self { said: said.to_owned(), status }
    }
}

/// Signs somebody in with login and password.
pub(super) async fn password(
    state: &EdgeState,
    origin: &Origin,
    login: &str,
    password: Password,
) -> Result<Shown, Wrong> {
    let credentials = Credentials {
        login: login.to_owned(),
        password,
        code: None,
        device_token: None,
        remember_device: false,
    };
    let Proven { user, .. } = auth::prove(state, origin, credentials).await?;
    let shown = proof(state, &user);
    if factors::is_enrolled(state, user.id).await? {
        return Ok(Shown::Half(shown));
    }
    if factors::is_required(state, &user) {
        let said = "You need a second factor. Sign in where you work with EML, and set it up there first.";
        return Err(Wrong { said: said.to_owned(), status: StatusCode::FORBIDDEN });
    }
    Ok(Shown::Whole(shown))
}

/// Takes the second factor of somebody whose password was right.
pub(super) async fn second_factor(
    state: &EdgeState,
    origin: &Origin,
    mut proof: Proof,
    code: Secret,
) -> Result<Proof, Wrong> {
    let user = unchanged(state, &proof).await.map_err(|_| ApiError::new(Code::StoreUnavailable))?;
    let user = user.ok_or(ApiError::new(Code::SessionOver))?;
    let method = factors::accept(state, &user, code.expose(), origin).await?;
    proof.amr.push(match method {
        Method::Code => "otp".to_owned(),
        Method::RecoveryCode => "recovery".to_owned(),
    });
    proof.at = state.engine.clock().now();
    Ok(proof)
}

fn proof(state: &EdgeState, user: &User) -> Proof {
    Proof { user_id: user.id, epoch: user.epoch, amr: vec!["pwd".to_owned()], at: state.engine.clock().now() }
}

/// The user who signed in, if nothing has happened since that ends its sessions.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn unchanged(state: &EdgeState, proof: &Proof) -> Result<Option<User>, OAuthError> {
    let stored = state.engine.stores().records.by_id(RecordKind::User, proof.user_id.uuid()).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    Ok(user.filter(|user| user.enabled && user.epoch == proof.epoch))
}

/// What a user may do at this moment.
pub(super) fn permissions(state: &EdgeState, user: &User) -> PermissionSet {
    state.engine.directory().permissions_of(&user.roles)
}

/// How somebody signed in, as sessions name it.
pub(super) fn methods(amr: &[String]) -> Vec<&'static str> {
    const KNOWN: [&str; 5] = ["pwd", "otp", "recovery", "ext", "hwk"];
    KNOWN.into_iter().filter(|known| amr.iter().any(|method| method == known)).collect()
}
