//! `eml token`: access tokens from the host, for scripts and for finding out what one is.

use std::io::Read as _;

use serde_json::{Value, json};

use super::host::Host;
use super::span::parse as span;
use super::{Failure, output};
use crate::config::Settings;
use crate::domain::directory::User;
use crate::domain::id::SessionId;
use crate::domain::identity::PermissionSet;
use crate::domain::time::{Clock, Millis};
use crate::edge::auth::{self, Claims, EVERY, LONGEST_LIFE, Subject, scope};
use crate::store::grants::GrantKind;
use crate::store::records::RecordKind;

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes an access token for a user. It belongs to a session that `GET /auth/sessions` lists.
    Create {
        /// What the user signs in with.
        login: String,
        /// How long it is good, a day at most.
        #[arg(long = "for", value_parser = span, default_value = "1h", value_name = "SPAN")]
        life: std::time::Duration,
        /// Only for this, as names of permissions with blanks between.
        #[arg(long, value_parser = scope::parse, value_name = "PERMISSIONS")]
        scope: Option<PermissionSet>,
    },
    /// Tells what an access token says and whether it is accepted; exit code 1 when not.
    Inspect {
        /// The token; `-` or nothing reads it from standard input, so that no list of processes shows it.
        token: Option<String>,
    },
    /// Ends the session of a token, or a session by its id, with all its tokens.
    Revoke {
        /// The token or `sid_…`; `-` or nothing reads it from standard input.
        token: Option<String>,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let host = Host::open(&settings).await?;
    match command {
        Command::Create { login, life, scope } => {
            let life = Millis(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
            if life > LONGEST_LIFE {
                return Err(Failure::failed("a token is good for a day at most"));
            }
            output::line(create(&host, &login, life, scope).await?);
            Ok(())
        }
        Command::Inspect { token } => inspect(&host, &given(token)?),
        Command::Revoke { token } => revoke(&host, &given(token)?).await,
    }
}

fn given(token: Option<String>) -> Result<String, Failure> {
    if let Some(token) = token.filter(|token| token != "-") {
        return Ok(token);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(text.trim().to_owned())
}

async fn create(
    host: &Host,
    login: &str,
    life: Millis,
    scope: Option<PermissionSet>,
) -> Result<String, Failure> {
    let login = login.trim().to_lowercase();
    let stored = host.stores.records.by_key(RecordKind::User, &login).await?;
    let user: Option<User> = stored.and_then(|record| serde_json::from_value(record.body).ok());
    let user = user.ok_or_else(|| Failure::failed(format!("there is no user {login}")))?;
    if !user.enabled {
        return Err(Failure::failed(format!("{login} is disabled")));
    }
    let agents = host.stores.records.all(RecordKind::Agent).await?;
    let agents = agents.into_iter().filter_map(|record| serde_json::from_value(record.body).ok());
    let agent = agents
        .filter(|agent: &crate::domain::directory::Agent| agent.user_id == Some(user.id))
        .map(|agent| agent.id)
        .next();
    let id = SessionId::fresh();
    let grant = auth::host_session(id, user.id, scope, (Clock.now(), life));
    host.stores.grants.put(grant.map_err(failed)?).await?;
    let claims = host.authority.claims(Subject::User(user.id), life);
    let claims = Claims {
        sid: Some(id),
        roles: user.roles,
        scope,
        agent,
        epoch: user.epoch,
        amr: vec!["host".to_owned()],
        ..claims
    };
    host.note("token.created", &id.to_string()).await?;
    host.authority.mint(&claims).map_err(failed)
}

fn inspect(host: &Host, token: &str) -> Result<(), Failure> {
    let (answer, why) = match host.authority.verify(token) {
        Ok(claims) if host.gate.admits(&claims) => (shown(&claims, true), None),
        Ok(claims) => (shown(&claims, false), Some("the token was revoked")),
        Err(error) => {
            (json!({ "active": false, "why": error.problem()["title"] }), Some("the token is not accepted"))
        }
    };
    output::line(format!("{answer:#}"));
    why.map_or(Ok(()), |why| Err(Failure::failed(why)))
}

fn shown(claims: &Claims, active: bool) -> Value {
    let mut answer = serde_json::to_value(claims).unwrap_or_default();
    answer["active"] = active.into();
    answer["kid"] = claims.key.simple().to_string().into();
    answer
}

async fn revoke(host: &Host, given: &str) -> Result<(), Failure> {
    let id = if let Ok(id) = given.parse::<SessionId>() {
        id
    } else {
        let claims = host.authority.verify(given).map_err(failed)?;
        claims.sid.ok_or_else(|| Failure::failed("the token belongs to no session"))?
    };
    host.gate.revoke(&*host.stores.grants, id.uuid(), EVERY).await?;
    let taken = host.stores.grants.take(GrantKind::Session, &id.to_string(), Clock.now()).await?;
    if taken.is_none() {
        return Err(Failure::failed(format!("there is no session {id} any more; its tokens are refused")));
    }
    host.note("user.session_revoked", &id.to_string()).await?;
    output::line(format!("{id} is over"));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: crate::edge::ApiError) -> Failure {
    let problem = error.problem();
    Failure::failed(problem["title"].as_str().unwrap_or("failed").to_owned())
}
