//! Where a browser may be sent with a code: what may be registered, and what a request may name of it.

use url::Url;

/// Longest address, in bytes.
const LONGEST: usize = 2000;
/// Beginnings of addresses on the user's own machine, where a program takes the port it gets (RFC 8252).
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// What is wrong with an address that shall be registered, if anything.
pub(super) fn fault(uri: &str) -> Option<String> {
    if uri.len() > LONGEST {
        return Some(format!("must not be longer than {LONGEST} bytes"));
    }
    let Ok(url) = Url::parse(uri) else { return Some("must be a whole URL".to_owned()) };
    if url.as_str() != uri {
        // What browsers read in another way than it is written leads elsewhere than it seems to.
        return Some(format!("must be written as browsers read it: {url}"));
    }
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Some("must have no fragment and no user".to_owned());
    }
    if ["code", "state", "iss", "error"].iter().any(|ours| url.query_pairs().any(|(name, _)| name == *ours)) {
        return Some("must not have code, state, iss or error in its query".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" if is_plain(host) => None,
        "https" => Some("must have a host of letters, digits, hyphens and dots".to_owned()),
        "http" if matches!(host, "127.0.0.1" | "[::1]" | "localhost") => None,
        "http" => Some("must be https, except on the user's own machine".to_owned()),
        // `javascript:`, `data:` and their like have no dot.
        scheme if scheme.contains('.') => None,
        _ => Some("must be https, or a scheme named after a domain, as in org.example.app:/back".to_owned()),
    }
}

/// Whether a host can be written into a header without changing what it says.
fn is_plain(host: &str) -> bool {
    let is_sixth = host.starts_with('[') && host.ends_with(']');
    !host.is_empty()
        && (is_sixth || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)))
}

/// Whether a request may name this address: it is one that is registered, byte by byte, or one on the
/// user's own machine that differs in its port only.
pub(super) fn is_registered(registered: &[String], given: &str) -> bool {
    registered.iter().any(|known| {
        known == given
            || LOOPBACK.iter().any(|start| {
                let known = known.strip_prefix(start).and_then(after_port);
                let given = given.strip_prefix(start).and_then(after_port);
                known.is_some() && known == given
            })
    })
}

/// What follows the port, if this is a port or none, and then a path.
fn after_port(rest: &str) -> Option<&str> {
    let path = rest.find('/')?;
    let (port, path) = rest.split_at(path);
    let is_port = |port: &str| {
        !port.starts_with('0')
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(path)
}

/// The address with what is told in its query.
pub(super) fn with(uri: &str, told: &[(&str, &str)]) -> Option<String> {
    let mut url = Url::parse(uri).ok()?;
    url.query_pairs_mut().extend_pairs(told);
    Some(url.into())
}

/// What a page's policy must allow so that its form may lead to this address.
pub(super) fn policy_source(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    Some(match (url.scheme(), url.host_str()) {
        // A policy knows no addresses of version 6.
        (scheme @ ("http" | "https"), Some(host)) if !host.starts_with('[') => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{host}{port}")
        }
        (scheme, _) => format!("{scheme}:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_lead_where_they_seem_to_may_be_registered() {
        for fine in [
            "https://app.example.org/back",
            "https://app.example.org/back?tenant=1",
            "https://app.example.org:8443/",
            "http://127.0.0.1/back",
            "http://127.0.0.1:7000/back",
            "http://[::1]/back",
            "http://localhost:3000/back",
            "org.example.app:/back",
        ] {
            assert_eq!(fault(fine), None, "{fine}");
        }
        for refused in [
            "",
            "/back",
            "app.example.org/back",
            "http://app.example.org/back",
            "http://127.0.0.1.evil.example/back",
            "https://app.example.org",
            "https://APP.example.org/back",
            "https://app.example.org/a/../back",
            "https://app.example.org\\@evil.example/",
            "https://app.example.org/back#part",
            "https://ann@app.example.org/back",
            "https://app.example.org@evil.example/back",
            "https://app.example.org:443/back",
            "https://app;script-src.example.org/",
            "https://*.example.org/",
            "https://app.example.org/back?code=1",
            "https://app.example.org/back?iss=1",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "app:/back",
            "https://app.example.org/a b",
            "https://app.example.org/\n",
        ] {
            assert!(fault(refused).is_some(), "{refused}");
        }
        assert!(fault(&format!("https://app.example.org/{}", "a".repeat(LONGEST))).is_some());
    }

    #[test]
    fn a_request_names_a_registered_address_byte_by_byte() {
        let registered = ["https://app.example.org/back".to_owned(), "http://127.0.0.1/back".to_owned()];
        for fine in [
            "https://app.example.org/back",
            "http://127.0.0.1/back",
            "http://127.0.0.1:1/back",
            "http://127.0.0.1:65535/back",
        ] {
            assert!(is_registered(&registered, fine), "{fine}");
        }
        for refused in [
            "",
            "https://app.example.org/back/",
            "https://app.example.org/back?x=1",
            "https://app.example.org/back#x",
            "https://app.example.org/bac",
            "https://app.example.org:8443/back",
            "https://app.example.org./back",
            "HTTPS://app.example.org/back",
            "https://app.example.org/%62ack",
            "https://app.example.org.evil.example/back",
            "https://evil.example/?https://app.example.org/back",
            "http://app.example.org/back",
            "//app.example.org/back",
            "http://127.0.0.1:0/back",
            "http://127.0.0.1:65536/back",
            "http://127.0.0.1:080/back",
            "http://127.0.0.1:/back",
            "http://127.0.0.1:80@evil.example/back",
            "http://127.0.0.1.evil.example/back",
            "http://127.0.0.1:80/back/../evil",
            "http://127.0.0.2/back",
            "http://[::1]/back",
            "http://localhost/back",
            "https://127.0.0.1/back",
        ] {
            assert!(!is_registered(&registered, refused), "{refused}");
        }
    }

    #[test]
    fn what_is_told_cannot_change_where_the_browser_goes() {
        let told = [("code", "a&b=c#d"), ("state", "x y\r\nLocation: https://evil.example")];
        let uri = with("https://app.example.org/back?tenant=1", &told).unwrap();
        let back = Url::parse(&uri).unwrap();
        assert_eq!((back.host_str(), back.path(), back.fragment()), (Some("app.example.org"), "/back", None));
        let pairs: Vec<(String, String)> = back.query_pairs().into_owned().collect();
        assert_eq!(pairs[0], ("tenant".to_owned(), "1".to_owned()));
        assert_eq!((pairs[1].1.as_str(), pairs[2].1.as_str()), (told[0].1, told[1].1));
        assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
    }

    #[test]
    fn a_policy_names_the_place_and_not_the_path() {
        for (uri, want) in [
            ("https://app.example.org:8443/back?x=1", "https://app.example.org:8443"),
            ("http://127.0.0.1:7000/back", "http://127.0.0.1:7000"),
            ("http://[::1]:7000/back", "http:"),
            ("org.example.app:/back", "org.example.app:"),
        ] {
            assert_eq!(policy_source(uri).as_deref(), Some(want), "{uri}");
        }
    }
}
