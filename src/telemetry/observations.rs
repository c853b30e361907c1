//! What is counted, in the words of labels.

use std::time::Duration;

/// How a webhook was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookResult {
    /// Taken in, its facts durable.
    Accepted,
    /// Its signature is missing or wrong.
    BadSignature,
    /// It makes no sense.
    Malformed,
    /// It could not be stored; the provider was asked to come again or given the safe document.
    Unavailable,
    /// It belongs to no known call.
    Orphaned,
}

impl WebhookResult {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::Orphaned => "orphaned",
        }
    }
}

/// How a request to a provider went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderResult {
    /// Done.
    Done,
    /// Refused.
    Refused,
    /// No clear answer.
    InDoubt,
}

impl ProviderResult {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::InDoubt => "in_doubt",
        }
    }
}

/// One answered HTTP request.
#[derive(Debug, Clone)]
pub struct HttpObservation {
    /// The method.
    pub method: String,
    /// The route's pattern, never the path.
    pub route: String,
    /// The status.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
}
