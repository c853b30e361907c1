//! What people sign in with, where they are written to, and what they are called: one form for each,
//! however it was typed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// Longest login, in bytes of its normal form.
const LONGEST_LOGIN: usize = 128;
/// Longest address, in bytes (RFC 5321, 4.5.3.1.3 without the brackets).
const LONGEST_EMAIL: usize = 254;
/// Longest part before the `@`, in bytes (RFC 5321, 4.5.3.1.1).
const LONGEST_LOCAL_PART: usize = 64;
/// Longest label of a host name (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
/// Longest name of a person, in characters.
const LONGEST_NAME: usize = 128;

/// Why a text is no login, e-mail address or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Not a login.
    #[error("must be 1 to 128 bytes without blanks or invisible characters")]
    Login,
    /// Not an address.
    #[error("must be an e-mail address such as ann@example.org, with the host in ASCII")]
    Email,
    /// Not a name.
    #[error("must be 1 to 128 characters on one line")]
    Name,
}

/// What somebody signs in with: NFKC, lower case, no blanks. Two texts that look alike to a keyboard
/// are one login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Login(String);

/// An e-mail address in lower case: two that differ in case only are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Email(String);

/// What somebody is called, as it is shown to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DisplayName(String);

/// Whether a character leaves no trace where it is shown, or changes how its neighbours are shown:
/// with it one login could look like another.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

fn is_unusable(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control() || is_invisible(letter)
}

impl Login {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as text of its own.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FromStr for Login {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        // A bound before the work: the normal form of a few characters can be long.
        if text.len() > 4 * LONGEST_LOGIN {
            return Err(InvalidText::Login);
        }
        let lower = text.trim().nfkc().collect::<String>().to_lowercase();
        let login: String = lower.nfkc().collect();
        if login.is_empty() || login.len() > LONGEST_LOGIN || login.chars().any(is_unusable) {
            return Err(InvalidText::Login);
        }
        Ok(Self(login))
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Email {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or(self.0.as_str(), |(local, _)| local)
    }
}

impl FromStr for Email {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.len() > 4 * LONGEST_EMAIL {
            return Err(InvalidText::Email);
        }
        let lower = text.trim().nfc().collect::<String>().to_lowercase();
        let address: String = lower.nfc().collect();
        let (local, host) = address.rsplit_once('@').ok_or(InvalidText::Email)?;
        if address.len() > LONGEST_EMAIL || !is_local_part(local) || !is_host(host) {
            return Err(InvalidText::Email);
        }
        Ok(Self(address))
    }
}

fn is_local_part(local: &str) -> bool {
    let fits = |letter: char| !is_unusable(letter) && !"\"(),:;<>@[\\]".contains(letter);
    !local.is_empty()
        && local.len() <= LONGEST_LOCAL_PART
        && local.chars().all(fits)
        && local.split('.').all(|atom| !atom.is_empty())
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.contains('.') && host.split('.').all(is_label)
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows the host only, so that no log has the address of a person.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.rsplit_once('@').map_or("", |(_, host)| host);
        write!(f, "…@{host}")
    }
}

impl DisplayName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as text of its own.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FromStr for DisplayName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.len() > 16 * LONGEST_NAME {
            return Err(InvalidText::Name);
        }
        let name: String = text.trim().nfc().collect();
        let fits = (1..=LONGEST_NAME).contains(&name.chars().count());
        // Joiners are part of names in some scripts; what turns the writing around is not.
        let is_bad = |letter: char| {
            letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}')
        };
        if !fits || name.chars().any(is_bad) {
            return Err(InvalidText::Name);
        }
        Ok(Self(name))
    }
}

macro_rules! read_from_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

read_from_text!(Login, Email, DisplayName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_login_however_it_is_typed() {
        for (typed, login) in [
            (" Ann ", "ann"),
            ("ＡＮＮ", "ann"),
            ("ﬁona", "fiona"),
            ("Zoe\u{308}", "zo\u{eb}"),
            ("ZO\u{cb}", "zo\u{eb}"),
            ("ann.lee+1@example.org", "ann.lee+1@example.org"),
        ] {
            assert_eq!(typed.parse::<Login>().unwrap().as_str(), login, "{typed:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_no_login() {
        let long = "a".repeat(129);
        let expands = "\u{fdfa}".repeat(40);
        for typed in [
            "",
            "  ",
            "ann lee",
            "an\u{200b}n",
            "an\u{0}n",
            "ann\u{202e}",
            "an\u{2060}n",
            long.as_str(),
            expands.as_str(),
        ] {
            assert_eq!(typed.parse::<Login>(), Err(InvalidText::Login), "{typed:?}");
        }
    }

    #[test]
    fn a_normal_form_does_not_change_any_more() {
        for typed in ["İstanbul", "ΣΊΣΥΦΟΣ", "ǅ", "ẞ", "①", "K"] {
            let once: Login = typed.parse().unwrap();
            assert_eq!(once.as_str().parse::<Login>().unwrap(), once, "{typed}");
        }
    }

    #[test]
    fn an_address_has_a_part_before_the_sign_and_a_host_after_it() {
        for (typed, want) in [
            ("Ann@Example.ORG", Some("ann@example.org")),
            ("o'neil+x@a-b.example.org", Some("o'neil+x@a-b.example.org")),
            ("ann@xn--bcher-kva.example", Some("ann@xn--bcher-kva.example")),
            ("ann@bücher.example", None),
            ("ann@localhost", None),
            ("ann", None),
            ("@example.org", None),
            ("a..b@example.org", None),
            ("a b@example.org", None),
            ("a@b@example.org", None),
            ("ann@-x.org", None),
            ("ann@example.org\r\nbcc:x@y.zz", None),
        ] {
            let address = typed.parse::<Email>().ok();
            assert_eq!(address.as_ref().map(Email::as_str), want, "{typed:?}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        assert!(long.parse::<Email>().is_err());
        assert_eq!(format!("{:?}", "ann@example.org".parse::<Email>().unwrap()), "…@example.org");
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(" Ann  Lee ".parse::<DisplayName>().unwrap().as_str(), "Ann  Lee");
        for typed in ["", " ", "a\nb", "a\u{202e}b", "x".repeat(129).as_str()] {
            assert!(typed.parse::<DisplayName>().is_err(), "{typed:?}");
        }
    }
}
