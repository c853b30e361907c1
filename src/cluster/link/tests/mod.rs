//! The contract of every transport, and what only the one over TLS must keep.

mod contract;
mod hostile;
mod rig;
mod simulation;
