//! The addresses we hand out. They carry our ids, so every callback finds its call by itself, and
//! connection overrides, because Twilio does not retry a failed request unless the address says so.

use crate::domain::id::{AttemptId, CallId, LegId};

/// Overrides for addresses that must answer with a document: two retries within 14.5 s in all.
const DOCUMENT: &str = "#ct=2000&rt=6000&rc=2&rp=all&tt=14500";
/// Overrides for addresses that only take news: three retries on any failure.
const NEWS: &str = "#rc=3&rp=all";

/// Why an address cannot be handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPublicUrl {
    /// It is no http(s) URL with a host.
    #[error("public_url must be an http or https URL")]
    NotHttp,
    /// Twilio refuses host names with an underscore.
    #[error("the host of public_url must not contain `_`")]
    Underscore,
}

/// Makes addresses under one public URL and provider section.
#[derive(Debug, Clone)]
pub struct Links {
    base: String,
    public_url: String,
}

impl Links {
    /// Addresses under `public_url` for the provider section `provider`.
    ///
    /// # Errors
    /// When Twilio would refuse them.
    pub fn new(public_url: &str, provider: &str) -> Result<Self, BadPublicUrl> {
        let public_url = public_url.trim_end_matches('/');
        let parsed = url::Url::parse(public_url).map_err(|_| BadPublicUrl::NotHttp)?;
        let host = parsed.host_str().filter(|_| matches!(parsed.scheme(), "http" | "https"));
        let host = host.ok_or(BadPublicUrl::NotHttp)?;
        if host.contains('_') {
            return Err(BadPublicUrl::Underscore);
        }
        Ok(Self { base: format!("{public_url}/webhooks/{provider}"), public_url: public_url.to_owned() })
    }

    /// The public URL that is signed, for a request's path and raw query.
    #[must_use]
    pub fn signed_url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.public_url)
    }

    /// What an answered leg of ours shall do.
    #[must_use]
    pub fn agent(&self, call: CallId, leg: LegId, attempt: AttemptId) -> String {
        format!("{}/agent?call={call}&leg={leg}&attempt={attempt}{DOCUMENT}", self.base)
    }

    /// How far a leg of ours is.
    #[must_use]
    pub fn status(&self, call: CallId, leg: LegId, attempt: AttemptId) -> String {
        format!("{}/status?call={call}&leg={leg}&attempt={attempt}{NEWS}", self.base)
    }

    /// What a leg shall do when its last instruction is done.
    #[must_use]
    pub fn next(&self, call: CallId) -> String {
        format!("{}/dial-action?call={call}{DOCUMENT}", self.base)
    }

    /// What happens in the room.
    #[must_use]
    pub fn conference(&self, call: CallId) -> String {
        format!("{}/conference?call={call}{NEWS}", self.base)
    }

    /// What a waiting caller hears.
    #[must_use]
    pub fn wait(&self, call: CallId) -> String {
        format!("{}/wait?call={call}{DOCUMENT}", self.base)
    }

    /// What a party on hold hears.
    #[must_use]
    pub fn hold(&self, call: CallId) -> String {
        format!("{}/hold?call={call}{DOCUMENT}", self.base)
    }

    /// What became of a recording.
    #[must_use]
    pub fn recording(&self, call: CallId) -> String {
        format!("{}/recording?call={call}{NEWS}", self.base)
    }

    /// The fallback of everything that must answer with a document.
    #[must_use]
    pub fn fallback(&self, call: CallId) -> String {
        format!("{}/voice/fallback?call={call}{DOCUMENT}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_ids_and_overrides() {
        let links = Links::new("https://hooks.example.org/", "twilio").unwrap();
        let call = CallId::derived("twilio", "CA1");
        assert_eq!(
            links.wait(call),
            format!(
                "https://hooks.example.org/webhooks/twilio/wait?call={call}#ct=2000&rt=6000&rc=2&rp=all&tt=14500"
            )
        );
        assert_eq!(
            links.signed_url("/webhooks/twilio/voice?a=1"),
            "https://hooks.example.org/webhooks/twilio/voice?a=1"
        );
    }

    #[test]
    fn hosts_that_twilio_refuses_are_refused_first() {
        assert_eq!(Links::new("https://my_host.example.org", "t").unwrap_err(), BadPublicUrl::Underscore);
        assert_eq!(Links::new("ftp://example.org", "t").unwrap_err(), BadPublicUrl::NotHttp);
        assert_eq!(Links::new("", "t").unwrap_err(), BadPublicUrl::NotHttp);
    }
}
