//! Signing in with an outside provider of OpenID Connect: the code flow with PKCE (RFC 6749, RFC 7636), as a
//! client of it.
//!
//! `provider` knows how to speak with one, `person` what its claims mean here.

mod person;
mod provider;
mod transport;

pub use person::Person;
pub use provider::{OutsideError, OutsideProvider, OutsideSettings};
