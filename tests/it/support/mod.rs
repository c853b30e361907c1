//! A house to test in: a whole node, its provider, its desks.

pub mod canary;
mod desk;
mod house;
mod people;
pub(crate) mod servers;
pub(crate) mod services;
mod twilio;

pub use desk::Desk;
pub use house::{House, HouseSettings, NUMBER, PUBLIC, TOKEN, form};
pub use people::PASSWORD;
pub use twilio::{FakeTwilio, Received};
