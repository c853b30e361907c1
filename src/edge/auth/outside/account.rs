//! The user behind somebody whom an outside provider knows.
//!
//! A person is known by issuer and subject, which a provider never gives to another. An e-mail address leads
//! to a user only where the section says so, and only if both sides have verified it: otherwise whoever
//! writes another's address into a profile, here or there, would come in as that other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::super::error::{ApiError, Code};
use super::super::super::router::EdgeState;
use super::super::super::users::{self, AccountError};
use super::super::{Act, Origin};
use super::journey::hashed;
use super::person::{Person, roles};
use super::provider::{OutsideProvider, OutsideSettings};
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{Actor, DisplayName, Email, Login, RoleName};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::records::{RecordKind, StoredRecord};

/// Letters of the hash that end a login where nothing better is free.
const HASH_LETTERS: usize = 12;

/// A person of an outside provider and the user that it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The user.
    pub(super) user_id: UserId,
    /// The provider's section.
    pub(super) provider: String,
    /// The provider's issuer.
    pub(super) issuer: String,
    /// The provider's id of the person.
    pub(super) subject: String,
    /// Whether the user was made for this person: its roles follow the provider's groups then.
    pub(super) made_user: bool,
    /// When they were linked.
    pub(super) linked_at: Timestamp,
}

/// How a person and a user came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Creation,
    Email,
    User,
}

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Email => "email",
            Self::User => "user",
        }
    }
}

/// What an identity is kept under. The subject may be an address of its own kind.
fn key_of(issuer: &str, subject: &str) -> String {
    hashed(&format!("{issuer}\n{subject}"))
}

/// The user that a person is, or becomes.
///
/// # Errors
/// `RegistrationClosed` when it is nobody here, `Exists` when its address is another's, `Forbidden` when it
/// has no role.
pub(super) async fn resolve(
    state: &EdgeState,
    provider: &OutsideProvider,
    person: &Person,
    origin: &Origin,
) -> Result<User, ApiError> {
    let settings = &provider.settings;
    let records = &*state.engine.stores().records;
    if let Some((id, identity)) = identity_of(state, person).await? {
        if let Some(account) = users::by_id(records, identity.user_id).await? {
            if identity.made_user && settings.roles_claim.is_some() {
                return follow_groups(state, account.user, &wanted_roles(settings, person), origin).await;
            }
            return Ok(account.user);
        }
        // Its user was taken out, so it is nobody again.
        records.remove(RecordKind::OutsideIdentity, id).await?;
    }
    if let Some(user) = user_of_address(state, settings, person).await? {
        return link_as(state, (settings, person), user, By::Email, origin).await;
    }
    if !settings.create_users {
        return Err(
            ApiError::new(Code::RegistrationClosed).detail("nobody here is linked with this identity")
        );
    }
    let user = make_user(state, settings, person, origin).await?;
    link_as(state, (settings, person), user, By::Creation, origin).await
}

/// Links a person with a user who is signed in.
///
/// # Errors
/// `Exists` when the person is another user.
pub(super) async fn link_by_user(
    state: &EdgeState,
    (provider, person): (&OutsideProvider, &Person),
    user: UserId,
    origin: &Origin,
) -> Result<(Uuid, Identity), ApiError> {
    let (id, identity) = link(state, (&provider.settings, person), user, By::User, origin).await?;
    if identity.user_id == user {
        return Ok((id, identity));
    }
    Err(ApiError::new(Code::Exists).detail("this identity is linked with another user"))
}

/// The identities of a user, oldest first.
pub(super) async fn identities(state: &EdgeState, user: UserId) -> Result<Vec<(Uuid, Identity)>, ApiError> {
    let all = state.engine.stores().records.all(RecordKind::OutsideIdentity).await?;
    let mut own: Vec<_> =
        all.iter().filter_map(read).filter(|(_, identity)| identity.user_id == user).collect();
    own.sort_by_key(|(_, identity)| identity.linked_at);
    Ok(own)
}

async fn identity_of(state: &EdgeState, person: &Person) -> Result<Option<(Uuid, Identity)>, ApiError> {
    let key = key_of(&person.issuer, &person.subject);
    let found = state.engine.stores().records.by_key(RecordKind::OutsideIdentity, &key).await?;
    let found = found.as_ref().and_then(read);
    // A hash is no proof that it is the same person; what it was made of is.
    Ok(found.filter(|(_, known)| known.issuer == person.issuer && known.subject == person.subject))
}

fn read(record: &StoredRecord) -> Option<(Uuid, Identity)> {
    let identity = Identity::deserialize(&record.body);
    identity
        .inspect_err(|error| tracing::error!(%error, id = %record.id, "identity cannot be read"))
        .ok()
        .map(|identity| (record.id, identity))
}

/// The user who has the person's address, if both sides have verified it and the section says that this is
/// enough.
async fn user_of_address(
    state: &EdgeState,
    settings: &OutsideSettings,
    person: &Person,
) -> Result<Option<User>, ApiError> {
    let Some(email) = email_of(person).filter(|_| settings.link_by_email) else { return Ok(None) };
    let found = users::by_email(&*state.engine.stores().records, &email).await?;
    Ok(found.map(|account| account.user).filter(|user| user.email_verified))
}

fn email_of(person: &Person) -> Option<Email> {
    person.verified_email.as_deref().and_then(|email| email.parse().ok())
}

fn wanted_roles(settings: &OutsideSettings, person: &Person) -> BTreeSet<RoleName> {
    roles(person.groups.as_deref().unwrap_or_default(), &settings.roles, &settings.default_roles)
}

