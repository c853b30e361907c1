//! A password on its way through the program: it is never shown, and never longer than it needs to be.

use std::fmt;

use serde::{Deserialize, Deserializer};
use unicode_normalization::UnicodeNormalization as _;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A password as it was typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a typed text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Exactly what was typed: hashes of before were made of this.
    pub(super) fn typed(&self) -> &str {
        &self.0
    }

    /// The same password from any keyboard: NFC, as NIST SP 800-63B-4 asks.
    pub(super) fn normal(&self) -> String {
        self.0.nfc().collect()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error of a text says what it was instead; a number must not be repeated to anybody.
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a password is a text"))
    }
}

impl PartialSchema for Password {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
            .build()
            .into()
    }
}

impl ToSchema for Password {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_and_not_repeated_in_an_error() {
        let password = Password::new("tell nobody about me".to_owned());
        assert_eq!(format!("{password:?}"), "Password(…)");
        let error = serde_json::from_str::<Password>("123456789").unwrap_err();
        assert!(!error.to_string().contains("123456789"), "{error}");
    }
}
