//! The `X-Twilio-Signature` header: HMAC-SHA1 over the public URL and the sorted form fields.
//!
//! Source: Twilio's documentation of webhook security; edge cases by the vectors in
//! `tests/fixtures/vectors`, which its official libraries judged.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq as _};

use super::form;

/// The query field that covers a JSON body.
const BODY_HASH: &str = "bodySHA256";

/// A request as far as its signature covers it.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The public URL exactly as it was given to Twilio, with the raw query and without a fragment,
    /// which is never signed.
    pub url: &'a str,
    /// The decoded form fields; `None` when the body is no form.
    pub form: Option<&'a [(String, String)]>,
    /// The raw body.
    pub body: &'a [u8],
    /// The header `X-Twilio-Signature`.
    pub signature: &'a str,
    /// The header `X-Twilio-Webhooks-Signature-Settings`, when a shared key signed.
    pub settings: Option<&'a str>,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// No secret makes this signature.
    #[error("signature does not match")]
    Mismatch,
    /// The body is not what was signed, or is not covered.
    #[error("body is not covered by the signature")]
    Body,
    /// The settings header names a hash we do not know.
    #[error("signature algorithm is not known")]
    Algorithm,
}

/// Signs a request as Twilio does: base64 of HMAC-SHA1(token, URL + sorted distinct name+value).
/// A fragment with connection overrides is cut first.
#[must_use]
pub fn sign(auth_token: &str, url: &str, params: &[(String, String)]) -> String {
    let text = text_to_sign(url.split('#').next().unwrap_or_default(), Some(params));
    STANDARD.encode(mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token, &text))
}

/// Checks a request against each secret that is in use.
///
/// # Errors
/// Why it does not hold.
pub fn verify(request: &Signed<'_>, secrets: &[&str]) -> Result<(), BadSignature> {
    let algorithm = algorithm(request.settings)?;
    if request.form.is_none() && !request.body.is_empty() {
        check_body(request)?;
    }
    let urls = [Some(request.url.to_owned()), without_port(request.url), with_port(request.url)];
    // Every candidate is tried, so that the time taken tells nothing about which one was close.
    let mut matches = Choice::from(0);
    for url in urls.iter().flatten() {
        let text = text_to_sign(url, request.form);
        for secret in secrets {
            let wanted = STANDARD.encode(mac(algorithm, secret, &text));
            matches |= wanted.as_bytes().ct_eq(request.signature.as_bytes());
        }
    }
    if bool::from(matches) { Ok(()) } else { Err(BadSignature::Mismatch) }
}

fn mac(algorithm: hmac::Algorithm, secret: &str, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), text.as_bytes())
}

fn text_to_sign(url: &str, form: Option<&[(String, String)]>) -> String {
    let mut text = url.to_owned();
    let mut sorted: Vec<_> = form.unwrap_or_default().iter().collect();
    sorted.sort();
    sorted.dedup();
    for (name, value) in sorted {
        text.push_str(name);
        text.push_str(value);
    }
    text
}

/// `key=…,algorithm=HMAC_SHA256`; without the header it is SHA-1 and the auth token.
fn algorithm(settings: Option<&str>) -> Result<hmac::Algorithm, BadSignature> {
    let Some(settings) = settings else { return Ok(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY) };
    let named = settings.split(',').find_map(|part| part.trim().strip_prefix("algorithm="));
    match named {
        Some("HMAC_SHA256") => Ok(hmac::HMAC_SHA256),
        Some("HMAC_SHA1") => Ok(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        Some(_) | None => Err(BadSignature::Algorithm),
    }
}

/// A body that is no form must be named by its hash in the signed URL.
fn check_body(request: &Signed<'_>) -> Result<(), BadSignature> {
    let query = request.url.split_once('?').map_or("", |(_, query)| query);
    let fields = form::parse(query.as_bytes()).map_err(|_| BadSignature::Body)?;
    let named = form::value(&fields, BODY_HASH).ok_or(BadSignature::Body)?;
    let actual = hex::encode(digest::digest(&digest::SHA256, request.body));
    if bool::from(actual.as_bytes().ct_eq(named.as_bytes())) { Ok(()) } else { Err(BadSignature::Body) }
}

/// Where the host of a URL ends, and whether a port follows.
fn authority(url: &str) -> Option<(usize, usize)> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |place| start + place);
    Some((start, end))
}

