//! One module per kind of provider.

pub mod twilio;
