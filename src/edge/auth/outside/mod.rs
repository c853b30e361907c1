//! Signing in with an outside provider of `OpenID` Connect: the code flow with PKCE (RFC 6749, RFC 7636), as a
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

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::router::EdgeState;

/// What the API shows of outside providers.
pub(in crate::edge) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(routes::providers))
        .routes(routes!(routes::begin))
        .routes(routes!(routes::callback))
        .routes(routes!(routes::exchange))
        .routes(routes!(identities::link))
        .routes(routes!(identities::identities))
        .routes(routes!(identities::unlink))
}