fn without_role() -> ApiError {
    ApiError::new(Code::Forbidden).detail("the outside provider gives no role here")
}

/// Links a person with a user that it is about to sign in as.
async fn link_as(
    state: &EdgeState,
    person: (&OutsideSettings, &Person),
    user: User,
    by: By,
    origin: &Origin,
) -> Result<User, ApiError> {
    let (_, identity) = link(state, person, user.id, by, origin).await?;
    if identity.user_id == user.id {
        return Ok(user);
    }
    // It became another user at this very moment; the next sign-in finds that.
    Err(ApiError::new(Code::Exists).detail("this identity has just been linked with another user"))
}

/// Links a person with a user; answers the link that is there afterwards.
async fn link(
    state: &EdgeState,
    (settings, person): (&OutsideSettings, &Person),
    user: UserId,
    by: By,
    origin: &Origin,
) -> Result<(Uuid, Identity), ApiError> {
    let now = state.engine.clock().now();
    let identity = Identity {
        user_id: user,
        provider: settings.name.clone(),
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        made_user: by == By::Creation,
        linked_at: now,
    };
    let id = Uuid::now_v7();
    let record = StoredRecord {
        id,
        key: key_of(&person.issuer, &person.subject),
        body: serde_json::to_value(&identity).map_err(|_| ApiError::new(Code::Internal))?,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    match state.engine.stores().records.insert(RecordKind::OutsideIdentity, record).await {
        Ok(()) => {}
        // Another sign-in of the same person was quicker.
        Err(StoreError::Exists(_)) => {
            return identity_of(state, person).await?.ok_or(ApiError::new(Code::Overloaded));
        }
        Err(error) => return Err(error.into()),
    }
    let details = [("provider", settings.name.as_str()), ("by", by.as_str())];
    note(state, "user.identity_linked", user, &details, origin).await?;
    Ok((id, identity))
}

/// Makes the user for a person. Its id follows from the person, so that two sign-ins at a time make one.
async fn make_user(
    state: &EdgeState,
    settings: &OutsideSettings,
    person: &Person,
    origin: &Origin,
) -> Result<User, ApiError> {
    let roles = wanted_roles(settings, person);
    if roles.is_empty() {
        return Err(without_role());
    }
    let records = &*state.engine.stores().records;
    let now = state.engine.clock().now();
    let email = email_of(person);
    let name = person.name.as_deref().and_then(|name| name.parse::<DisplayName>().ok());
    let id = UserId::derived(&person.issuer, &person.subject);
    for login in logins(settings, person) {
        let user = User {
            id,
            name: name.clone().map_or_else(|| login.as_str().to_owned(), DisplayName::into_string),
            login: login.into_string(),
            email: email.clone(),
            email_verified: email.is_some(),
            roles: roles.clone(),
            epoch: 0,
            // No password leads to it.
            password_hash: String::new(),
            enabled: true,
        };
        match users::insert(records, &user, now).await {
            Ok(()) => {
                note(state, "user.created", id, &[("provider", settings.name.as_str())], origin).await?;
                return Ok(user);
            }
            Err(AccountError::LoginTaken) => {
                if let Some(account) = users::by_id(records, id).await? {
                    return Ok(account.user);
                }
            }
            Err(AccountError::EmailTaken) => {
                let why =
                    "a user has this e-mail address already; sign in as that user and link the identity";
                return Err(ApiError::new(Code::Exists).detail(why));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::new(Code::Exists).detail("no login is free for this person"))
}

/// Logins that a person may get, best first. What looks like an address is one only if it is verified.
fn logins(settings: &OutsideSettings, person: &Person) -> Vec<Login> {
    let preferred = person.preferred_login.clone().filter(|login| !login.contains('@'));
    let hash = key_of(&person.issuer, &person.subject);
    let own = format!("{}-{}", settings.name, &hash[..HASH_LETTERS]);
    let texts = [preferred, person.verified_email.clone(), Some(own)];
    texts.into_iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

/// Gives a user the roles that its groups lead to. One that has none left may not come in.
async fn follow_groups(
    state: &EdgeState,
    user: User,
    wanted: &BTreeSet<RoleName>,
    origin: &Origin,
) -> Result<User, ApiError> {
    if user.roles == *wanted {
        return if wanted.is_empty() { Err(without_role()) } else { Ok(user) };
    }
    let records = &*state.engine.stores().records;
    let now = state.engine.clock().now();
    let edit = |user: &mut User| {
        user.roles.clone_from(wanted);
        user.epoch += 1;
        Ok::<_, ApiError>(())
    };
    let (_, account) = users::change(records, user.id, None, now, edit).await?;
    let user = account.user;
    state.gate.revoke(&*state.engine.stores().grants, user.id.uuid(), user.epoch).await?;
    let roles: Vec<_> = wanted.iter().map(RoleName::as_str).collect();
    let roles = roles.join(" ");
    note(state, "user.roles_changed", user.id, &[("roles", &roles), ("by", "groups")], origin).await?;
    if wanted.is_empty() { Err(without_role()) } else { Ok(user) }
}

/// Notes what was done to a user by itself.
pub(super) async fn note(
    state: &EdgeState,
    what: &'static str,
    user: UserId,
    details: &[(&str, &str)],
    origin: &Origin,
) -> Result<(), ApiError> {
    let details = details.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    let details: Map<_, _> = details.collect();
    let actor = Actor::User { id: user };
    let act = Act { what, actor, subject: Some(user.to_string()), origin: Some(origin), details };
    state.trail.note(act).await
}
