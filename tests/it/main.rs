//! Tests that see the crate from outside.

#![expect(clippy::unwrap_used, reason = "test code")]

mod history_contract;
mod journal_contract;
mod records_contract;
mod samples;
mod sqlite_file;
mod walks;
