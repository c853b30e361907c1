//! A call: the customer's interaction, made of legs, with one writer.

mod apply;
mod carrier;
mod command;
mod decide;
mod effect;
mod fact;
mod finish;
mod offer;
mod parts;
mod state;
mod summary;
#[cfg(test)]
mod tests;

pub use command::*;
pub use decide::decide;
pub use effect::*;
pub use fact::{CallFact, EndRecord, OfferReason};
pub use parts::*;
pub use state::{Call, Connection, Offer, Phase};
