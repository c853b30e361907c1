//! Identifiers: one type per kind of thing, shown as a prefix and 26 base-32 characters.
//!
//! The text form follows the `TypeID` specification 0.3 (prefix, `_`, Crockford base 32 of a
//! UUID in lower case). Fresh ids are `UUIDv7`, so they sort by time; ids of inbound calls are
//! `UUIDv5` of what the provider calls them, so two webhooks of one call meet in one actor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a 128-bit number in base 32.
const TEXT_LENGTH: usize = 26;
/// Name space of every id that is derived from a provider's own id (`UUIDv5`, RFC 9562).
const PROVIDER_NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_0d52_90c4_5f2e_8a77_3c51_e0aa_41d9);

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The prefix is missing or belongs to another kind.
    #[error("id must start with `{0}_`")]
    Prefix(&'static str),
    /// The part after the prefix is not 26 base-32 characters below 2^128.
    #[error("id must hold 26 base-32 characters after its prefix")]
    Suffix,
}

/// Writes a UUID as 26 base-32 characters.
fn encode(id: Uuid) -> [u8; TEXT_LENGTH] {
    let mut rest = id.as_u128();
    let mut text = [b'0'; TEXT_LENGTH];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    text
}

/// Reads 26 base-32 characters back into a UUID.
fn decode(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != TEXT_LENGTH || text.as_bytes()[0] > b'7' {
        return Err(InvalidId::Suffix);
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte).ok_or(InvalidId::Suffix)?;
        value = (value << 5) | digit as u128;
    }
    Ok(Uuid::from_u128(value))
}

/// Derives the UUID that stands for one provider's own id of a thing.
fn derive(provider: &str, provider_id: &str) -> Uuid {
    Uuid::new_v5(&PROVIDER_NAMESPACE, format!("{provider}\n{provider_id}").as_bytes())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh, time-ordered id.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id of a thing that a provider already named; the same pair gives the same id.
            #[must_use]
            pub fn derived(provider: &str, provider_id: &str) -> Self {
                Self(derive(provider, provider_id))
            }

            /// Wraps a stored UUID.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare UUID, as stored.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                for letter in encode(self.0) {
                    fmt::Write::write_char(f, char::from(letter))?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let suffix = text
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or(InvalidId::Prefix($prefix))?;
                decode(suffix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// One customer interaction.
    CallId = "call";
    /// One connection between the provider and one party of a call.
    LegId = "leg";
    /// One agent; the session actor carries the same id.
    AgentId = "agt";
    /// One person who can sign in.
    UserId = "usr";
    /// One sign-in of one user, on one device, until it ends.
    SessionId = "sid";
    /// One program that is known to the authorization server.
    ClientId = "cli";
    /// One place where calls wait.
    QueueId = "que";
    /// One offer of one call to one agent, also called reservation.
    OfferId = "ofr";
    /// One skill that agents have and calls ask for.
    SkillId = "skl";
    /// One inbound number and where it leads.
    NumberId = "num";
    /// One activity an agent can be in.
    ActivityId = "act";
    /// One disposition that may be given to a finished call.
    DispositionId = "dsp";
    /// One fact in the journal; also the id of the event that tells it.
    FactId = "evt";
    /// One command; a command that comes again has the same.
    CommandId = "cmd";
    /// One attempt to make a provider do something.
    AttemptId = "att";
    /// One WebSocket connection.
    SocketId = "ses";
    /// One running program.
    NodeId = "node";
    /// One HTTP request.
    RequestId = "req";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        for id in [CallId::fresh(), CallId::from_uuid(Uuid::nil()), CallId::from_uuid(Uuid::max())] {
            assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
        }
    }

    #[test]
    fn the_text_form_matches_the_typeid_specification() {
        let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        assert_eq!(CallId::from_uuid(uuid).to_string(), "call_01h455vb4pex5vsknk084sn02q");
    }

    #[test]
    fn one_provider_id_gives_one_id() {
        assert_eq!(CallId::derived("twilio", "CA1"), CallId::derived("twilio", "CA1"));
        assert_ne!(CallId::derived("twilio", "CA1"), CallId::derived("vonage", "CA1"));
    }

    #[test]
    fn a_foreign_or_broken_text_is_refused() {
        for (text, want) in [
            ("agt_01h455vb4pex5vsknk084sn02q", InvalidId::Prefix("call")),
            ("call_01h455vb4pex5vsknk084sn02", InvalidId::Suffix),
            ("call_81h455vb4pex5vsknk084sn02q", InvalidId::Suffix),
            ("call_01h455vb4pex5vsknk084sn02u", InvalidId::Suffix),
            ("", InvalidId::Prefix("call")),
        ] {
            assert_eq!(text.parse::<CallId>(), Err(want), "{text}");
        }
    }
}
