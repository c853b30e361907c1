//! `eml user`: users from the host, where whoever has a shell has the store anyway.

use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::{Failure, output};
use crate::config::Settings;
use crate::domain::directory::User;
use crate::domain::id::UserId;
use crate::domain::identity::{Actor, AuditEntry, DisplayName, Email, Login, RoleName};
use crate::domain::time::Clock;
use crate::edge::ApiError;
use crate::edge::auth::Gate;
use crate::edge::auth::links::{self, Purpose};
use crate::edge::auth::passwords::{Password, PasswordContext, check_now, hash_now};
use crate::edge::users::{self, AccountError, NewAccount};
use crate::store::grants::GrantKind;
use crate::store::{self, Stores};

/// Fewest characters that are taken from the host, where the other rules only warn.
const LEAST_CHARACTERS: usize = 8;

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes a user.
    Create {
        /// What it signs in with.
        login: Login,
        /// admin, supervisor, agent, service, or a role of your own; may be given several times.
        #[arg(long, required = true)]
        role: Vec<RoleName>,
        /// File whose first line is the password.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// Its name; the login when absent.
        #[arg(long)]
        name: Option<DisplayName>,
        /// Its e-mail address.
        #[arg(long)]
        email: Option<Email>,
    },
    /// Lists users.
    Ls {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Lets a user sign in no more; its sessions end within a second.
    Disable {
        /// What it signs in with.
        login: Login,
    },
    /// Lets a user sign in again.
    Enable {
        /// What it signs in with.
        login: Login,
    },
    /// Prints a link with which a user sets another password, or sets one from a file.
    ResetPassword {
        /// What it signs in with.
        login: Login,
        /// File whose first line is the password.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Takes a user's second factor away; its sessions end.
    #[command(name = "reset-2fa")]
    ResetSecondFactor {
        /// What it signs in with.
        login: Login,
    },
    /// Prints a link that makes an admin, when nobody can sign in any more.
    Recover,
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    if settings.store_url() == "memory:" {
        return Err(Failure::failed("store.url is memory:, which only its own node can reach"));
    }
    let stores = store::open(&settings.store_url()).await?;
    let host = Host { stores, settings };
    match command {
        Command::Create { login, role, password_file, name, email } => {
            let password = host.password(&password_file, &login)?;
            let new = NewAccount {
                login,
                name,
                email: email.map(|email| (email, true)),
                roles: role.into_iter().collect(),
                password_hash: hashed(&password, host.settings.auth.bcrypt_cost)?,
            };
            let user = users::create(&*host.stores.records, new, Clock.now()).await?;
            host.note("user.created", Some(user.id)).await?;
            output::line(user.id);
            Ok(())
        }
        Command::Ls { json } => host.list(json).await,
        Command::Disable { login } => host.set_enabled(&login, false).await,
        Command::Enable { login } => host.set_enabled(&login, true).await,
        Command::ResetPassword { login, password_file } => match password_file {
            Some(file) => host.set_password(&login, &file).await,
            None => host.password_link(&login).await,
        },
        Command::ResetSecondFactor { login } => host.reset_second_factor(&login).await,
        Command::Recover => host.recover().await,
    }
}

/// The first line of a file.
fn first_line(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn hashed(password: &Password, cost: u32) -> Result<String, Failure> {
    hash_now(password, cost).map_err(|_| Failure::failed("the password cannot be hashed"))
}

/// Somebody with a shell on the host, and what it works on.
struct Host {
    stores: Stores,
    settings: Settings,
}

impl Host {
    /// A password from a file; says so when it would not be taken from anybody else.
    fn password(&self, file: &Path, login: &Login) -> Result<Password, Failure> {
        let text = first_line(file)?;
        if text.chars().count() < LEAST_CHARACTERS {
            return Err(Failure::failed(format!(
                "the password must have at least {LEAST_CHARACTERS} characters"
            )));
        }
        let password = Password::new(text);
        let context = PasswordContext::of(login.as_str(), None, "");
        if let Err(refusal) = check_now(&password, &context, self.settings.auth.password_min) {
            let problem = refusal.problem();
            let why = problem["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
            output::talk(format!("warning: the password {why}"));
        }
        Ok(password)
    }

    async fn find(&self, login: &Login) -> Result<User, Failure> {
        let account = users::by_login(&*self.stores.records, login.as_str()).await?;
        let missing = || Failure::failed(format!("there is no user `{login}`; `eml user ls` lists them"));
        account.map(|account| account.user).ok_or_else(missing)
    }

    async fn list(&self, json: bool) -> Result<(), Failure> {
        for account in users::all(&*self.stores.records).await? {
            let User { id, login, name, email, roles, enabled, .. } = account.user;
            if json {
                let row = json!({ "id": id, "login": login, "name": name, "email": email, "roles": roles, "enabled": enabled });
                output::line(row);
                continue;
            }
            let roles = roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(",");
            let standing = if enabled { "enabled" } else { "disabled" };
            output::line(format!("{id}  {standing:<8}  {roles:<20}  {login}"));
        }
        Ok(())
    }

    /// Changes a user so that its tokens of before are refused, and ends its sessions.
    async fn change(&self, user: &User, edit: impl Fn(&mut User) + Send + Sync) -> Result<User, Failure> {
        let edit = |user: &mut User| {
            edit(user);
            user.epoch += 1;
            Ok::<(), AccountError>(())
        };
        let records = &*self.stores.records;
        let (_, after) = users::change(records, user.id, None, Clock.now(), edit).await?;
        let grants = &*self.stores.grants;
        Gate::default().revoke(grants, user.id.uuid(), after.user.epoch).await?;
        grants.take_all(GrantKind::Session, user.id.uuid()).await?;
        Ok(after.user)
    }

    async fn set_enabled(&self, login: &Login, enabled: bool) -> Result<(), Failure> {
        let user = self.find(login).await?;
        if user.enabled == enabled {
            output::talk("it is so already");
            return Ok(());
        }
        if !enabled && user.is_admin() && !users::has_other_admin(&*self.stores.records, user.id).await? {
            output::talk("warning: nobody can set things up now; `eml user recover` makes another admin");
        }
        self.change(&user, |user| user.enabled = enabled).await?;
        self.note(if enabled { "user.enabled" } else { "user.disabled" }, Some(user.id)).await?;
        output::line(user.id);
        Ok(())
    }

    async fn set_password(&self, login: &Login, file: &Path) -> Result<(), Failure> {
        let user = self.find(login).await?;
        let hash = hashed(&self.password(file, login)?, self.settings.auth.bcrypt_cost)?;
        self.change(&user, |user| user.password_hash.clone_from(&hash)).await?;
        self.stores.grants.take_all(GrantKind::KnownPlace, user.id.uuid()).await?;
        self.note("user.password_reset", Some(user.id)).await?;
        output::line(user.id);
        Ok(())
    }

    async fn password_link(&self, login: &Login) -> Result<(), Failure> {
        let user = self.find(login).await?;
        if !user.enabled {
            return Err(Failure::failed(format!("`{login}` is disabled; `eml user enable` comes first")));
        }
        self.print_link(&Purpose::Password { user_id: user.id, epoch: user.epoch }).await?;
        self.note("user.password_link_made", Some(user.id)).await
    }

    async fn reset_second_factor(&self, login: &Login) -> Result<(), Failure> {
        let user = self.find(login).await?;
        let taken = self.stores.grants.take_all(GrantKind::Factor, user.id.uuid()).await?;
        if taken == 0 {
            output::talk("it has no second factor");
        }
        self.change(&user, |_| {}).await?;
        self.note("user.second_factor_removed", Some(user.id)).await?;
        output::line(user.id);
        Ok(())
    }

    async fn recover(&self) -> Result<(), Failure> {
        self.print_link(&Purpose::Recovery).await?;
        self.note("user.recovery_link_made", None).await
    }

    async fn print_link(&self, purpose: &Purpose) -> Result<(), Failure> {
        let (grants, life) = (&*self.stores.grants, self.settings.auth.link_ttl_ms);
        let made = links::make(grants, purpose, &self.settings.public_url(), life, Clock.now()).await?;
        output::line(&made.url);
        output::talk(format!("works once, until {}", made.expires_at));
        Ok(())
    }

    async fn note(&self, what: &str, subject: Option<UserId>) -> Result<(), Failure> {
        let entry = AuditEntry {
            at: Clock.now(),
            what: what.to_owned(),
            actor: Actor::Host,
            subject: subject.map(|id| id.to_string()),
            ip: None,
            request_id: None,
            node: self.settings.node.name.clone(),
            details: Map::new(),
        };
        self.stores.audit.append_audit(vec![entry]).await?;
        Ok(())
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            AccountError::Unknown
            | AccountError::LoginTaken
            | AccountError::EmailTaken
            | AccountError::Changed => Self::failed(error.to_string()),
        }
    }
}

/// A user of the sample, whose password is not judged.
///
/// # Errors
/// When the login is no login.
pub(super) fn sample_user(login: &str, password: &str, role: RoleName, cost: u32) -> Result<User, Failure> {
    let login: Login = login.parse().map_err(|error| Failure::failed(format!("login: {error}")))?;
    let password_hash = hash_now(&Password::new(password.to_owned()), cost)
        .map_err(|error: ApiError| Failure::failed(format!("password: {:?}", error.code())))?;
    Ok(User {
        id: UserId::fresh(),
        name: login.as_str().to_owned(),
        login: login.into_string(),
        email: None,
        email_verified: false,
        roles: [role].into(),
        epoch: 0,
        password_hash,
        enabled: true,
    })
}
