//! What the program tells about itself: figures and logs.

pub mod logs;
mod metrics;

pub use metrics::{HttpObservation, Metrics, ProviderResult, WebhookResult};
