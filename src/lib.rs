//! EML: an actor-system telephony engine. One binary that a call centre runs on one machine or many.

pub mod actors;
pub mod app;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod domain;
pub mod edge;
pub mod seeded;
pub mod store;
pub mod telemetry;
