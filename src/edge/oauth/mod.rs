//! The authorization server: programs get tokens in the name of users, or in their own (OAuth 2.1).
//!
//! A client sends its user's browser to `authorize`, the person signs in and allows on the pages of
//! `consent`, and the client exchanges the code at `token`. A device shows a code instead, which its
//! user types on our page (`device`). Clients are managed by admins (`clients`).

mod authorize;
mod clients;
mod codes;
mod consent;
mod device;
mod devices;
mod error;
mod form;
mod given;
mod journey;
mod known;
mod metadata;
mod pages;
mod person;
mod pkce;
mod redirect;
mod scope;
mod secret;
mod token;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use clients::seed;

use super::router::EdgeState;

/// All its routes.
pub(super) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(authorize::authorize))
        .routes(routes!(consent::step))
        .routes(routes!(token::token))
        .routes(routes!(given::revoke))
        .routes(routes!(given::introspect))
        .routes(routes!(device::page, device::begin))
        .routes(routes!(metadata::server))
        .routes(routes!(metadata::openid))
        .routes(routes!(clients::list, clients::create))
        .routes(routes!(clients::show, clients::change, clients::remove))
        .routes(routes!(clients::renew))
}

/// What this authorization server calls itself: the issuer of its tokens if that is a URL, as others ask
/// for (RFC 8414), else where it is reached.
fn issuer(state: &EdgeState) -> &str {
    let name = state.authority.issuer();
    let is_url = url::Url::parse(name).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_url { name } else { &state.settings.public_url }
}
