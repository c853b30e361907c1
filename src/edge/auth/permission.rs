//! Which route and which command of a socket needs which permission. One table each; what has no row
//! is refused.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;

use crate::domain::identity::Permission;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whoever has this permission.
    Needs(Permission),
    /// The same, or whoever holds a challenge, which is in the body.
    NeedsOrChallenge(Permission),
    /// Whoever has this permission, and who has a second factor must have shown it a short while ago.
    Critical(Permission),
}

use Access::{Critical, Needs, NeedsOrChallenge, Public};
use Permission::{
    AgentsControl, AgentsRelease, AuditRead, CallsControl, CallsRead, ClientsWrite, ClusterRead,
    ClusterWrite, Own, RolesWrite, SetupRead, SetupWrite, UsersRead, UsersWrite,
};

/// Method, route and who may use it. A route without a row is refused.
pub const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/", Public),
    ("GET", "/health", Public),
    ("GET", "/health/live", Public),
    ("GET", "/health/ready", Public),
    ("GET", "/version", Public),
    ("GET", "/openapi.json", Public),
    ("GET", "/problems/{slug}", Public),
    ("GET", "/jwks.json", Public),
    ("POST", "/auth/login", Public),
    ("POST", "/users/login", Public),
    ("POST", "/auth/refresh", Public),
    ("POST", "/auth/2fa", Public),
    ("GET", "/auth/2fa", Needs(Own)),
    ("POST", "/auth/2fa/enroll", NeedsOrChallenge(Own)),
    ("POST", "/auth/2fa/confirm", NeedsOrChallenge(Own)),
    ("DELETE", "/auth/2fa", Critical(Own)),
    ("POST", "/auth/2fa/recovery-codes", Critical(Own)),
    ("POST", "/auth/logout", Needs(Own)),
    ("GET", "/auth/sessions", Needs(Own)),
    ("DELETE", "/auth/sessions/{id}", Needs(Own)),
    ("GET", "/auth/oidc", Public),
    ("GET", "/auth/oidc/{provider}", Public),
    ("GET", "/auth/oidc/{provider}/callback", Public),
    ("POST", "/auth/oidc/{provider}/exchange", Public),
    ("POST", "/auth/oidc/{provider}/link", Critical(Own)),
    ("GET", "/auth/identities", Needs(Own)),
    ("DELETE", "/auth/identities/{id}", Critical(Own)),
    ("GET", "/ws", Needs(Own)),
    ("GET", "/.well-known/oauth-authorization-server", Public),
    ("GET", "/.well-known/openid-configuration", Public),
    ("GET", "/oauth/authorize", Public),
    ("POST", "/oauth/consent", Public),
    ("POST", "/oauth/token", Public),
    ("POST", "/oauth/revoke", Public),
    ("POST", "/oauth/introspect", Public),
    ("GET", "/oauth/device", Public),
    ("POST", "/oauth/device", Public),
    ("GET", "/clients", Needs(ClientsWrite)),
    ("POST", "/clients", Critical(ClientsWrite)),
    ("GET", "/clients/{id}", Needs(ClientsWrite)),
    ("PATCH", "/clients/{id}", Critical(ClientsWrite)),
    ("DELETE", "/clients/{id}", Critical(ClientsWrite)),
    ("POST", "/clients/{id}/secret", Critical(ClientsWrite)),
    ("POST", "/ws/ticket", Needs(Own)),
    ("POST", "/auth/setup", Public),
    ("GET", "/auth/link", Public),
    ("POST", "/auth/password", Public),
    ("GET", "/users/profile", Needs(Own)),
    ("PATCH", "/users/profile", Needs(Own)),
    ("PUT", "/users/profile/password", Critical(Own)),
    // Open to who has an invitation; whoever shows a token must have `users:write`.
    ("POST", "/users/register", Public),
    ("POST", "/users/invitations", Critical(UsersWrite)),
    ("GET", "/users/list", Needs(UsersRead)),
    ("GET", "/users/{id}", Needs(UsersRead)),
    ("PATCH", "/users/{id}", Critical(UsersWrite)),
    ("DELETE", "/users/{id}", Critical(UsersWrite)),
    ("PUT", "/users/{id}/roles", Critical(UsersWrite)),
    ("POST", "/users/{id}/password-link", Critical(UsersWrite)),
    ("GET", "/roles", Needs(UsersRead)),
    ("GET", "/roles/{name}", Needs(UsersRead)),
    ("PUT", "/roles/{name}", Critical(RolesWrite)),
    ("DELETE", "/roles/{name}", Critical(RolesWrite)),
    ("GET", "/audit", Needs(AuditRead)),
    ("POST", "/calls/start", Needs(CallsControl)),
    ("POST", "/calls/check", Needs(CallsControl)),
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

/// Commands of a socket and what each needs. A command without a row does not exist.
pub const COMMANDS: &[(&str, Permission)] = &[
    ("offer.accept", CallsControl),
    ("offer.reject", CallsControl),
    ("agent.set_activity", AgentsControl),
    ("wrap_up.complete", CallsControl),
    ("wrap_up.extend", CallsControl),
    ("call.start", CallsControl),
    ("call.hold", CallsControl),
    ("call.resume", CallsControl),
    ("call.hangup", CallsControl),
    ("call.disposition", CallsControl),
    ("subscribe", SetupRead),
    ("ack", Own),
];

/// The same rows by route: one look per request.
static BY_ROUTE: LazyLock<HashMap<&'static str, Vec<(&'static str, Access)>>> = LazyLock::new(|| {
    let mut by_route: HashMap<_, Vec<_>> = HashMap::new();
    for (method, route, access) in ROUTES {
        by_route.entry(*route).or_default().push((*method, *access));
    }
    by_route
});

/// Who may use a route; `None` when it has no row.
#[must_use]
pub fn access(method: &Method, route: &str) -> Option<Access> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let rows = BY_ROUTE.get(route)?;
    rows.iter().find(|(known, _)| *known == method).map(|(_, access)| *access)
}

/// What a command of a socket needs; `None` when there is no such command.
#[must_use]
pub fn command(kind: &str) -> Option<Permission> {
    COMMANDS.iter().find(|(known, _)| *known == kind).map(|(_, permission)| *permission)
}
