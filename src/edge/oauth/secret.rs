//! What somebody proves to know: made here, and kept only as a hash.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;

/// Letters of codes that people type: no vowels, so that no words come about, and none that look alike
/// (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a code; 20^8 are 34 bits, which hold for ten minutes under a throttle.
const CODE_LENGTH: usize = 8;

/// A fresh secret of 32 bytes, as text.
pub(super) fn fresh() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What a secret is kept under: whoever reads the store learns no secret.
pub(super) fn key(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

/// A fresh code for people to type, as in `WDJB-MJHT`.
pub(super) fn fresh_user_code() -> String {
    let mut chance = rand::rng();
    let letters: String =
        (0..CODE_LENGTH).map(|_| char::from(LETTERS[chance.random_range(0..LETTERS.len())])).collect();
    let (front, back) = letters.split_at(CODE_LENGTH / 2);
    format!("{front}-{back}")
}

/// A typed code as it was shown: in any case, with and without blanks and hyphens.
pub(super) fn read_user_code(typed: &str) -> Option<String> {
    let letters = typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
    let letters: String = letters.map(|letter| letter.to_ascii_uppercase()).take(CODE_LENGTH + 1).collect();
    let is_code = letters.len() == CODE_LENGTH && letters.bytes().all(|letter| LETTERS.contains(&letter));
    is_code.then(|| format!("{}-{}", &letters[..CODE_LENGTH / 2], &letters[CODE_LENGTH / 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_code_is_read_however_it_is_written() {
        let code = fresh_user_code();
        for typed in [code.clone(), code.to_lowercase(), code.replace('-', ""), format!(" {code}\n")] {
            assert_eq!(read_user_code(&typed).as_deref(), Some(code.as_str()), "{typed}");
        }
        for typed in ["", "BCDF", "BCDF-GHJKL", "ABCD-EFGH", "BCDF-GH1K", "BCDF-GHJ\u{e4}"] {
            assert_eq!(read_user_code(typed), None, "{typed}");
        }
    }

    #[test]
    fn secrets_are_long_and_kept_as_hashes() {
        let secret = fresh();
        assert_eq!(secret.len(), 43);
        assert_ne!(secret, fresh());
        assert_eq!(key(&secret).len(), 64);
        assert!(!key(&secret).contains(&secret));
    }
}
