//! Who is on a leg: a phone number, a soft phone, a SIP address, or only a word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest number of E.164, digits without the `+`.
const E164_MAX_DIGITS: usize = 15;
/// Shortest subscriber number in use worldwide, digits without the `+`.
const E164_MIN_DIGITS: usize = 5;
/// Longest address we keep; carriers stay far below.
const MAX_LENGTH: usize = 255;

/// A phone number in E.164 form: `+` and 5 to 15 digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(Box<str>);

/// Why a text is not a phone number in E.164 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("number must be E.164: `+` followed by 5 to 15 digits")]
pub struct NotE164;

impl PhoneNumber {
    /// The number as text, with its `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PhoneNumber {
    type Err = NotE164;

    fn from_str(text: &str) -> Result<Self, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let sized = (E164_MIN_DIGITS..=E164_MAX_DIGITS).contains(&digits.len());
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        if sized && plain { Ok(Self(text.into())) } else { Err(NotE164) }
    }
}

/// One end of a leg as the provider names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A phone number.
    Number(PhoneNumber),
    /// A soft phone registered at the provider, `client:NAME`.
    Client(Box<str>),
    /// A SIP address, `sip:…` or `sips:…`.
    Sip(Box<str>),
    /// Anything else a carrier says instead of a number: `anonymous`, `unknown`, `Restricted`.
    Word(Box<str>),
}

/// Why a text cannot be the far end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address must be an E.164 number, `client:NAME` or `sip:ADDRESS`")]
pub struct NotDialable;

impl Address {
    /// Takes whatever a carrier reports; never fails, since callers may be words.
    #[must_use]
    pub fn reported(text: &str) -> Self {
        let text = text.trim();
        let text = text.get(..text.floor_char_boundary(MAX_LENGTH)).unwrap_or_default();
        if let Ok(number) = text.parse() {
            return Self::Number(number);
        }
        match text.split_once(':') {
            Some(("client", name)) => Self::Client(name.into()),
            Some(("sip" | "sips", _)) => Self::Sip(text.into()),
            Some(_) | None => Self::Word(text.into()),
        }
    }

    /// Takes what a person or a program wants to be dialled.
    ///
    /// # Errors
    /// `NotDialable` when no carrier could reach it.
    pub fn dialable(text: &str) -> Result<Self, NotDialable> {
        match Self::reported(text) {
            Self::Word(_) => Err(NotDialable),
            Self::Client(name) if name.is_empty() => Err(NotDialable),
            address @ (Self::Number(_) | Self::Client(_) | Self::Sip(_)) => Ok(address),
        }
    }

    /// The address with all but its last four characters hidden, for logs.
    #[must_use]
    pub fn masked(&self) -> String {
        match self {
            Self::Number(number) => mask(number.as_str()),
            Self::Sip(_) => "sip:…".to_owned(),
            Self::Client(_) | Self::Word(_) => self.to_string(),
        }
    }
}

/// Hides all but the last four characters of a number.
#[must_use]
pub fn mask(number: &str) -> String {
    let hidden = number.chars().count().saturating_sub(4);
    number
        .chars()
        .enumerate()
        .map(|(i, letter)| if i < hidden && letter != '+' { '*' } else { letter })
        .collect()
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.write_str(&number.0),
            Self::Client(name) => write!(f, "client:{name}"),
            Self::Sip(text) | Self::Word(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::reported(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_may_report_anything() {
        for (text, want) in [
            ("+12025550143", Address::Number("+12025550143".parse().unwrap())),
            ("client:agent_ana", Address::Client("agent_ana".into())),
            ("sip:ana@pbx.example.org", Address::Sip("sip:ana@pbx.example.org".into())),
            ("anonymous", Address::Word("anonymous".into())),
            ("+0", Address::Word("+0".into())),
            ("", Address::Word("".into())),
        ] {
            assert_eq!(Address::reported(text), want, "{text}");
        }
    }

    #[test]
    fn only_reachable_addresses_are_dialled() {
        assert!(Address::dialable("+12025550143").is_ok());
        assert!(Address::dialable("client:ana").is_ok());
        for text in ["anonymous", "2025550143", "client:", ""] {
            assert_eq!(Address::dialable(text), Err(NotDialable), "{text}");
        }
    }

    #[test]
    fn logs_show_the_last_four_digits_only() {
        assert_eq!(format!("{:?}", Address::reported("+12025550143")), "+*******0143");
    }
}
