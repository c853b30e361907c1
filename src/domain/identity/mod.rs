//! Identity: who may do what, and what is noted of those who sign in and change things.

mod audit;
pub mod factor;
mod login;
mod permission;

pub use audit::{Actor, AuditEntry, GENESIS, Sealed, chain_hash};
pub use factor::{ActiveFactor, Factor, FactorRefusal, Method, Offer, Tries};
pub use login::{DisplayName, Email, InvalidText, Login};
pub use permission::{Permission, PermissionSet, RoleName, UnknownPermission};
