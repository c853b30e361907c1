//! How users come: made by an admin, by invitation, or by themselves where the configuration lets them.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::links::{self, MadeLink, Purpose};
use super::super::auth::passwords::Password;
use super::super::auth::{By, Caller, Origin, Secret, check_strength, shown};
use super::super::error::{ApiError, Code};
use super::super::request::Json;
use super::super::router::{EdgeState, Registration};
use super::{Newcomer, UserView, act, admit, by_email, check_reach, check_roles, words};
use crate::domain::directory::User;
use crate::domain::identity::{Actor, DisplayName, Email, Login, Permission, RoleName};
use crate::domain::time::Millis;
use crate::store::grants::Grant;

/// Longest life of an invitation.
const LONGEST_INVITATION: Millis = Millis::from_secs(30 * 24 * 3600);
/// Registrations from one address and hour, where anybody may register.
const OPEN_PER_HOUR: u64 = 20;
/// That hour.
const HOUR: Millis = Millis::from_secs(3600);

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// What it signs in with; unique, in any case.
    #[schema(value_type = String)]
    login: Login,
    /// Its password: long, and not one of the common ones.
    password: Password,
    /// Its name; the login when absent.
    #[schema(value_type = Option<String>)]
    name: Option<DisplayName>,
    /// Its e-mail address; unique, in any case.
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
    /// What it is; only for who may make users.
    #[schema(value_type = Option<Vec<String>>)]
    roles: Option<BTreeSet<RoleName>>,
    /// The same, for a single role.
    #[schema(value_type = Option<String>)]
    role: Option<RoleName>,
    /// The link of an invitation, which says what the user is.
    #[schema(value_type = Option<String>)]
    invitation: Option<Secret>,
}

impl NewUser {
    /// The roles that are asked for.
    fn asked_roles(&self) -> Result<Option<BTreeSet<RoleName>>, ApiError> {
        match (&self.roles, &self.role) {
            (Some(_), Some(_)) => {
                Err(ApiError::new(Code::Validation).at("/role", "give either `roles` or `role`"))
            }
            (Some(roles), None) => Ok(Some(roles.clone())),
            (None, Some(role)) => Ok(Some([role.clone()].into())),
            (None, None) => Ok(None),
        }
    }

    /// The newcomer, as whoever lets it in says.
    fn newcomer(self, roles: BTreeSet<RoleName>, is_vouched: bool) -> Newcomer {
        let email = self.email.map(|email| (email, is_vouched));
        Newcomer { login: self.login, password: self.password, name: self.name, email, roles }
    }
}

/// Makes a user. Needs `users:write`, an invitation, or a configuration that lets anybody in.
#[utoipa::path(post, path = "/users/register", tag = "users", security(("bearer" = []), ()), request_body = NewUser, responses(
    (status = 201, body = UserView), (status = 403, description = "registration is closed, or a role is beyond yours"),
    (status = 409, description = "login or address is taken"), (status = 410, description = "the invitation was used or is too old"),
    (status = 422, description = "a value is not acceptable, or the password too weak"),
))]
pub(super) async fn register(
    State(state): State<EdgeState>,
    origin: Origin,
    headers: HeaderMap,
    Json(new): Json<NewUser>,
) -> Result<Response, ApiError> {
    let (user, actor) = if headers.contains_key(header::AUTHORIZATION) {
        by_admin(&state, &headers, &origin, new).await?
    } else if new.invitation.is_some() {
        let user = by_invitation(&state, new).await?;
        let actor = Actor::User { id: user.id };
        (user, actor)
    } else {
        let user = by_itself(&state, &origin, new).await?;
        let actor = Actor::User { id: user.id };
        (user, actor)
    };
    let mut act = act("user.created", actor, user.id, &origin);
    act.details.insert("roles".to_owned(), words(&user.roles).into());
    state.trail.note(act).await?;
    Ok((StatusCode::CREATED, axum::Json(UserView::known(&state, &user))).into_response())
}

async fn by_admin(
    state: &EdgeState,
    headers: &HeaderMap,
    origin: &Origin,
    new: NewUser,
) -> Result<(User, Actor), ApiError> {
    let caller = Caller::of(&*shown(headers, state)?, &state.engine.directory());
    if !caller.may(Permission::UsersWrite) {
        return Err(ApiError::new(Code::Forbidden));
    }
    check_strength(state, &caller, origin).await?;
    let missing = || ApiError::new(Code::Validation).at("/roles", "must say what the user is");
    let roles = new.asked_roles()?.ok_or_else(missing)?;
    if new.invitation.is_some() {
        return Err(ApiError::new(Code::Validation).at("/invitation", "is for those who have no token"));
    }
    check_roles(state, &roles)?;
    check_reach(state, &caller, &roles)?;
    Ok((admit(state, new.newcomer(roles, true)).await?, caller.actor()))
}

