//! Which webhook failures are repeated: what the fragment of a URL asks for.

use std::time::Duration;

/// Time for all tries together and for the first byte, unless the URL says less.
const LIMIT_MS: u64 = 15_000;

/// Why a webhook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No connection.
    #[error("no connection")]
    Connect,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// An answer other than 2xx.
    #[error("answered {0}")]
    Status(u16),
    /// The answer is larger than documents may be.
    #[error("document too large")]
    TooLarge,
    /// The answer is no XML by its content type.
    #[error("not XML by its content type")]
    ContentType,
    /// The answer cannot be read as a document.
    #[error("unreadable document")]
    Unreadable,
    /// The carrier is being shut down.
    #[error("shut down")]
    ShutDown,
}

impl Failure {
    /// The error code that a fallback URL is told.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Connect => "11205",
            Self::Timeout | Self::Status(_) | Self::ShutDown => "11200",
            Self::TooLarge => "11750",
            Self::ContentType => "12300",
            Self::Unreadable => "12100",
        }
    }
}

/// What the fragment of a URL says about repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent kinds of failure")]
pub(super) struct Policy {
    pub(super) retries: u32,
    connect: bool,
    timeout: bool,
    client_error: bool,
    server_error: bool,
    pub(super) first_byte: Duration,
    pub(super) total: Duration,
}

impl Policy {
    /// Splits a URL into what is requested and what its fragment asks for.
    pub(super) fn split(url: &str) -> (&str, Self) {
        let (plain, fragment) = url.split_once('#').unwrap_or((url, ""));
        let limit = Duration::from_millis(LIMIT_MS);
        let mut policy = Self {
            retries: 1,
            connect: true,
            timeout: false,
            client_error: false,
            server_error: false,
            first_byte: limit,
            total: limit,
        };
        for (key, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
            let millis = value.parse().map(|ms: u64| Duration::from_millis(ms.clamp(100, LIMIT_MS)));
            match key {
                "rc" => policy.retries = value.parse().unwrap_or(1).min(5),
                "rp" => policy.cover(value),
                "rt" => policy.first_byte = millis.unwrap_or(limit),
                "tt" => policy.total = millis.unwrap_or(limit),
                _ => {}
            }
        }
        (plain, policy)
    }

    fn cover(&mut self, list: &str) {
        let names: Vec<&str> = list.split(',').collect();
        let covers = |name: &str| names.iter().any(|item| *item == name || *item == "all");
        self.connect = covers("ct");
        self.timeout = covers("rt");
        self.client_error = covers("4xx");
        self.server_error = covers("5xx");
    }

    pub(super) fn covers(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.connect,
            Failure::Timeout => self.timeout,
            Failure::Status(status) if status >= 500 => self.server_error,
            Failure::Status(status) if status >= 400 => self.client_error,
            Failure::Status(_) | Failure::TooLarge | Failure::ContentType => false,
            Failure::Unreadable | Failure::ShutDown => false,
        }
    }
}
