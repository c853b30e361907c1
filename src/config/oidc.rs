//! Outside providers that people sign in with: one `[auth.oidc.NAME]` section each.

use std::fmt;

use serde::Deserialize;
use toml::Value;
use url::{Host, Url};

use super::validate::Fault;
use crate::domain::identity::RoleName;

/// Keys of a section and an example of each value's type.
pub(super) const FIELDS: [(&str, Value); 13] = [
    ("issuer", Value::String(String::new())),
    ("client_id", Value::String(String::new())),
    ("client_secret", Value::String(String::new())),
    ("title", Value::String(String::new())),
    ("public_url", Value::String(String::new())),
    ("scopes", Value::Array(Vec::new())),
    ("roles_claim", Value::String(String::new())),
    ("roles", Value::Array(Vec::new())),
    ("default_roles", Value::Array(Vec::new())),
    ("create_users", Value::Boolean(false)),
    ("link_by_email", Value::Boolean(false)),
    ("trust_second_factor", Value::Boolean(false)),
    ("return_urls", Value::Array(Vec::new())),
];

/// One outside provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oidc {
    /// The issuer, exactly as its discovery document names it.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Our secret there; empty for a public client.
    pub client_secret: String,
    /// What people call it; empty = the section's name.
    pub title: String,
    /// What it sends people back to; empty = `server.public_url`.
    pub public_url: String,
    /// Scopes that are asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim with the groups of a person, `.` between its levels; empty = none.
    pub roles_claim: String,
    /// Which group gives which role, as `GROUP=ROLE`.
    pub roles: Vec<String>,
    /// Roles of everybody who signs in with it for the first time.
    pub default_roles: Vec<String>,
    /// Whether somebody who is not known becomes a user.
    pub create_users: bool,
    /// Whether a verified e-mail address leads to the user who has it.
    pub link_by_email: bool,
    /// Whether a second factor shown there counts here.
    pub trust_second_factor: bool,
    /// Pages that a sign-in may end at.
    pub return_urls: Vec<String>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: String::new(),
            title: String::new(),
            public_url: String::new(),
            scopes: vec!["email".to_owned(), "profile".to_owned()],
            roles_claim: String::new(),
            roles: Vec::new(),
            default_roles: Vec::new(),
            create_users: false,
            link_by_email: false,
            trust_second_factor: false,
            return_urls: Vec::new(),
        }
    }
}

/// Shows everything but the secret.
impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("public_url", &self.public_url)
            .field("scopes", &self.scopes)
            .field("roles_claim", &self.roles_claim)
            .field("roles", &self.roles)
            .field("default_roles", &self.default_roles)
            .field("create_users", &self.create_users)
            .field("link_by_email", &self.link_by_email)
            .field("trust_second_factor", &self.trust_second_factor)
            .field("return_urls", &self.return_urls)
            .finish_non_exhaustive()
    }
}

impl Oidc {
    /// Groups and the role that each gives. What cannot be read is refused when the settings are loaded.
    #[must_use]
    pub fn role_of_groups(&self) -> Vec<(String, RoleName)> {
        self.roles.iter().filter_map(|rule| group_and_role(rule)).collect()
    }

    /// Roles of everybody.
    #[must_use]
    pub fn roles_of_all(&self) -> Vec<RoleName> {
        self.default_roles.iter().filter_map(|role| role.parse().ok()).collect()
    }
}

/// `GROUP=ROLE`; a group's name may have a `=` itself.
fn group_and_role(rule: &str) -> Option<(String, RoleName)> {
    let (group, name) = rule.rsplit_once('=')?;
    let name = name.trim().parse().ok()?;
    (!group.trim().is_empty()).then(|| (group.trim().to_owned(), name))
}

/// Every fault of a section.
pub(super) fn faults(name: &str, section: &Oidc) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |is_fault: bool, field: &str, why: &str| {
        if is_fault {
            let field = if field.is_empty() { String::new() } else { format!(".{field}") };
            faults.push((format!("auth.oidc.{name}{field}"), why.to_owned()));
        }
    };
    let is_name = (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    check(!is_name, "", "must be named with 1 to 32 lower-case letters, digits and hyphens");
    check(!is_private(&section.issuer), "issuer", "must be an https URL without query (http on loopback)");
    check(section.client_id.is_empty(), "client_id", "must be set");
    let fine = section.public_url.is_empty() || is_private(&section.public_url);
    check(!fine, "public_url", "must be an https URL without query (http on loopback)");
    let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
    check(!section.scopes.iter().all(is_scope), "scopes", "must be names without blanks");
    let fine = section.roles.iter().all(|rule| group_and_role(rule).is_some());
    check(!fine, "roles", "must be GROUP=ROLE each, with the name of a role");
    let is_lost = !section.roles.is_empty() && section.roles_claim.is_empty();
    check(is_lost, "roles", "needs roles_claim, which names the claim with the groups");
    let fine = section.default_roles.iter().all(|role| role.parse::<RoleName>().is_ok());
    check(!fine, "default_roles", "must be names of roles");
    let fine = section.return_urls.iter().all(|url| is_private(url));
    check(!fine, "return_urls", "must be https URLs without query (http on loopback)");
    faults
}

/// Whether nobody on the way can read or change what goes to a URL.
fn is_private(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_loopback = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    is_plain && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Oidc {
        Oidc { issuer: "https://id.example.org".to_owned(), client_id: "eml".to_owned(), ..Oidc::default() }
    }

    #[test]
    fn each_fault_of_a_section_names_its_key() {
        type Change = fn(&mut Oidc);
        assert_eq!(faults("work", &section()), []);
        let cases: [(Change, &str); 10] = [
            (|it| it.issuer = "http://id.example.org".to_owned(), "issuer"),
            (|it| it.issuer = "https://id.example.org?x=1".to_owned(), "issuer"),
            (|it| it.client_id = String::new(), "client_id"),
            (|it| it.public_url = "ftp://x".to_owned(), "public_url"),
            (|it| it.scopes = vec!["a b".to_owned()], "scopes"),
            (|it| (it.roles, it.roles_claim) = (vec!["leads".to_owned()], "g".to_owned()), "roles"),
            (|it| (it.roles, it.roles_claim) = (vec!["leads=No!".to_owned()], "g".to_owned()), "roles"),
            (|it| it.roles = vec!["leads=admin".to_owned()], "roles"),
            (|it| it.default_roles = vec!["No!".to_owned()], "default_roles"),
            (|it| it.return_urls = vec!["http://example.org/".to_owned()], "return_urls"),
        ];
        for (change, field) in cases {
            let mut changed = section();
            change(&mut changed);
            let keys: Vec<_> = faults("work", &changed).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [format!("auth.oidc.work.{field}")]);
        }
        assert_eq!(faults("Not good", &section())[0].0, "auth.oidc.Not good");
    }

    #[test]
    fn a_group_may_have_an_equals_sign() {
        let mut section = section();
        section.roles = vec!["cn=leads,dc=example = supervisor".to_owned()];
        let (group, role) = section.role_of_groups().remove(0);
        assert_eq!((group.as_str(), role.as_str()), ("cn=leads,dc=example", "supervisor"));
    }

    #[test]
    fn a_section_never_shows_its_secret() {
        let shown = format!("{:?}", Oidc { client_secret: "s3cret".to_owned(), ..section() });
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
