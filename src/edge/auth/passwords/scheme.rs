//! How passwords are kept: bcrypt over an HMAC of the whole password.
//!
//! bcrypt reads 72 bytes and ends at the first NUL. What reaches it here is always 64 letters of
//! base 64: the HMAC-SHA-384 of the password, so that every byte counts, however many there are. The
//! HMAC's key is public and the same everywhere. It keeps these hashes apart from SHA-384 sums of
//! passwords that leaked elsewhere, which could otherwise be tried here as they are; it is no secret,
//! so that users can move to another store.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret::Password;

/// What a hash of this scheme starts with.
const MARK: &str = "hmac384$";
/// Key of the HMAC; public, and never to be changed.
const DOMAIN: &[u8] = b"EML password 1: HMAC-SHA-384 before bcrypt";

/// What comes of comparing a password with what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password.
    Wrong,
    /// It is the password.
    Holds,
    /// It is the password, but kept in a way of before: it should be hashed again.
    HoldsOutdated,
}

impl Verdict {
    /// Whether it is the password.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::Holds | Self::HoldsOutdated)
    }
}

/// What bcrypt gets to see.
fn condensed(normal: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA384, DOMAIN);
    STANDARD.encode(hmac::sign(&key, normal.as_bytes()).as_ref())
}

/// Hashes a password; `None` when bcrypt does not know this cost. Takes long: see [`super::Passwords`].
pub(super) fn hash(password: &Password, cost: u32) -> Option<String> {
    let hash = bcrypt::non_truncating_hash(condensed(&password.normal()), cost).ok()?;
    Some(format!("{MARK}{hash}"))
}

/// A hash that no password has, of some cost. Comparing with it takes as long as with any other.
fn nobodys(cost: u32) -> String {
    format!("$2b${cost:02}$49uIp9ugWvEWpuxbDHaPdut1QlhmvOnLTMNxltbotce91bGMa5gbu")
}

/// Compares a password with what is kept, if anything is. Takes as long in each case.
pub(super) fn compare(password: &Password, kept: Option<&str>, cost: u32) -> Verdict {
    let Some(kept) = kept else { return against_nobody(password, cost) };
    if let Some(hash) = kept.strip_prefix(MARK) {
        let Ok(holds) = bcrypt::non_truncating_verify(condensed(&password.normal()), hash) else {
            return against_nobody(password, cost);
        };
        let is_current = hash.parse::<bcrypt::HashParts>().is_ok_and(|parts| parts.get_cost() == cost);
        return match (holds, is_current) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOutdated,
        };
    }
    // Plain bcrypt, from before; a longer password than it can hold was never set.
    match bcrypt::non_truncating_verify(password.typed(), kept) {
        Ok(true) => Verdict::HoldsOutdated,
        Ok(false) => Verdict::Wrong,
        Err(_) => against_nobody(password, cost),
    }
}

fn against_nobody(password: &Password, cost: u32) -> Verdict {
    let _ = bcrypt::non_truncating_verify(condensed(&password.normal()), &nobodys(cost));
    Verdict::Wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: u32 = 4;

    fn password(text: impl Into<String>) -> Password {
        Password::new(text.into())
    }

    #[test]
    fn passwords_that_differ_only_after_byte_72_never_collide() {
        for start in ["a".repeat(72), "é".repeat(36), "\0".repeat(72), "a b".repeat(341)] {
            for (one, other) in [("", "x"), ("x", "y"), ("\0", "\0\0"), ("x", "x ")] {
                let hash = hash(&password(format!("{start}{one}")), CHEAP).unwrap();
                assert_eq!(compare(&password(format!("{start}{one}")), Some(&hash), CHEAP), Verdict::Holds);
                let other = password(format!("{start}{other}"));
                assert_eq!(compare(&other, Some(&hash), CHEAP), Verdict::Wrong, "{other:?}");
            }
        }
    }

    #[test]
    fn a_nul_ends_nothing() {
        let hash = hash(&password("same\0one"), CHEAP).unwrap();
        for other in ["same", "same\0", "same\0two", "same\0one\0"] {
            assert_eq!(compare(&password(other), Some(&hash), CHEAP), Verdict::Wrong);
        }
    }

    #[test]
    fn one_password_from_two_keyboards_is_one() {
        let hash = hash(&password("Zoe\u{308} lives here"), CHEAP).unwrap();
        assert_eq!(compare(&password("Zo\u{eb} lives here"), Some(&hash), CHEAP), Verdict::Holds);
    }

    #[test]
    fn hashes_of_before_hold_and_are_outdated() {
        let plain = bcrypt::hash("correct horse", CHEAP).unwrap();
        assert_eq!(compare(&password("correct horse"), Some(&plain), CHEAP), Verdict::HoldsOutdated);
        assert_eq!(compare(&password("correct house"), Some(&plain), CHEAP), Verdict::Wrong);
        let cheaper = hash(&password("correct horse"), CHEAP).unwrap();
        assert_eq!(compare(&password("correct horse"), Some(&cheaper), CHEAP + 1), Verdict::HoldsOutdated);
        // More than bcrypt reads: plain hashes never had that, so nothing may match by its beginning.
        let full = bcrypt::hash("a".repeat(72), CHEAP).unwrap();
        assert_eq!(compare(&password("a".repeat(73)), Some(&full), CHEAP), Verdict::Wrong);
    }

    #[test]
    fn nothing_matches_what_nobody_has() {
        for kept in [None, Some(""), Some("hmac384$"), Some("hmac384$x"), Some("$2b$"), Some("plain text")] {
            for typed in ["", "x", "plain text"] {
                assert_eq!(compare(&password(typed), kept, CHEAP), Verdict::Wrong, "{kept:?}");
            }
        }
        assert!(nobodys(CHEAP).parse::<bcrypt::HashParts>().is_ok_and(|parts| parts.get_cost() == CHEAP));
        // The text of a hash that bcrypt reads: comparing with it takes the whole time.
        assert!(bcrypt::non_truncating_verify("x", &nobodys(CHEAP)).is_ok());
    }
}
