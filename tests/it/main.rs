//! Tests that see the crate from outside.

#![expect(clippy::unwrap_used, reason = "test code")]

mod corpus;
mod history_contract;
mod journal_contract;
mod kill_nine;
mod one_call;
mod provider_requests;
mod records_contract;
mod refusals;
mod samples;
mod sqlite_file;
mod support;
mod walks;
