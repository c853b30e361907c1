//! Identity: who may do what, and what is noted of those who sign in and change things.

mod audit;
mod client;
pub mod factor;
mod login;
mod permission;

pub use audit::{Actor, AuditEntry, GENESIS, Sealed, chain_hash};
pub use client::{Client, EarlierSecret, GrantType, command_line};
pub use factor::{ActiveFactor, Factor, FactorRefusal, Method, Offer, Tries};
pub use login::{DisplayName, Email, InvalidText, Login};
pub use permission::{Permission, PermissionSet, RoleName, UnknownPermission};
