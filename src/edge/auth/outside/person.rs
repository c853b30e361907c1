//! Who an outside provider says that somebody is, and what that allows here.

use std::collections::BTreeSet;

use openidconnect::AdditionalClaims;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::identity::RoleName;

/// Most groups that are looked at.
const MOST_GROUPS: usize = 1000;
/// What RFC 8176 calls it when more than one factor was shown.
const SECOND_FACTOR: &str = "mfa";

/// All claims that the library has no name for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OtherClaims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

impl OtherClaims {
    /// The groups in a claim: a list of texts, or one text. `.` leads one level down, unless a claim has
    /// exactly this name.
    pub(super) fn groups(&self, claim: &str) -> Option<Vec<String>> {
        if let Some(found) = self.all.get(claim) {
            return texts(found);
        }
        let (first, rest) = claim.split_once('.')?;
        let found = rest.split('.').try_fold(self.all.get(first)?, |at, key| at.get(key))?;
        texts(found)
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str).take(MOST_GROUPS);
            Some(texts.map(ToOwned::to_owned).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Somebody whom an outside provider vouches for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Person {
    /// The provider's issuer.
    pub(super) issuer: String,
    /// The provider's own id of the person; never used again for another.
    pub(super) subject: String,
    /// The e-mail address, if the provider has verified it.
    pub(super) verified_email: Option<String>,
    /// What the person is called in sign-ins there; may be changed and given to others.
    pub(super) preferred_login: Option<String>,
    /// The person's name.
    pub(super) name: Option<String>,
    /// The groups; absent when the claim is.
    pub(super) groups: Option<Vec<String>>,
    /// Whether a second factor was shown there.
    pub(super) is_strong: bool,
}

/// Whether the methods of a sign-in say that a second factor was shown.
pub(super) fn is_second_factor<'a>(mut methods: impl Iterator<Item = &'a str>) -> bool {
    methods.any(|method| method == SECOND_FACTOR)
}

/// The roles that a person's groups lead to, with those of everybody.
#[must_use]
pub(super) fn roles(
    groups: &[String],
    rules: &[(String, RoleName)],
    everybody: &[RoleName],
) -> BTreeSet<RoleName> {
    let given = rules.iter().filter(|(group, _)| groups.contains(group)).map(|(_, role)| role.clone());
    given.chain(everybody.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> OtherClaims {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn groups_are_found_on_any_level() {
        let all = json!({
            "groups": ["a", 1, "b"], "role": "one", "realm_access": { "roles": ["deep"] },
            "https://example.org/roles": ["named.with.points"], "none": null, "number": 7,
        });
        for (claim, want) in [
            ("groups", Some(vec!["a", "b"])),
            ("role", Some(vec!["one"])),
            ("realm_access.roles", Some(vec!["deep"])),
            ("https://example.org/roles", Some(vec!["named.with.points"])),
            ("realm_access", None),
            ("realm_access.roles.deep", None),
            ("none", None),
            ("number", None),
            ("absent", None),
            ("", None),
        ] {
            let want = want.map(|texts| texts.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>());
            assert_eq!(claims(all.clone()).groups(claim), want, "{claim}");
        }
    }

    #[test]
    fn only_groups_with_a_rule_give_roles() {
        let role = |name: &str| name.parse::<RoleName>().unwrap();
        let rules = [("leads".to_owned(), role("supervisor")), ("ops".to_owned(), role("admin"))];
        let everybody = [role("agent")];
        for (groups, want) in [
            (vec![], vec!["agent"]),
            (vec!["leads"], vec!["agent", "supervisor"]),
            (vec!["Leads", "admin", "supervisor"], vec!["agent"]),
            (vec!["leads", "ops", "other"], vec!["admin", "agent", "supervisor"]),
        ] {
            let groups: Vec<_> = groups.into_iter().map(ToOwned::to_owned).collect();
            let found: Vec<_> = roles(&groups, &rules, &everybody).iter().map(ToString::to_string).collect();
            assert_eq!(found, want, "{groups:?}");
        }
    }
}
