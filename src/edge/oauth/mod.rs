//! The authorization server: programs get tokens in the name of users, or in their own (OAuth 2.1).

mod error;
mod form;
mod pages;
mod pkce;
mod redirect;
mod scope;
mod secret;
