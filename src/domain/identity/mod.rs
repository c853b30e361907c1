//! Identity: who may do what, and what is noted of those who sign in and change things.

mod audit;
mod client;
mod login;
mod permission;

pub use audit::{Actor, AuditEntry, GENESIS, Sealed, chain_hash};
pub use client::{Client, EarlierSecret, GrantType, command_line};
pub use login::{DisplayName, Email, InvalidText, Login};
pub use permission::{Permission, PermissionSet, RoleName, UnknownPermission};
