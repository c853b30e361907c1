//! Signing in with an outside provider of OpenID Connect: the code flow with PKCE (RFC 6749, RFC 7636), as a
//! client of it.
//!
//! `provider` knows how to speak with one over `transport`, `person` what its claims mean here, `account`
//! which user that is. `journey` and `binding` tie the way back to who set out; `routes` and `identities` are
//! what the API shows of it.

mod account;
mod binding;
mod identities;
mod journey;
mod person;
mod provider;
mod routes;
mod transport;

pub use provider::{OutsideProvider, OutsideSettings};
pub use routes::OutsideProviders;

pub(in crate::edge) use identities::{
    __path_identities, __path_link, __path_unlink, identities, link, unlink,
};
pub(in crate::edge) use routes::{
    __path_begin, __path_callback, __path_exchange, __path_providers, begin, callback, exchange, providers,
};
