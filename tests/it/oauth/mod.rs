//! The authorization server: what clients get, and what attackers do not.

mod attacks;
mod browser;
mod clients;
mod flows;
mod library;
mod terminal;
mod world;
