//! The way of a person through our pages, from a client's request to the answer. It is kept in the page
//! itself, sealed with a key of ours, and bound to a cookie of the browser that began it: a form of
//! another site, or a page that somebody else began, leads nowhere.

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::super::auth::Vault;
use super::pkce::Challenge;
use super::secret;
use crate::domain::id::{ClientId, UserId};
use crate::domain::identity::PermissionSet;
use crate::domain::time::{Millis, Timestamp};

/// What journeys are sealed under.
const LABEL: &str = "oauth-journey";
/// How long a person may take.
const LIFE: Millis = Millis::from_secs(600);
/// The browser keeps cookies of this name from other hosts and from plain HTTP.
const COOKIE: &str = "__Host-eml-";

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The client.
    pub client_id: ClientId,
    /// What it wants to do.
    pub scopes: PermissionSet,
}

/// Where a journey leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Aim {
    /// Back to a client, with a code.
    Code {
        /// What it asked for.
        asked: Asked,
        /// Its address.
        redirect_uri: String,
        /// What it gets back as it was.
        state: Option<String>,
        /// Shown of the secret that the exchange needs.
        challenge: Challenge,
    },
    /// To a device that waits; which one is known once its code was typed.
    Device(Option<WaitingDevice>),
}

/// A device that waits for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WaitingDevice {
    /// What it asked for.
    pub asked: Asked,
    /// The code that it shows.
    pub user_code: String,
}

/// Who signed in, how, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof {
    /// The user.
    pub user_id: UserId,
    /// Its epoch then: what happened to the user since counts.
    pub epoch: u64,
    /// How.
    pub amr: Vec<String>,
    /// When.
    pub at: Timestamp,
}

/// How far a journey has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Nobody has signed in.
    Anonymous,
    /// The password was right, the second factor is due.
    SecondFactor(Proof),
    /// Somebody has signed in, and is asked.
    Consent(Proof),
}

/// The way of a person through our pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journey {
    /// Where it leads.
    pub aim: Aim,
    /// How far it has come.
    pub stage: Stage,
    /// The end of its cookie's name: several journeys of one browser do not disturb each other.
    cookie: String,
    /// Hash of the cookie's value.
    bound_to: String,
    until: Timestamp,
}

impl Journey {
    /// A journey that begins, and the cookie that the browser must show from now on.
    pub(super) fn begin(aim: Aim, now: Timestamp) -> (Self, String) {
        let value = secret::fresh();
        let name = hex::encode(rand::random::<[u8; 4]>());
        let age = LIFE.0 / 1000;
        let cookie =
            format!("{COOKIE}{name}={value}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Strict");
        let bound_to = secret::key(&value);
        (Self { aim, stage: Stage::Anonymous, cookie: name, bound_to, until: now + LIFE }, cookie)
    }

    /// As it stands in a form.
    pub(super) fn seal(&self, vault: &Vault) -> Option<String> {
        let body = serde_json::to_vec(self).ok()?;
        vault.seal(LABEL, &body).ok()
    }

    /// The journey behind a form, if it is one of ours, not too old, and of this very browser.
    pub(super) fn open(vault: &Vault, sealed: &str, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let body = vault.open(LABEL, sealed)?;
        let journey: Self = serde_json::from_slice(&body).ok()?;
        let shown = secret::key(&cookie(headers, &journey.cookie)?);
        let is_same = bool::from(shown.as_bytes().ct_eq(journey.bound_to.as_bytes()));
        (is_same && now < journey.until).then_some(journey)
    }

    /// What takes its cookie away again.
    pub(super) fn spent_cookie(&self) -> String {
        format!("{COOKIE}{}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict", self.cookie)
    }
}

/// The value of one of our cookies.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let wanted = format!("{COOKIE}{name}");
    pairs.find(|(known, _)| *known == wanted).map(|(_, value)| value.to_owned())
}

/// Whether a form comes from a page of ours, as far as the browser tells. The cookie is what counts; this
/// turns away what an old browser would send with it.
pub(super) fn is_own_form(headers: &HeaderMap) -> bool {
    let told = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = told("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = told("host").unwrap_or_default();
    match told("origin") {
        // Browsers say `null` for pages that tell nobody where they were, as ours.
        None | Some("null") => true,
        Some(origin) => origin.split_once("://").is_some_and(|(_, authority)| authority == host),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn shown(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("other=1; {pair}; more=2").parse().unwrap());
        headers
    }

    #[test]
    fn a_journey_goes_on_in_the_browser_that_began_it_and_nowhere_else() {
        let vault = Vault::of_seed(&[7; 32]);
        let (journey, cookie) = Journey::begin(Aim::Device(None), NOW);
        let (_, other) = Journey::begin(Aim::Device(None), NOW);
        let sealed = journey.seal(&vault).unwrap();
        assert_eq!(Journey::open(&vault, &sealed, &shown(&cookie), NOW), Some(journey.clone()));
        let name = cookie.split('=').next().unwrap();
        let mixed = format!("{name}={}", other.split(['=', ';']).nth(1).unwrap());
        for (why, headers, at) in [
            ("no cookie", HeaderMap::new(), NOW),
            ("the cookie of another journey", shown(&other), NOW),
            ("a value of another journey", shown(&mixed), NOW),
            ("an empty value", shown(&format!("{name}=")), NOW),
            ("too late", shown(&cookie), NOW + LIFE),
        ] {
            assert_eq!(Journey::open(&vault, &sealed, &headers, at), None, "{why}");
        }
        for forged in ["", "e30", &sealed[1..], &format!("{sealed}A")] {
            assert_eq!(Journey::open(&vault, forged, &shown(&cookie), NOW), None, "{forged}");
        }
        let elsewhere = Vault::of_seed(&[8; 32]);
        assert_eq!(Journey::open(&elsewhere, &sealed, &shown(&cookie), NOW), None);
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_others() {
        let (journey, cookie) = Journey::begin(Aim::Device(None), NOW);
        for cookie in [cookie, journey.spent_cookie()] {
            for part in ["__Host-", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            assert!(!cookie.contains("Domain"), "{cookie}");
        }
    }

    #[test]
    fn a_form_of_another_site_is_known() {
        for (pairs, want) in [
            (&[][..], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", "https://eml.example.org")], true),
            (&[("origin", "null")], true),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "https://eml.example.org.evil.example")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "null")], false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("eml.example.org"));
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_own_form(&headers), want, "{pairs:?}");
        }
    }
}