fn without_port(url: &str) -> Option<String> {
    let (start, end) = authority(url)?;
    let host = url[start..end].rfind('@').map_or(start, |place| start + place + 1);
    let colon = url[host..end].rfind(':')? + host;
    let is_port = url[colon + 1..end].bytes().all(|byte| byte.is_ascii_digit());
    is_port.then(|| format!("{}{}", &url[..colon], &url[end..]))
}

fn with_port(url: &str) -> Option<String> {
    let (start, end) = authority(url)?;
    let host = url[start..end].rfind('@').map_or(start, |place| start + place + 1);
    if url[host..end].contains(':') {
        return None;
    }
    let port = match &url[..start] {
        "https://" | "wss://" => 443,
        "http://" | "ws://" => 80,
        _ => return None,
    };
    Some(format!("{}:{port}{}", &url[..end], &url[end..]))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors(file: &str) -> Vec<Value> {
        let path = format!("{}/tests/fixtures/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        document["vectors"].as_array().unwrap().clone()
    }

    fn params(vector: &Value) -> Option<Vec<(String, String)>> {
        let pairs = vector["params"].as_array()?;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Some(pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
    }

    fn check(vector: &Value, secret: &str) -> bool {
        let body = vector["raw_body"].as_str().unwrap_or_default();
        let content_type = vector["content_type"].as_str().unwrap_or_default();
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        let fields = match (is_form, vector["raw_body"].as_str()) {
            (true, Some(body)) => Some(form::parse(body.as_bytes()).unwrap()),
            _ => params(vector),
        };
        let request = Signed {
            url: vector["url"].as_str().unwrap(),
            form: fields.as_deref(),
            body: body.as_bytes(),
            signature: vector["header"].as_str().unwrap_or_default(),
            settings: vector["signature_settings_header"].as_str(),
        };
        verify(&request, &[secret]).is_ok()
    }

    #[test]
    fn every_vector_gets_the_strict_verdict() {
        let vectors = vectors("twilio_signature.json");
        assert_eq!(vectors.len(), 52);
        for vector in &vectors {
            let verdict = check(vector, vector["auth_token"].as_str().unwrap());
            assert_eq!(verdict, vector["expect"].as_bool().unwrap(), "{}: {}", vector["id"], vector["why"]);
        }
    }

    #[test]
    fn every_shared_key_vector_gets_the_strict_verdict() {
        let vectors = vectors("twilio_sharedkey_signature.json");
        assert_eq!(vectors.len(), 6);
        for vector in &vectors {
            let verdict = check(vector, vector["secret"].as_str().unwrap());
            assert_eq!(verdict, vector["expect"].as_bool().unwrap(), "{}: {}", vector["id"], vector["why"]);
        }
    }

    #[test]
    fn both_secrets_hold_during_a_rotation() {
        let fields = vec![("CallSid".to_owned(), "CA1".to_owned())];
        let url = "https://hooks.example.org/voice";
        let signature = sign("next", url, &fields);
        let request =
            Signed { url, form: Some(&fields), body: b"CallSid=CA1", signature: &signature, settings: None };
        assert_eq!(verify(&request, &["old", "next"]), Ok(()));
        assert_eq!(verify(&request, &["old"]), Err(BadSignature::Mismatch));
        assert_eq!(verify(&request, &[]), Err(BadSignature::Mismatch));
    }

    #[test]
    fn a_body_that_is_no_form_must_be_named_by_its_hash() {
        let body = b"{\"a\":1}";
        let hash = hex::encode(digest::digest(&digest::SHA256, body));
        for (url, want) in [
            (format!("https://hooks.example.org/v?bodySHA256={hash}"), Ok(())),
            (
                format!("https://hooks.example.org/v?bodySHA256={}", hash.to_uppercase()),
                Err(BadSignature::Body),
            ),
            ("https://hooks.example.org/v?bodySHA256=".to_owned(), Err(BadSignature::Body)),
            ("https://hooks.example.org/v".to_owned(), Err(BadSignature::Body)),
        ] {
            let signature = sign("secret", &url, &[]);
            let request = Signed { url: &url, form: None, body, signature: &signature, settings: None };
            assert_eq!(verify(&request, &["secret"]), want, "{url}");
        }
    }
}
