//! Bounds and times of the transport.

use std::time::Duration;

use super::frame::LARGEST_BODY;

/// What the transport is told at its start.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Where to listen, as `host:port`. Never an address that the public reaches.
    pub listen: String,
    /// A peer that has not been heard for this long is given up.
    pub silent_after: Duration,
    /// How often a peer that we dialed is asked for a sign of life.
    pub ping_every: Duration,
    /// Longest wait for a TCP connection.
    pub dial_timeout: Duration,
    /// Longest wait for TLS and the greeting together.
    pub handshake_timeout: Duration,
    /// Questions under way to one peer; more of them wait for a place until their deadline.
    pub window: usize,
    /// Questions that may wait for such a place; more of them are refused at once.
    pub waiting: usize,
    /// Frames that may wait for one connection.
    pub queue_frames: usize,
    /// Bytes that these may hold together.
    pub queue_bytes: usize,
    /// Largest body in bytes.
    pub largest_body: usize,
    /// Questions of one peer that are answered at a time. More than its window, since what its asker
    /// gave up is still worked on for a moment.
    pub inbound_asks: usize,
    /// Connections at a time that have not yet said who they are.
    pub unauthenticated: usize,
    /// No question waits longer, whatever its deadline.
    pub longest_ask: Duration,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7946".to_owned(),
            silent_after: Duration::from_secs(1),
            ping_every: Duration::from_millis(250),
            dial_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            window: 256,
            waiting: 4_096,
            queue_frames: 4_096,
            queue_bytes: 8 * 1024 * 1024,
            largest_body: LARGEST_BODY,
            inbound_asks: 512,
            unauthenticated: 64,
            longest_ask: Duration::from_mins(1),
        }
    }
}
