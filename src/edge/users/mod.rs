//! Users: how they come, what they may change themselves, what others change of them, and their roles.

mod accounts;
mod admin;
mod list;
mod password;
mod profile;
mod register;
mod roles;
mod start;
mod view;

use std::collections::BTreeSet;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::passwords::{Password, PasswordContext};
use super::auth::{Act, By, Caller, Origin};
use super::error::{ApiError, Code};
use super::router::EdgeState;
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{Actor, DisplayName, Email, Login, RoleName};

pub use accounts::{
    Account, AccountError, NewAccount, all, by_email, by_id, by_login, change, create, has_other_admin,
    insert, remove,
};
pub(super) use view::UserView;

/// Somebody who is to become a user.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub login: Login,
    pub password: Password,
    pub name: Option<DisplayName>,
    /// Its address, and whether somebody has vouched for that being its own.
    pub email: Option<(Email, bool)>,
    pub roles: BTreeSet<RoleName>,
}

/// Makes a user for somebody who may make one.
///
/// # Errors
/// When a role is beyond the caller, and as [`admit`].
pub(super) async fn make(state: &EdgeState, by: &By, newcomer: Newcomer) -> Result<User, ApiError> {
    check_roles(state, &newcomer.roles)?;
    check_reach(state, &by.caller, &newcomer.roles)?;
    let user = admit(state, newcomer).await?;
    let mut act = act("user.created", by.caller.actor(), user.id, &by.origin);
    act.details.insert("roles".to_owned(), words(&user.roles).into());
    state.trail.note(act).await?;
    Ok(user)
}

/// Makes a user of a newcomer whose password is good enough.
///
/// # Errors
/// When login or address is taken or the password too weak, `TooManyTries` when too many wait.
async fn admit(state: &EdgeState, newcomer: Newcomer) -> Result<User, ApiError> {
    let Newcomer { login, password, name, email, roles } = newcomer;
    let turn = state.passwords.turn()?;
    let records = &*state.engine.stores().records;
    // Told before the slow part; who comes second at the same time is told after it.
    if by_login(records, login.as_str()).await?.is_some() {
        return Err(AccountError::LoginTaken.into());
    }
    let address = email.as_ref().map(|(email, _)| email.as_str());
    let shown = name.as_ref().map_or("", DisplayName::as_str);
    let context = context(state, (login.as_str(), address, shown), &roles);
    state.passwords.check_in(&turn, &password, &context).await?;
    let password_hash = state.passwords.hash_in(&turn, password).await?;
    let new = NewAccount { login, name, email, roles, password_hash };
    Ok(create(records, new, state.engine.clock().now()).await?)
}

/// What must be known to judge a password of somebody with this login, address and name.
fn context(
    state: &EdgeState,
    (login, email, name): (&str, Option<&str>, &str),
    roles: &BTreeSet<RoleName>,
) -> PasswordContext {
    let mut context = PasswordContext::of(login, email, name);
    context.has_second_factor = roles.iter().any(|role| state.settings.second_factor_roles.contains(role));
    context
}

/// The same for a user.
fn context_of(state: &EdgeState, user: &User) -> PasswordContext {
    let email = user.email.as_ref().map(Email::as_str);
    context(state, (&user.login, email, &user.name), &user.roles)
}

/// Refuses tokens of a user that were made before its last change of roles, password or standing.
async fn refuse_older_tokens(state: &EdgeState, user: &User) -> Result<(), ApiError> {
    Ok(state.gate.revoke(&*state.engine.stores().grants, user.id.uuid(), user.epoch).await?)
}

/// Whether a caller may give these roles, or act on somebody who has them: nobody gives or takes more
/// than it has itself.
fn check_reach(state: &EdgeState, caller: &Caller, roles: &BTreeSet<RoleName>) -> Result<(), ApiError> {
    let directory = state.engine.directory();
    if caller.permissions.includes(directory.permissions_of(roles)) {
        return Ok(());
    }
    Err(ApiError::new(Code::Forbidden).detail("these roles allow more than you may yourself"))
}

/// A user that a caller may act on.
async fn within_reach(state: &EdgeState, caller: &Caller, id: UserId) -> Result<User, ApiError> {
    let account = by_id(&*state.engine.stores().records, id).await?.ok_or(ApiError::new(Code::NotFound))?;
    check_reach(state, caller, &account.user.roles)?;
    Ok(account.user)
}

/// Whether there are such roles.
fn check_roles(state: &EdgeState, roles: &BTreeSet<RoleName>) -> Result<(), ApiError> {
    let directory = state.engine.directory();
    if roles.is_empty() {
        return Err(ApiError::new(Code::Validation).at("/roles", "must name one role at least"));
    }
    for role in roles {
        if !RoleName::BUILT_IN.contains(&role.as_str()) && !directory.roles.contains_key(role) {
            return Err(ApiError::new(Code::Validation).at("/roles", format!("there is no role `{role}`")));
        }
    }
    Ok(())
}

/// What is noted of something that was done to a user.
fn act<'a>(what: &'static str, actor: Actor, subject: UserId, origin: &'a Origin) -> Act<'a> {
    let details = serde_json::Map::new();
    Act { what, actor, subject: Some(subject.to_string()), origin: Some(origin), details }
}

fn words(roles: &BTreeSet<RoleName>) -> String {
    roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(" ")
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Unknown => Self::new(Code::NotFound),
            AccountError::LoginTaken => Self::new(Code::Exists).at("/login", "another user has this login"),
            AccountError::EmailTaken => Self::new(Code::Exists).at("/email", "another user has this address"),
            AccountError::Changed => Self::new(Code::PreconditionFailed),
            AccountError::Store(error) => error.into(),
        }
    }
}

/// All routes of users and roles.
pub(super) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(register::register))
        .routes(routes!(register::invite))
        .routes(routes!(profile::show, profile::change))
        .routes(routes!(password::change))
        .routes(routes!(password::by_link))
        .routes(routes!(password::make_link))
        .routes(routes!(list::list))
        .routes(routes!(admin::show, admin::change, admin::remove))
        .routes(routes!(admin::set_roles))
        .routes(routes!(roles::list))
        .routes(routes!(roles::show, roles::set, roles::remove))
        .routes(routes!(start::set_up))
        .routes(routes!(start::page))
}
