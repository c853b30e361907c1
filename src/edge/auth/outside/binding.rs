//! The cookie by which an answer of an outside provider is known to come to the browser that asked for it.
//! It lets nobody in; without it somebody could be signed in as somebody else by following a link.

use axum::http::{HeaderMap, HeaderValue, header};

use super::super::super::error::{ApiError, Code};
use super::journey::{AWAY, fresh, hashed};

/// Its name where the browser can be held to send it only to us.
const NAME: &str = "__Host-eml-outside";
/// Its name on a loopback without TLS.
const PLAIN_NAME: &str = "eml-outside";
/// Its length: 32 bytes in base 64.
const LENGTH: usize = 43;

/// What a browser keeps while its user is with a provider.
pub(super) struct Binding {
    secret: String,
    is_private: bool,
}

impl Binding {
    /// The browser's own, or a fresh one. Two sign-ins at a time share it.
    pub(super) fn of(headers: &HeaderMap, is_private: bool) -> Self {
        Self { secret: shown(headers, is_private).unwrap_or_else(fresh), is_private }
    }

    /// What is kept of it here.
    pub(super) fn hash(&self) -> String {
        hashed(&self.secret)
    }

    /// For `Set-Cookie`. Lax, since the provider sends the browser here from another site.
    pub(super) fn cookie(&self) -> Result<HeaderValue, ApiError> {
        let Self { secret, is_private } = self;
        let (name, secure) = if *is_private { (NAME, "; Secure") } else { (PLAIN_NAME, "") };
        let seconds = AWAY.0 / 1000;
        let cookie = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie).map_err(|_| ApiError::new(Code::Internal))
    }
}

/// Whether a request comes from the browser that was given what has this hash.
pub(super) fn is_bound(headers: &HeaderMap, is_private: bool, hash: &str) -> bool {
    shown(headers, is_private).is_some_and(|secret| hashed(&secret) == hash)
}

fn shown(headers: &HeaderMap, is_private: bool) -> Option<String> {
    let name = if is_private { NAME } else { PLAIN_NAME };
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, secret) = pairs.find(|(known, _)| *known == name)?;
    let is_ours = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (secret.len() == LENGTH && secret.bytes().all(is_ours)).then(|| secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cookies: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookies).unwrap());
        headers
    }

    #[test]
    fn a_browser_is_known_by_its_cookie_alone() {
        let binding = Binding::of(&HeaderMap::new(), true);
        let pair = format!("{NAME}={}", binding.secret);
        assert!(is_bound(&sent(&format!("a=b; {pair}; c=d")), true, &binding.hash()));
        assert_eq!(Binding::of(&sent(&pair), true).secret, binding.secret, "a second sign-in shares it");
        let other = Binding::of(&HeaderMap::new(), true);
        for (cookies, is_private) in [
            (String::new(), true),
            (pair.clone(), false),
            (format!("{PLAIN_NAME}={}", binding.secret), true),
            (format!("{NAME}={}", other.secret), true),
            (format!("{NAME}="), true),
        ] {
            assert!(!is_bound(&sent(&cookies), is_private, &binding.hash()), "{cookies}");
        }
        let cookie = binding.cookie().unwrap();
        let cookie = cookie.to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age=600"] {
            assert!(cookie.contains(part), "{cookie}");
        }
    }

    #[test]
    fn what_a_browser_sends_is_not_repeated_unless_it_is_ours() {
        let found = Binding::of(&sent(&format!("{NAME}={}", "\u{22}".repeat(LENGTH))), true);
        assert!(!found.secret.contains('"'));
    }
}