async fn by_invitation(state: &EdgeState, mut new: NewUser) -> Result<User, ApiError> {
    let link = new.invitation.take().ok_or_else(links::not_usable)?;
    let grants = &*state.engine.stores().grants;
    let now = state.engine.clock().now();
    let Purpose::Invitation { roles, email, .. } = links::look(grants, &link, now).await? else {
        return Err(links::not_usable());
    };
    if new.asked_roles()?.is_some() {
        return Err(ApiError::new(Code::Forbidden).at("/roles", "the invitation says what you will be"));
    }
    new.email = new.email.or_else(|| email.clone());
    let is_vouched = email.is_some() && new.email == email;
    let taken = links::take(grants, &link, now).await?;
    keep_or_put_back(state, taken, new.newcomer(roles, is_vouched)).await
}

/// Makes a user with a link that was taken; who could not become one may try again.
pub(super) async fn keep_or_put_back(
    state: &EdgeState,
    taken: Grant,
    newcomer: Newcomer,
) -> Result<User, ApiError> {
    match admit(state, newcomer).await {
        Ok(user) => Ok(user),
        Err(error) => {
            links::put_back(&*state.engine.stores().grants, taken).await?;
            Err(error)
        }
    }
}

async fn by_itself(state: &EdgeState, origin: &Origin, new: NewUser) -> Result<User, ApiError> {
    match state.settings.registration {
        Registration::Open => {}
        Registration::Admin | Registration::Invitation => {
            return Err(ApiError::new(Code::RegistrationClosed));
        }
    }
    if new.asked_roles()?.is_some() {
        return Err(ApiError::new(Code::Forbidden).at("/roles", "only an admin gives roles"));
    }
    let key = format!("registrations:{}", origin.ip);
    let now = state.engine.clock().now();
    let counted = state.engine.stores().grants.count(&key, HOUR, OPEN_PER_HOUR, now).await?;
    if counted.count > OPEN_PER_HOUR {
        return Err(
            ApiError::new(Code::TooManyTries).with("retry_after", counted.resets_after.0.div_ceil(1000))
        );
    }
    let roles = [state.settings.registration_role.clone()].into();
    admit(state, new.newcomer(roles, false)).await
}

/// Whom to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Invitation {
    /// What the user will be.
    #[schema(value_type = Vec<String>)]
    roles: BTreeSet<RoleName>,
    /// Where the link will be sent; the user's address, unless it takes another one.
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
    /// How long the link works; the configured time when absent, 30 days at most.
    #[schema(value_type = Option<u64>)]
    life_ms: Option<Millis>,
}

/// Makes a link with which somebody becomes a user. It works once.
#[utoipa::path(post, path = "/users/invitations", tag = "users", request_body = Invitation, responses(
    (status = 201, body = MadeLink), (status = 403, description = "registration is closed to all but admins, or a role is beyond yours"),
    (status = 409, description = "a user has this address"),
))]
pub(super) async fn invite(
    State(state): State<EdgeState>,
    By { caller, origin }: By,
    Json(Invitation { roles, email, life_ms }): Json<Invitation>,
) -> Result<Response, ApiError> {
    match state.settings.registration {
        Registration::Admin => return Err(ApiError::new(Code::RegistrationClosed)),
        Registration::Invitation | Registration::Open => {}
    }
    check_roles(&state, &roles)?;
    check_reach(&state, &caller, &roles)?;
    let life = life_ms.unwrap_or(state.settings.invitation_ttl);
    if !(Millis::from_secs(60)..=LONGEST_INVITATION).contains(&life) {
        return Err(ApiError::new(Code::Validation).at("/life_ms", "must be a minute to 30 days"));
    }
    let stores = state.engine.stores();
    if let Some(email) = &email
        && by_email(&*stores.records, email).await?.is_some()
    {
        return Err(ApiError::new(Code::Exists).at("/email", "a user has this address"));
    }
    let purpose = Purpose::Invitation { roles: roles.clone(), email, invited_by: caller.user_id };
    let now = state.engine.clock().now();
    let made = links::make(&*stores.grants, &purpose, &state.settings.public_url, life, now).await?;
    let mut act = act("user.invited", caller.actor(), caller.user_id, &origin);
    act.subject = None;
    act.details.insert("roles".to_owned(), words(&roles).into());
    state.trail.note(act).await?;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(made)).into_response())
}
