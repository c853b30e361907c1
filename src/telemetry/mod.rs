//! What the program tells about itself: figures and logs.

pub mod logs;
mod metrics;
mod observations;

pub use metrics::Metrics;
pub use observations::{HttpObservation, ProviderResult, WebhookResult};
