//! A call: the customer's interaction, made of legs, with one writer.

mod command;
mod fact;
mod parts;

pub use command::*;
pub use fact::{CallFact, EndRecord, OfferReason};
pub use parts::*;
