//! What a token says (RFC 9068), and whom it is about.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::domain::id::{AgentId, ClientId, SessionId, UserId};
use crate::domain::identity::{PermissionSet, RoleName};
use crate::domain::time::Timestamp;

/// Whom tokens are for.
pub const AUDIENCE: &str = "eml";
/// The methods of RFC 8176, and one of ours, that count as a second factor.
const STRONG: [&str; 4] = ["otp", "hwk", "mfa", "recovery"];

/// Whether a second factor is among what was shown.
pub(super) fn is_strong(amr: &[String]) -> bool {
    amr.iter().any(|method| STRONG.contains(&method.as_str()))
}

/// Whom a token is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user.
    User(UserId),
    /// A client that acts for itself.
    Client(ClientId),
}

impl Subject {
    /// The bare id.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::User(id) => id.uuid(),
            Self::Client(id) => id.uuid(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Client(id) => id.fmt(f),
        }
    }
}

impl FromStr for Subject {
    type Err = crate::domain::id::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(ClientId::PREFIX) {
            return text.parse().map(Self::Client);
        }
        text.parse().map(Self::User)
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Permissions as OAuth writes them: names with blanks between.
pub mod scope {
    use super::{Deserialize, Deserializer, PermissionSet, Serializer};

    /// Writes a scope.
    #[must_use]
    pub fn text(scope: PermissionSet) -> String {
        scope.iter().map(crate::domain::identity::Permission::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Reads a scope.
    ///
    /// # Errors
    /// When it names what is no permission.
    pub fn parse(text: &str) -> Result<PermissionSet, crate::domain::identity::UnknownPermission> {
        text.split_ascii_whitespace().map(str::parse).collect()
    }

    #[expect(clippy::ref_option, reason = "serde asks for this signature")]
    pub(super) fn serialize<S: Serializer>(
        scope: &Option<PermissionSet>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&scope.map(text).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PermissionSet>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Some).map_err(serde::de::Error::custom)
    }
}

/// What a token says. Times are whole seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// Whom it is for: always us.
    pub aud: String,
    /// Whom it is about.
    pub sub: Subject,
    /// The client it was given to; absent for our own sign-in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<ClientId>,
    /// The session it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sid: Option<SessionId>,
    /// What its subject is; what that may do is looked up with each request.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// What of that it may be used for; absent = all. A client has nothing else.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "scope")]
    pub scope: Option<PermissionSet>,
    /// The agent that its subject signs in as.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    /// The subject's epoch: smaller ones are refused once it has grown.
    #[serde(default)]
    pub epoch: u64,
    /// When it was made.
    pub iat: i64,
    /// When it begins to be good.
    pub nbf: i64,
    /// When it stops.
    pub exp: i64,
    /// Its own name.
    pub jti: String,
    /// When its subject last showed who it is.
    pub auth_time: i64,
    /// How (RFC 8176).
    #[serde(default)]
    pub amr: Vec<String>,
    /// The key it is signed with; known of tokens that were checked.
    #[serde(skip)]
    pub key: Uuid,
}

impl Claims {
    /// When a second factor was last shown, if it was.
    #[must_use]
    pub fn strong_at(&self) -> Option<Timestamp> {
        is_strong(&self.amr).then(|| self.signed_in_at())
    }

    /// When its subject last showed who it is.
    #[must_use]
    pub const fn signed_in_at(&self) -> Timestamp {
        Timestamp::from_millis(self.auth_time.saturating_mul(1000))
    }
}

/// Somebody who gets a token without signing in: in a demo, under load, in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub user_id: UserId,
    /// What it is.
    pub roles: BTreeSet<RoleName>,
    /// The agent it signs in as.
    pub agent_id: Option<AgentId>,
}

impl Holder {
    /// An admin who is no agent.
    #[must_use]
    pub fn admin(user_id: UserId) -> Self {
        Self { user_id, roles: [RoleName::admin()].into(), agent_id: None }
    }

    /// Somebody who takes calls.
    #[must_use]
    pub fn agent(user_id: UserId, agent_id: AgentId) -> Self {
        Self { user_id, roles: [RoleName::agent()].into(), agent_id: Some(agent_id) }
    }
}
