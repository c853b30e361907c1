//! Twilio: programmable voice, and whatever behaves like it over HTTP.

pub mod signature;
