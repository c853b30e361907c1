//! Tests that see the crate from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "test code: it stops at the first surprise, and its helpers are shared"
)]

mod archive_contract;
mod audit;
mod audit_contract;
mod bus_contract;
mod cache_contract;
mod chaos;
mod corpus;
mod document;
mod faults;
mod grants_contract;
mod history_contract;
mod hostile_tokens;
mod journal_contract;
mod kill_nine;
mod load_balancers;
mod members_contract;
mod move_store;
mod nodes;
mod oauth;
mod one_call;
mod outside;
mod permissions;
mod postgres;
mod postgres_faults;
mod postgres_members;
mod provider_requests;
mod rabbitmq;
mod records_contract;
mod redis;
mod refusals;
mod samples;
mod second_factor;
mod sessions;
mod sign_in;
mod sqlite_file;
mod support;
mod throttling;
mod user_command;
mod user_rights;
mod users;
mod walks;
