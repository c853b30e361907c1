//! Programs that are known to the authorization server, and what each may ask for.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::PermissionSet;
use crate::domain::id::ClientId;
use crate::domain::time::Timestamp;

/// A way in which a client gets tokens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
pub enum GrantType {
    /// A user signs in with a browser and lets it; the code that the browser carries is exchanged.
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// Fresh tokens for as long as the session lives.
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// It acts for itself.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// A user lets it with a browser elsewhere, as for a program on a terminal.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
}

impl GrantType {
    /// Every way.
    pub const ALL: [Self; 4] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::DeviceCode];

    /// Its name in requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
        }
    }

    /// The way of this name, if there is one.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == word)
    }
}

/// A secret that gives way to another one, and still works for a while.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierSecret {
    /// Its keyed hash, in hex.
    pub hash: String,
    /// When it stops to work.
    pub until: Timestamp,
}

/// A program that is known to the authorization server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its id, which it names in requests.
    pub id: ClientId,
    /// Shown to users who are asked to let it.
    pub name: String,
    /// Whether it can keep a secret: a program on a server can, one on a desk or in a browser cannot.
    pub confidential: bool,
    /// Keyed hash of its secret, in hex; absent when it has none.
    pub secret_hash: Option<String>,
    /// The secret before, while it still works.
    pub earlier_secret: Option<EarlierSecret>,
    /// Where a browser may be sent with a code, compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// How it may get tokens.
    pub grants: BTreeSet<GrantType>,
    /// The most it may ever do, whoever lets it.
    pub scopes: PermissionSet,
    /// Whether it may ask about tokens of others, as a program does that serves with our tokens.
    pub may_introspect: bool,
    /// Whether it gets anything at all.
    pub enabled: bool,
}

/// The client that `eml login` is; it comes with the program and can be disabled, but not removed.
#[must_use]
pub fn command_line() -> Client {
    Client {
        id: ClientId::derived("eml", "command line"),
        name: "EML command line".to_owned(),
        confidential: false,
        secret_hash: None,
        earlier_secret: None,
        redirect_uris: Vec::new(),
        grants: [GrantType::DeviceCode, GrantType::RefreshToken].into(),
        scopes: PermissionSet::all(),
        may_introspect: false,
        enabled: true,
    }
}

impl Client {
    /// Whether it may get tokens in this way.
    #[must_use]
    pub fn uses(&self, way: GrantType) -> bool {
        self.grants.contains(&way)
    }

    /// What about it makes no sense, if anything: the field and the reason.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let acts_alone = self.uses(GrantType::ClientCredentials);
        let has_browser = self.uses(GrantType::AuthorizationCode);
        let is_let = has_browser || self.uses(GrantType::DeviceCode);
        if self.name.trim() != self.name || !(1..=64).contains(&self.name.chars().count()) {
            return Some(("name", "must have 1 to 64 characters, and no blanks around it"));
        }
        if self.name.chars().any(is_deceptive) {
            return Some(("name", "must not have control or direction characters"));
        }
        if self.grants.is_empty() {
            return Some(("grants", "must name at least one"));
        }
        if acts_alone && !self.confidential {
            return Some(("grants", "client_credentials needs a client that keeps a secret"));
        }
        if self.uses(GrantType::RefreshToken) && !is_let {
            return Some(("grants", "refresh_token needs authorization_code or device_code beside it"));
        }
        if has_browser == self.redirect_uris.is_empty() {
            return Some(("redirect_uris", "must be given with authorization_code, and only with it"));
        }
        if self.redirect_uris.len() > 16 {
            return Some(("redirect_uris", "must not be more than 16"));
        }
        if self.scopes == PermissionSet::NONE {
            return Some(("scopes", "must name at least one permission"));
        }
        if self.may_introspect && !self.confidential {
            return Some(("may_introspect", "needs a client that keeps a secret"));
        }
        None
    }
}

/// Whether a character in a name may make a person read another name.
fn is_deceptive(letter: char) -> bool {
    let turns = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{2069}'];
    letter.is_control() || letter == '\u{feff}' || turns.iter().any(|range| range.contains(&letter))
}

/// Shows everything but what is kept of secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("confidential", &self.confidential)
            .field("grants", &self.grants)
            .field("scopes", &self.scopes)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// Shows when it ends, and nothing else.
impl fmt::Debug for EarlierSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlierSecret").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Permission;
    use super::*;

    fn sane() -> Client {
        Client {
            id: ClientId::fresh(),
            name: "Wallboard".to_owned(),
            confidential: true,
            secret_hash: None,
            earlier_secret: None,
            redirect_uris: vec!["https://app.example.org/back".to_owned()],
            grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
            scopes: PermissionSet::NONE.with(Permission::CallsRead),
            may_introspect: false,
            enabled: true,
        }
    }

    #[test]
    fn a_way_to_tokens_is_known_by_its_name_in_requests() {
        for way in GrantType::ALL {
            assert_eq!(GrantType::named(way.as_str()), Some(way));
            assert_eq!(serde_json::to_value(way).unwrap(), way.as_str());
        }
        for gone in ["password", "implicit", ""] {
            assert_eq!(GrantType::named(gone), None, "{gone}");
        }
    }

    type Change = fn(&mut Client);

    #[test]
    fn the_client_that_comes_with_the_program_makes_sense() {
        assert_eq!(command_line().fault(), None);
        assert_eq!(command_line().id, command_line().id, "every node knows it by one id");
    }

    #[test]
    fn a_client_that_makes_no_sense_is_named_by_its_field() {
        assert_eq!(sane().fault(), None);
        let rows: [(&str, Change, &str); 11] = [
            ("an empty name", |client| client.name.clear(), "name"),
            ("blanks around the name", |client| client.name.push(' '), "name"),
            ("a name that turns the text around", |client| client.name = "a\u{202e}b".to_owned(), "name"),
            ("a name of two lines", |client| client.name = "a\nb".to_owned(), "name"),
            ("no way to tokens", |client| client.grants.clear(), "grants"),
            (
                "acting for itself without a secret",
                |client| {
                    client.confidential = false;
                    client.grants = [GrantType::ClientCredentials].into();
                },
                "grants",
            ),
            (
                "refresh alone",
                |client| {
                    client.grants = [GrantType::RefreshToken].into();
                    client.redirect_uris.clear();
                },
                "grants",
            ),
            ("no way back for the browser", |client| client.redirect_uris.clear(), "redirect_uris"),
            (
                "a way back that nobody uses",
                |client| client.grants = [GrantType::DeviceCode].into(),
                "redirect_uris",
            ),
            ("no permission", |client| client.scopes = PermissionSet::NONE, "scopes"),
            (
                "looking at tokens without a secret",
                |client| {
                    client.confidential = false;
                    client.may_introspect = true;
                },
                "may_introspect",
            ),
        ];
        for (why, change, field) in rows {
            let mut client = sane();
            change(&mut client);
            assert_eq!(client.fault().map(|(at, _)| at), Some(field), "{why}");
        }
    }

    #[test]
    fn what_is_kept_of_a_secret_is_not_shown() {
        let mut client = sane();
        client.secret_hash = Some("deadbeef".to_owned());
        client.earlier_secret =
            Some(EarlierSecret { hash: "deadbeef".to_owned(), until: Timestamp::from_millis(1) });
        let shown = format!("{client:?} {:?}", client.earlier_secret);
        assert!(!shown.contains("deadbeef"), "{shown}");
    }
}
