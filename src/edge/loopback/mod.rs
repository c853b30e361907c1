//! The loopback carrier: a small telephone switch that behaves like a provider over real HTTP.
//!
//! It is an outside party that happens to live in the binary: it posts signed webhooks, obeys the
//! documents it gets back, serves the REST calls of the engine and misbehaves on demand. The engine
//! cannot tell it from the real one, so the demo, the load generator and tests all use it.

mod carrier;
mod chaos;
mod conference;
mod conference_news;
mod control;
mod dial;
mod leg;
mod life;
mod lines;
mod media;
mod policy;
mod rest;
mod rest_rooms;
mod script;
mod settings;
mod stats;
mod status;
mod switch;
mod twiml;
mod webhooks;

#[cfg(test)]
mod tests;

pub use carrier::{Carrier, CarrierError};
pub use chaos::Chaos;

pub use settings::{CallPlan, CarrierSettings, NumberPlan, Outcome, PhonePlan, Timing};
pub use stats::StatsView;
pub use status::{LegView, Status};
