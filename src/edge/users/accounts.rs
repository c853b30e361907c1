//! Users as they are kept: a record each, and one more per e-mail address so that no two have the same.
//!
//! The two records are not written in one transaction. An address is taken before its user is written and
//! given back after; what a crash leaves behind is taken over by whoever wants the address next.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{DisplayName, Email, Login, RoleName};
use crate::domain::time::{Millis, Timestamp};
use crate::store::StoreError;
use crate::store::records::{RecordKind, Records, StoredRecord};

/// Tries to change a user while others do.
const TRIES: u32 = 5;
/// An address that was taken this long ago for a user who does not have it was left behind by a crash.
const LEFT_BEHIND: Millis = Millis::from_secs(60);

/// Why a user cannot be kept like this.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("there is no such user")]
    Unknown,
    /// Another user has this login.
    #[error("the login is taken")]
    LoginTaken,
    /// Another user has this e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// It was changed in the meantime.
    #[error("the user was changed in the meantime")]
    Changed,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The user.
    pub user: User,
    /// Grows with each change.
    pub version: u64,
}

/// A user to be.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// What it signs in with.
    pub login: Login,
    /// Its name; the login when absent.
    pub name: Option<DisplayName>,
    /// Its address, and whether somebody has vouched for that being its own.
    pub email: Option<(Email, bool)>,
    /// What it is.
    pub roles: BTreeSet<RoleName>,
    /// Hash of its password; empty when it has none.
    pub password_hash: String,
}

#[derive(Serialize, Deserialize)]
struct AddressOwner {
    user_id: UserId,
}

fn body<T: Serialize>(document: &T) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(document).map_err(|error| StoreError::Refused(error.to_string()))
}

fn read<T: DeserializeOwned>(record: &StoredRecord) -> Result<T, StoreError> {
    let corrupt = || StoreError::Corrupt { table: "records", column: "body", id: record.id.to_string() };
    T::deserialize(&record.body).map_err(|error| {
        tracing::error!(%error, id = %record.id, "record cannot be read");
        corrupt()
    })
}

fn account(record: Option<StoredRecord>) -> Result<Option<Account>, StoreError> {
    let Some(record) = record else { return Ok(None) };
    Ok(Some(Account { user: read(&record)?, version: record.version }))
}

/// A user by its id.
///
/// # Errors
/// When the store cannot be read.
pub async fn by_id(records: &dyn Records, id: UserId) -> Result<Option<Account>, StoreError> {
    account(records.by_id(RecordKind::User, id.uuid()).await?)
}

/// A user by its login.
///
/// # Errors
/// When the store cannot be read.
pub async fn by_login(records: &dyn Records, login: &str) -> Result<Option<Account>, StoreError> {
    account(records.by_key(RecordKind::User, login).await?)
}

/// A user by its e-mail address.
///
/// # Errors
/// When the store cannot be read.
pub async fn by_email(records: &dyn Records, email: &Email) -> Result<Option<Account>, StoreError> {
    let Some(record) = records.by_key(RecordKind::Email, email.as_str()).await? else { return Ok(None) };
    let owner: AddressOwner = read(&record)?;
    let known = by_id(records, owner.user_id).await?;
    // An address that was left behind belongs to nobody.
    Ok(known.filter(|account| account.user.email.as_ref() == Some(email)))
}

/// All users, by login.
///
/// # Errors
/// When the store cannot be read.
pub async fn all(records: &dyn Records) -> Result<Vec<Account>, StoreError> {
    let stored = records.all(RecordKind::User).await?;
    stored.iter().map(|record| Ok(Account { user: read(record)?, version: record.version })).collect()
}

/// Whether somebody else could still set everything up, if one user could not any more.
///
/// # Errors
/// When the store cannot be read.
pub async fn has_other_admin(records: &dyn Records, id: UserId) -> Result<bool, StoreError> {
    let others = all(records).await?;
    Ok(others.iter().any(|account| account.user.id != id && account.user.enabled && account.user.is_admin()))
}

/// Keeps a new user.
///
/// # Errors
/// When its login or address is taken, or the store does not take it.
pub async fn create(records: &dyn Records, new: NewAccount, now: Timestamp) -> Result<User, AccountError> {
    let NewAccount { login, name, email, roles, password_hash } = new;
    let name = name.map_or_else(|| login.as_str().to_owned(), DisplayName::into_string);
    let (email, email_verified) =
        email.map_or((None, false), |(email, is_vouched)| (Some(email), is_vouched));
    let user = User {
        id: UserId::fresh(),
        login: login.into_string(),
        name,
        email,
        email_verified,
        roles,
        epoch: 0,
        password_hash,
        enabled: true,
    };
    insert(records, &user, now).await?;
    Ok(user)
}

