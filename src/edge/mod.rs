//! Where the outside world ends: HTTP, WebSockets, webhooks, providers.

pub mod loopback;
pub mod providers;
