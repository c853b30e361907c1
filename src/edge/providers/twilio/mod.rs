//! Twilio: programmable voice, and whatever behaves like it over HTTP.

mod client;
mod documents;
pub mod form;
mod links;
pub mod signature;
pub mod twiml;
mod webhook;

pub use client::{BadSettings, TwilioClient, TwilioSettings};
pub use documents::{Phrases, apology, render};
pub use links::{BadPublicUrl, Links};
pub use webhook::{Correlated, Incoming, Kind, Malformed, parse};
