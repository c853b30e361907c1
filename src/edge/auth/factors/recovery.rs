//! Recovery codes: what somebody without a phone signs in with, each once.

use super::super::Vault;
use crate::domain::id::UserId;

/// Digits of a code: those of base 32 that nobody mixes up (Crockford's).
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits in a code; 5 bits each, 80 in all.
const LENGTH: usize = 16;
/// Digits between two hyphens.
const GROUP: usize = 4;

/// A fresh code of 80 bits, as `xxxx-xxxx-xxxx-xxxx`.
pub(super) fn fresh() -> String {
    let mut code = String::with_capacity(LENGTH + LENGTH / GROUP);
    for (place, byte) in rand::random::<[u8; LENGTH]>().into_iter().enumerate() {
        if place > 0 && place % GROUP == 0 {
            code.push('-');
        }
        code.push(char::from(DIGITS[usize::from(byte & 31)]));
    }
    code
}

/// The code as it was given out, whatever hyphens, blanks and letters it was typed with; `None` when it
/// cannot be one.
pub(super) fn read(typed: &str) -> Option<String> {
    let mut code = String::with_capacity(LENGTH);
    for letter in typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
        let letter = match letter.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        };
        let is_digit = u8::try_from(letter).is_ok_and(|byte| DIGITS.contains(&byte));
        if !is_digit || code.len() == LENGTH {
            return None;
        }
        code.push(letter);
    }
    (code.len() == LENGTH).then_some(code)
}

/// What is kept of a code: a text that only this vault can make, and only for this user. Eighty random bits
/// need no slow hash.
pub(super) fn hash(vault: &Vault, user: UserId, code: &str) -> String {
    hex::encode(vault.mac("recovery-code", format!("{user}\n{code}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_all_different_and_read_back() {
        let codes: HashSet<String> = (0..1000).map(|_| fresh()).collect();
        assert_eq!(codes.len(), 1000);
        for code in &codes {
            assert_eq!(read(code), Some(code.replace('-', "")), "{code}");
            assert_eq!(read(&code.to_uppercase().replace('-', " ")), read(code), "{code}");
        }
    }

    #[test]
    fn letters_that_look_alike_are_the_same() {
        assert_eq!(read("OIL0-0000-0000-0000"), Some("0110000000000000".to_owned()));
        for text in [
            "",
            "123456",
            "0000-0000-0000-000",
            "0000-0000-0000-00000",
            "u000-0000-0000-0000",
            "é000-0000-0000-0000",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_hash_belongs_to_one_user_vault_and_code() {
        let (ann, ben, code) = (UserId::fresh(), UserId::fresh(), "0110000000000000");
        let (ours, theirs) = (Vault::of_seed(&[1; 32]), Vault::of_seed(&[2; 32]));
        let one = hash(&ours, ann, code);
        assert_eq!(one, hash(&ours, ann, code));
        for other in [hash(&theirs, ann, code), hash(&ours, ben, code), hash(&ours, ann, "0110000000000001")]
        {
            assert_ne!(one, other);
        }
    }
}
