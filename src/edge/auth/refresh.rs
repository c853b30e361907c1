//! Refresh tokens: `sid_….<generation>.<secret>`.
//!
//! The secret is half chance and half a code over the rest that only our vault can make. So a token that
//! was never given out is told from one that was used before, and knowing a session's id is not enough to
//! end it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use super::vault::Vault;
use crate::domain::id::SessionId;

/// Bytes of each half of the secret.
const HALF: usize = 16;
/// Longest token that is looked at, in bytes.
const LONGEST: usize = 128;

/// A refresh token that is one of ours.
pub(super) struct RefreshToken {
    pub(super) session: SessionId,
    pub(super) generation: u64,
    secret: [u8; 2 * HALF],
}

impl RefreshToken {
    /// The next token of a session.
    pub(super) fn fresh(vault: &Vault, session: SessionId, generation: u64) -> Self {
        let chance: [u8; HALF] = rand::random();
        let mut secret = [0; 2 * HALF];
        secret[..HALF].copy_from_slice(&chance);
        secret[HALF..].copy_from_slice(&code(vault, session, generation, &chance));
        Self { session, generation, secret }
    }

    /// Reads a token; `None` when this vault did not make it.
    pub(super) fn read(vault: &Vault, text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (session, rest) = text.split_once('.')?;
        let (generation, secret) = rest.split_once('.')?;
        let session = session.parse().ok()?;
        let generation: u64 = generation.parse().ok()?;
        let secret: [u8; 2 * HALF] = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        let (chance, shown) = secret.split_at(HALF);
        let is_ours: bool = code(vault, session, generation, chance).ct_eq(shown).into();
        let token = Self { session, generation, secret };
        // One token has one text: `+1` and `01` are numbers too.
        (is_ours && token.text() == text).then_some(token)
    }

    pub(super) fn text(&self) -> String {
        format!("{}.{}.{}", self.session, self.generation, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// What is stored of it.
    pub(super) fn hash(&self) -> String {
        hex::encode(digest(&SHA256, &self.secret))
    }

    pub(super) fn matches(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

fn code(vault: &Vault, session: SessionId, generation: u64, chance: &[u8]) -> [u8; HALF] {
    let mut signed = format!("{session}.{generation}.").into_bytes();
    signed.extend_from_slice(chance);
    let mut code = [0; HALF];
    code.copy_from_slice(&vault.mac("refresh token", &signed)[..HALF]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_own_vault_alone_and_not_when_changed() {
        let vault = Vault::of_seed(&[1; 32]);
        let token = RefreshToken::fresh(&vault, SessionId::fresh(), 7);
        let text = token.text();
        let read = RefreshToken::read(&vault, &text).unwrap();
        assert!((read.session, read.generation) == (token.session, 7) && read.matches(&token.hash()));
        assert!(RefreshToken::read(&Vault::of_seed(&[2; 32]), &text).is_none());
        for at in 0..text.len() {
            for letter in ['0', '1', 'A', '.', '-', ' '] {
                let mut changed: Vec<char> = text.chars().collect();
                changed[at] = letter;
                let changed: String = changed.into_iter().collect();
                assert!(changed == text || RefreshToken::read(&vault, &changed).is_none(), "{changed}");
            }
        }
        let (session, rest) = text.split_once('.').unwrap();
        let secret = rest.split_once('.').unwrap().1;
        for generation in ["8", "07", "+7", " 7", "7 ", "", "-7", "18446744073709551616"] {
            let forged = format!("{session}.{generation}.{secret}");
            assert!(RefreshToken::read(&vault, &forged).is_none(), "{forged}");
        }
    }
}
