//! Where the outside world ends: HTTP, `WebSockets`, webhooks, providers.

mod audit;
pub mod auth;
mod calls;
mod cluster;
mod document;
mod error;
mod health;
mod history;
mod idempotency;
mod list;
pub mod loopback;
pub mod oauth;
pub mod providers;
mod request;
mod resources;
mod router;
mod socket;
pub mod users;
mod webhooks;

pub use error::{ApiError, Code};
pub use router::{
    Departure, EdgeSettings, EdgeState, Registration, SocketSettings, inner_router, openapi, router,
};
pub use webhooks::{TwilioSection, Webhooks};
