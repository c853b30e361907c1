//! Proof that whoever exchanges a code is the one who asked for it (RFC 7636). Only `S256`: with `plain`
//! whoever reads the request could use the code.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Characters of a SHA-256 in base64url.
const LENGTH: usize = 43;
/// Longest verifier.
const LONGEST: usize = 128;

/// What a request for a code shows of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Challenge(String);

impl Challenge {
    /// Reads one; anything but a SHA-256 in base64url is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|_| text.len() == LENGTH)?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// Whether this is the secret behind it.
    pub(super) fn is_answered_by(&self, verifier: &str) -> bool {
        let is_form = (LENGTH..=LONGEST).contains(&verifier.len())
            && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        let shown = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        is_form && bool::from(shown.as_bytes().ct_eq(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const SHOWN: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn only_the_secret_behind_a_challenge_answers_it() {
        let challenge = Challenge::parse(SHOWN).unwrap();
        assert!(challenge.is_answered_by(VERIFIER));
        let longer = format!("{VERIFIER}{}", "a".repeat(86));
        for wrong in ["", SHOWN, &VERIFIER[..42], &VERIFIER.to_lowercase(), &longer, &format!("{VERIFIER} ")]
        {
            assert!(!challenge.is_answered_by(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_challenge_is_a_hash_in_base64url_and_nothing_else() {
        for text in ["", VERIFIER.trim_end_matches('k'), &format!("{SHOWN}="), &SHOWN.replace('-', "+"), "a"]
        {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
        // The last character of 43 carries two bits that must be zero: one hash has one text.
        assert_eq!(Challenge::parse(&format!("{}N", &SHOWN[..42])), None);
    }

    #[test]
    fn a_verifier_that_is_sent_as_its_own_challenge_is_no_downgrade() {
        // What `plain` would do: the text of the challenge is the verifier itself.
        let challenge = Challenge::parse(VERIFIER);
        assert!(challenge.is_none_or(|challenge| !challenge.is_answered_by(VERIFIER)));
    }
}
