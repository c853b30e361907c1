//! What somebody may do: named permissions, sets of them, and the names of roles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// Something that may be allowed; the text form is what roles, scopes and clients name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $($(#[$doc])* $name,)*
        }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name, as in `calls:control`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

permissions! {
    /// Read and change one's own profile, sessions and second factor, and open one's own socket.
    Own = "own";
    /// Read the call centre's set-up.
    SetupRead = "setup:read";
    /// Change it.
    SetupWrite = "setup:write";
    /// Read users and roles.
    UsersRead = "users:read";
    /// Make and change users.
    UsersWrite = "users:write";
    /// Change what roles may do.
    RolesWrite = "roles:write";
    /// Make and change clients of the authorization server.
    ClientsWrite = "clients:write";
    /// Read the audit trail.
    AuditRead = "audit:read";
    /// Read calls.
    CallsRead = "calls:read";
    /// Start calls and act on them.
    CallsControl = "calls:control";
    /// Act for others: on calls of any agent, on agents that are not oneself.
    CallsSupervise = "calls:supervise";
    /// Set what agents are doing.
    AgentsControl = "agents:control";
    /// Free agents that hang on a call.
    AgentsRelease = "agents:release";
    /// See the nodes of the cluster.
    ClusterRead = "cluster:read";
    /// Send nodes away.
    ClusterWrite = "cluster:write";
}

/// A name that no permission has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no permission `{0}`")]
pub struct UnknownPermission(pub String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(word: &str) -> Result<Self, UnknownPermission> {
        let known = Self::ALL.iter().copied().find(|permission| permission.as_str() == word);
        known.ok_or_else(|| UnknownPermission(word.to_owned()))
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// Permissions, as one number. Serialized as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PermissionSet(u64);

impl PermissionSet {
    /// None.
    pub const NONE: Self = Self(0);

    /// Every permission there is.
    #[must_use]
    pub fn all() -> Self {
        Permission::ALL.iter().copied().collect()
    }

    /// Whether it holds this one.
    #[must_use]
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u32) != 0
    }

    /// The same with one more.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | (1 << permission as u32))
    }

    /// What either holds.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both hold.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it holds all that the other does.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What it holds, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::as_str)).finish()
    }
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Permission>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The name of a role: `[a-z][a-z0-9_-]*`, 32 characters at most. Four come with the program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct RoleName(String);

impl RoleName {
    /// Sets everything up.
    pub const ADMIN: &'static str = "admin";
    /// Watches and helps.
    pub const SUPERVISOR: &'static str = "supervisor";
    /// Takes calls.
    pub const AGENT: &'static str = "agent";
    /// A program.
    pub const SERVICE: &'static str = "service";
    /// Those that come with the program; `admin` always may do everything.
    pub const BUILT_IN: [&'static str; 4] = [Self::ADMIN, Self::SUPERVISOR, Self::AGENT, Self::SERVICE];

    /// The role that sets everything up.
    #[must_use]
    pub fn admin() -> Self {
        Self(Self::ADMIN.to_owned())
    }

    /// The role of those who take calls.
    #[must_use]
    pub fn agent() -> Self {
        Self(Self::AGENT.to_owned())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a role that comes with the program may do; nothing for all others.
    #[must_use]
    pub fn built_in(&self) -> PermissionSet {
        use Permission::{
            AgentsControl, AgentsRelease, AuditRead, CallsControl, CallsRead, CallsSupervise, ClusterRead,
            Own, SetupRead, UsersRead,
        };
        let agent = [Own, SetupRead, CallsRead, CallsControl, AgentsControl];
        match self.as_str() {
            Self::ADMIN => PermissionSet::all(),
            Self::SUPERVISOR => agent
                .into_iter()
                .chain([UsersRead, AuditRead, CallsSupervise, AgentsRelease, ClusterRead])
                .collect(),
            Self::AGENT => agent.into_iter().collect(),
            Self::SERVICE => {
                [Own, SetupRead, CallsRead, CallsControl, CallsSupervise, ClusterRead].into_iter().collect()
            }
            _ => PermissionSet::NONE,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RoleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let is_name = text.len() <= 32
            && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && text.bytes().all(is_inner);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("a role's name starts with a letter and has 1 to 32 of a-z, 0-9, _ and -".to_owned())
        }
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_known_by_its_name_alone() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(*permission));
        }
        assert!("calls:*".parse::<Permission>().is_err());
        assert!(Permission::ALL.len() <= 64, "a set is one number of 64 bits");
    }

    #[test]
    fn a_set_is_written_as_names() {
        let set: PermissionSet = [Permission::CallsRead, Permission::Own].into_iter().collect();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"["own","calls:read"]"#);
        assert_eq!(serde_json::from_str::<PermissionSet>(&text).unwrap(), set);
        assert!(PermissionSet::all().includes(set) && !set.includes(PermissionSet::all()));
    }

    #[test]
    fn only_sane_names_are_roles() {
        for (text, want) in
            [("admin", true), ("night-shift_2", true), ("", false), ("Admin", false), ("2x", false)]
        {
            assert_eq!(text.parse::<RoleName>().is_ok(), want, "{text}");
        }
        assert!("a".repeat(33).parse::<RoleName>().is_err());
    }

    #[test]
    fn nobody_but_admins_changes_users_roles_or_clients() {
        for role in RoleName::BUILT_IN {
            let may = role.parse::<RoleName>().unwrap().built_in();
            for permission in [Permission::UsersWrite, Permission::RolesWrite, Permission::ClientsWrite] {
                assert_eq!(may.has(permission), role == RoleName::ADMIN, "{role} {permission:?}");
            }
        }
    }
}
