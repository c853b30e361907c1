//! What this authorization server does (RFC 8414). The same document stands where `OpenID` clients look;
//! it promises no ID tokens, since none are given out.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::router::EdgeState;
use crate::domain::identity::{GrantType, Permission};

/// What this authorization server does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metadata {
    /// Its name, which it also tells with each code.
    issuer: String,
    /// Where browsers are sent.
    authorization_endpoint: String,
    /// Where tokens come from.
    token_endpoint: String,
    /// Where tokens are given back.
    revocation_endpoint: String,
    /// Where tokens are asked about.
    introspection_endpoint: String,
    /// Where devices begin.
    device_authorization_endpoint: String,
    /// The keys that tokens are signed with.
    jwks_uri: String,
    /// How a browser is answered.
    response_types_supported: [&'static str; 1],
    /// Where the answer stands.
    response_modes_supported: [&'static str; 1],
    /// Ways to tokens.
    grant_types_supported: [&'static str; 4],
    /// How codes are bound to whoever asked for them.
    code_challenge_methods_supported: [&'static str; 1],
    /// How clients show who they are.
    token_endpoint_auth_methods_supported: [&'static str; 3],
    /// The same where tokens are given back.
    revocation_endpoint_auth_methods_supported: [&'static str; 3],
    /// The same where tokens are asked about.
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    /// Whether answers to browsers name the issuer, so that they cannot be mixed up.
    authorization_response_iss_parameter_supported: bool,
    /// What may be asked for.
    scopes_supported: Vec<&'static str>,
    /// Where people read how to use it.
    service_documentation: String,
}

fn metadata(state: &EdgeState) -> Metadata {
    let base = &state.settings.public_url;
    let at = |path: &str| format!("{base}{path}");
    Metadata {
        issuer: super::issuer(state).to_owned(),
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        revocation_endpoint: at("/oauth/revoke"),
        introspection_endpoint: at("/oauth/introspect"),
        device_authorization_endpoint: at("/oauth/device"),
        jwks_uri: at("/jwks.json"),
        response_types_supported: ["code"],
        response_modes_supported: ["query"],
        grant_types_supported: GrantType::ALL.map(GrantType::as_str),
        code_challenge_methods_supported: ["S256"],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
        revocation_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
        introspection_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
        authorization_response_iss_parameter_supported: true,
        scopes_supported: Permission::ALL.iter().map(|permission| permission.as_str()).collect(),
        service_documentation: at("/docs"),
    }
}

/// What the authorization server does.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "oauth", security(()), responses((status = 200, body = Metadata)))]
pub(super) async fn server(State(state): State<EdgeState>) -> axum::Json<Metadata> {
    axum::Json(metadata(&state))
}

/// The same, where `OpenID` clients look.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "oauth", security(()), responses((status = 200, body = Metadata)))]
pub(super) async fn openid(State(state): State<EdgeState>) -> axum::Json<Metadata> {
    axum::Json(metadata(&state))
}
