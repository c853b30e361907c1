//! Signing in with an outside provider: with a real one (npm `oidc-provider`), and with one that lies.

mod browser;
mod forger;
mod forgeries;
mod provider;
mod sign_ins;
mod stand;