/// Keeps a new user that has its id already.
///
/// # Errors
/// When its login or address is taken, or the store does not take it.
pub async fn insert(records: &dyn Records, user: &User, now: Timestamp) -> Result<(), AccountError> {
    if let Some(email) = &user.email {
        take_address(records, email, user.id, now).await?;
    }
    let record = StoredRecord {
        id: user.id.uuid(),
        key: user.login.clone(),
        body: body(user)?,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    match records.insert(RecordKind::User, record).await {
        Ok(()) => Ok(()),
        Err(error) => {
            if let Some(email) = user.email.as_ref().filter(|_| is_settled(&error)) {
                give_back(records, email, user.id).await?;
            }
            Err(if matches!(error, StoreError::Exists(_)) {
                AccountError::LoginTaken
            } else {
                AccountError::Store(error)
            })
        }
    }
}

/// Whether an error says that nothing was written.
const fn is_settled(error: &StoreError) -> bool {
    matches!(error, StoreError::Exists(_) | StoreError::Changed | StoreError::Refused(_))
}

/// Changes a user. With `known` only that version; without, until no other change comes between.
/// Answers with the user as it was and as it is.
///
/// # Errors
/// Whatever `edit` refuses, and when the user cannot be kept like this.
pub async fn change<E: From<AccountError>>(
    records: &dyn Records,
    id: UserId,
    known: Option<u64>,
    now: Timestamp,
    edit: impl Fn(&mut User) -> Result<(), E> + Send + Sync,
) -> Result<(Account, Account), E> {
    for _ in 0..TRIES {
        let stored = records.by_id(RecordKind::User, id.uuid()).await.map_err(AccountError::Store)?;
        let stored = stored.ok_or(AccountError::Unknown)?;
        if known.is_some_and(|known| known != stored.version) {
            return Err(AccountError::Changed.into());
        }
        let before: User = read(&stored).map_err(AccountError::Store)?;
        let mut after = before.clone();
        edit(&mut after)?;
        let version = stored.version;
        match replace(records, stored, (&before, &after), now).await {
            Ok(new) => {
                return Ok((Account { user: before, version }, Account { user: after, version: new }));
            }
            Err(AccountError::Changed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AccountError::Changed.into())
}

async fn replace(
    records: &dyn Records,
    stored: StoredRecord,
    (before, after): (&User, &User),
    now: Timestamp,
) -> Result<u64, AccountError> {
    let moves = before.email != after.email;
    let new_address = after.email.as_ref().filter(|_| moves);
    if let Some(email) = new_address {
        take_address(records, email, after.id, now).await?;
    }
    let changed = StoredRecord { key: after.login.clone(), body: body(after)?, updated_at: now, ..stored };
    let version = match records.update(RecordKind::User, changed).await {
        Ok(version) => version,
        Err(error) => {
            if let Some(email) = new_address.filter(|_| is_settled(&error)) {
                give_back(records, email, after.id).await?;
            }
            return Err(if matches!(error, StoreError::Changed) {
                AccountError::Changed
            } else if matches!(error, StoreError::Exists(_)) {
                AccountError::LoginTaken
            } else {
                AccountError::Store(error)
            });
        }
    };
    if let Some(email) = before.email.as_ref().filter(|_| moves) {
        give_back(records, email, after.id).await?;
    }
    Ok(version)
}

/// Takes a user out, with its address. Answers with it.
///
/// # Errors
/// When there is none, or not in this version.
pub async fn remove(records: &dyn Records, id: UserId, known: Option<u64>) -> Result<User, AccountError> {
    let account = by_id(records, id).await?.ok_or(AccountError::Unknown)?;
    if known.is_some_and(|known| known != account.version) {
        return Err(AccountError::Changed);
    }
    if !records.remove(RecordKind::User, id.uuid()).await? {
        return Err(AccountError::Unknown);
    }
    if let Some(email) = &account.user.email {
        give_back(records, email, id).await?;
    }
    Ok(account.user)
}

/// Takes an address for a user.
async fn take_address(
    records: &dyn Records,
    email: &Email,
    owner: UserId,
    now: Timestamp,
) -> Result<(), AccountError> {
    let mine = StoredRecord {
        id: Uuid::now_v7(),
        key: email.as_str().to_owned(),
        body: body(&AddressOwner { user_id: owner })?,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    match records.insert(RecordKind::Email, mine.clone()).await {
        Ok(()) => return Ok(()),
        Err(StoreError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let taken = records.by_key(RecordKind::Email, email.as_str()).await?.ok_or(AccountError::EmailTaken)?;
    let holder: AddressOwner = read(&taken)?;
    if holder.user_id == owner {
        return Ok(());
    }
    let has_it = by_id(records, holder.user_id).await?;
    let has_it = has_it.is_some_and(|account| account.user.email.as_ref() == Some(email));
    if has_it || now.since(taken.updated_at) < LEFT_BEHIND {
        return Err(AccountError::EmailTaken);
    }
    let over = StoredRecord { body: mine.body, updated_at: now, ..taken };
    match records.update(RecordKind::Email, over).await {
        Ok(_) => Ok(()),
        Err(StoreError::Changed) => Err(AccountError::EmailTaken),
        Err(error) => Err(error.into()),
    }
}

/// Gives an address back, if it is this user's.
async fn give_back(records: &dyn Records, email: &Email, owner: UserId) -> Result<(), StoreError> {
    if let Some(taken) = records.by_key(RecordKind::Email, email.as_str()).await?
        && read::<AddressOwner>(&taken)?.user_id == owner
    {
        records.remove(RecordKind::Email, taken.id).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
