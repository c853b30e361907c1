//! What each role may do, and which route needs what. One table; a route without a row is refused.

use axum::http::Method;

use crate::domain::directory::Role;

/// Something a role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Read one's own profile and open one's own socket.
    Own,
    /// Read the call centre's set-up.
    SetupRead,
    /// Change it.
    SetupWrite,
    /// Read users.
    UsersRead,
    /// Make users.
    UsersWrite,
    /// Read calls.
    CallsRead,
    /// Start calls and act on them.
    CallsControl,
    /// Set what agents are doing.
    AgentsControl,
    /// Free agents that hang on a call.
    AgentsRelease,
    /// See the nodes of the cluster.
    ClusterRead,
    /// Send nodes away.
    ClusterWrite,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whoever has this permission.
    Needs(Permission),
}

/// Whether a role has a permission.
#[must_use]
pub const fn may(role: Role, permission: Permission) -> bool {
    match (role, permission) {
        (Role::Admin, _) => true,
        (Role::Supervisor, Permission::SetupWrite | Permission::UsersWrite | Permission::ClusterWrite) => {
            false
        }
        (Role::Supervisor, _) => true,
        (
            Role::Agent,
            Permission::Own
            | Permission::SetupRead
            | Permission::CallsRead
            | Permission::CallsControl
            | Permission::AgentsControl,
        ) => true,
        (
            Role::Agent,
            Permission::SetupWrite
            | Permission::UsersRead
            | Permission::UsersWrite
            | Permission::AgentsRelease
            | Permission::ClusterRead
            | Permission::ClusterWrite,
        ) => false,
        (
            Role::Service,
            Permission::Own
            | Permission::SetupRead
            | Permission::CallsRead
            | Permission::CallsControl
            | Permission::ClusterRead,
        ) => true,
        (
            Role::Service,
            Permission::SetupWrite
            | Permission::UsersRead
            | Permission::UsersWrite
            | Permission::AgentsControl
            | Permission::AgentsRelease
            | Permission::ClusterWrite,
        ) => false,
    }
}

use Access::{Needs, Public};
use Permission::{
    AgentsControl, AgentsRelease, CallsControl, CallsRead, ClusterRead, ClusterWrite, Own, SetupRead,
    SetupWrite, UsersRead, UsersWrite,
};

/// Method, route and who may use it.
pub const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/", Public),
    ("GET", "/health", Public),
    ("GET", "/health/live", Public),
    ("GET", "/health/ready", Public),
    ("GET", "/version", Public),
    ("GET", "/openapi.json", Public),
    ("GET", "/problems/{slug}", Public),
    ("POST", "/auth/login", Public),
    ("POST", "/users/login", Public),
    ("POST", "/auth/refresh", Public),
    ("POST", "/ws/ticket", Needs(Own)),
    ("GET", "/users/profile", Needs(Own)),
    ("POST", "/users/register", Needs(UsersWrite)),
    ("GET", "/users/list", Needs(UsersRead)),
    ("POST", "/calls/start", Needs(CallsControl)),
    ("GET", "/calls/active", Needs(CallsRead)),
    ("GET", "/calls/history", Needs(CallsRead)),
    ("GET", "/calls/{id}", Needs(CallsRead)),
    ("GET", "/calls/{id}/timeline", Needs(CallsRead)),
    ("POST", "/calls/{id}/hold", Needs(CallsControl)),
    ("POST", "/calls/{id}/resume", Needs(CallsControl)),
    ("POST", "/calls/{id}/hangup", Needs(CallsControl)),
    ("POST", "/calls/{id}/disposition", Needs(CallsControl)),
    ("GET", "/cluster/nodes", Needs(ClusterRead)),
    ("GET", "/cluster/shards", Needs(ClusterRead)),
    ("POST", "/cluster/nodes/{id}/drain", Needs(ClusterWrite)),
    ("GET", "/queues/{id}/stats", Needs(SetupRead)),
    ("PUT", "/agents/{id}/activity", Needs(AgentsControl)),
    ("POST", "/agents/{id}/release", Needs(AgentsRelease)),
    ("GET", "/queues", Needs(SetupRead)),
    ("POST", "/queues", Needs(SetupWrite)),
    ("GET", "/queues/{id}", Needs(SetupRead)),
    ("PATCH", "/queues/{id}", Needs(SetupWrite)),
    ("DELETE", "/queues/{id}", Needs(SetupWrite)),
    ("GET", "/agents", Needs(SetupRead)),
    ("POST", "/agents", Needs(SetupWrite)),
    ("GET", "/agents/{id}", Needs(SetupRead)),
    ("PATCH", "/agents/{id}", Needs(SetupWrite)),
    ("DELETE", "/agents/{id}", Needs(SetupWrite)),
    ("GET", "/skills", Needs(SetupRead)),
    ("POST", "/skills", Needs(SetupWrite)),
    ("GET", "/skills/{id}", Needs(SetupRead)),
    ("PATCH", "/skills/{id}", Needs(SetupWrite)),
    ("DELETE", "/skills/{id}", Needs(SetupWrite)),
    ("GET", "/numbers", Needs(SetupRead)),
    ("POST", "/numbers", Needs(SetupWrite)),
    ("GET", "/numbers/{id}", Needs(SetupRead)),
    ("PATCH", "/numbers/{id}", Needs(SetupWrite)),
    ("DELETE", "/numbers/{id}", Needs(SetupWrite)),
    ("GET", "/activities", Needs(SetupRead)),
    ("POST", "/activities", Needs(SetupWrite)),
    ("GET", "/activities/{id}", Needs(SetupRead)),
    ("PATCH", "/activities/{id}", Needs(SetupWrite)),
    ("DELETE", "/activities/{id}", Needs(SetupWrite)),
    ("GET", "/dispositions", Needs(SetupRead)),
    ("POST", "/dispositions", Needs(SetupWrite)),
    ("GET", "/dispositions/{id}", Needs(SetupRead)),
    ("PATCH", "/dispositions/{id}", Needs(SetupWrite)),
    ("DELETE", "/dispositions/{id}", Needs(SetupWrite)),
];

/// Who may use a route; `None` when it has no row.
#[must_use]
pub fn access(method: &Method, route: &str) -> Option<Access> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|(known, path, _)| *known == method && *path == route).map(|(_, _, access)| *access)
}
