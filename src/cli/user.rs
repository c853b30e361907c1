//! `eml user create`: users from the host, so that nobody needs a default password.

use std::path::PathBuf;

use super::{Failure, output};
use crate::config::Settings;
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::RoleName;
use crate::domain::time::Clock;
use crate::store;
use crate::store::records::{RecordKind, StoredRecord};

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes a user.
    Create {
        /// What it signs in with.
        login: String,
        /// admin, supervisor, agent, service, or a role of your own.
        #[arg(long)]
        role: RoleName,
        /// File whose first line is the password.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let Command::Create { login, role, password_file } = command;
    let text = std::fs::read_to_string(&password_file)
        .map_err(|error| Failure::failed(format!("{}: {error}", password_file.display())))?;
    let password = text.lines().next().unwrap_or_default();
    if password.chars().count() < 8 {
        return Err(Failure::failed("the password must have at least 8 characters"));
    }
    let user = new_user(&login, password, role, settings.auth.bcrypt_cost)?;
    let stores = store::open(&settings.store_url()).await?;
    insert(&*stores.records, &user).await?;
    output::line(user.id);
    Ok(())
}

/// A user with a hashed password.
///
/// # Errors
/// When the login is empty, has blanks or more than 128 bytes, or the password more than 72 bytes.
pub(super) fn new_user(login: &str, password: &str, role: RoleName, cost: u32) -> Result<User, Failure> {
    let login = login.trim().to_lowercase();
    if login.is_empty() || login.len() > 128 || login.chars().any(char::is_whitespace) {
        return Err(Failure::failed("the login must have 1 to 128 characters without blanks"));
    }
    let password_hash = bcrypt::non_truncating_hash(password, cost)
        .map_err(|_| Failure::failed("the password must not be longer than 72 bytes"))?;
    Ok(User {
        id: UserId::fresh(),
        name: login.clone(),
        login,
        roles: [role].into(),
        epoch: 0,
        password_hash,
        enabled: true,
    })
}

pub(super) async fn insert(records: &dyn store::records::Records, user: &User) -> Result<(), Failure> {
    let body = serde_json::to_value(user).map_err(|error| Failure::failed(error.to_string()))?;
    let now = Clock.now();
    let record = StoredRecord {
        id: user.id.uuid(),
        key: user.login.clone(),
        body,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    Ok(records.insert(RecordKind::User, record).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_one_word_in_lower_case() {
        assert_eq!(new_user(" Ann ", "12345678", RoleName::agent(), 4).unwrap().login, "ann");
        for login in ["", "  ", "ann lee", "a".repeat(129).as_str()] {
            assert!(new_user(login, "12345678", RoleName::agent(), 4).is_err(), "{login:?}");
        }
        assert!(new_user("ann", &"x".repeat(73), RoleName::agent(), 4).is_err());
    }
}
