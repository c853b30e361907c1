//! The actors that run the domain's machines, and the handle the edge uses.

pub mod ports;
