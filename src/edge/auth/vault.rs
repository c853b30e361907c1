//! The vault: one master secret of a node or cluster, and everything that follows from it.
//!
//! What leaves it is derived under a label, so that no two uses share a key, and nothing that is stored
//! elsewhere is of use to somebody who does not have the master secret.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::error::{ApiError, Code};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("key file {path}: {why}")]
    File {
        /// Where.
        path: String,
        /// Why.
        why: String,
    },
    /// It holds no Ed25519 key.
    #[error("key file {0} holds no Ed25519 key")]
    Content(String),
    /// A signing key cannot be made from what is stored.
    #[error("signing key {0} cannot be made")]
    Signing(String),
}

/// Derives keys from one master secret, and seals with them.
pub struct Vault {
    master: hmac::Key,
}

impl Vault {
    /// Reads the master secret, or makes one that only this user can read. The file holds an Ed25519
    /// key (PKCS #8), whose seed is the secret.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let file =
            |why: std::io::Error| KeyError::File { path: path.display().to_string(), why: why.to_string() };
        let unusable = || KeyError::Content(path.display().to_string());
        let document = match fs::read(path) {
            Ok(document) => document,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Ed25519KeyPair::generate().map_err(|_| unusable())?;
                let document = key.to_pkcs8v1().map_err(|_| unusable())?;
                let mut out = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(file)?;
                out.write_all(document.as_ref()).map_err(file)?;
                document.as_ref().to_vec()
            }
            Err(error) => return Err(file(error)),
        };
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map_err(|_| unusable())?;
        let seed = key.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| unusable())?;
        let seed: &[u8; 32] = seed.as_ref().try_into().map_err(|_| unusable())?;
        Ok(Self::of_seed(seed))
    }

    /// The vault of a master secret: the same on every node that knows it.
    #[must_use]
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self { master: hmac::Key::new(hmac::HMAC_SHA256, seed) }
    }

    /// The key of one use.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        array(&hmac::sign(&self.master, label.as_bytes()))
    }

    /// A code over bytes that only this vault can make: a hash of what is guessable.
    #[must_use]
    pub fn mac(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.derive(label));
        array(&hmac::sign(&key, bytes))
    }

    /// Encrypts something so that only this vault opens it, under the same label (AES-256-GCM).
    ///
    /// # Errors
    /// When there is no randomness, which is a fault of ours.
    pub fn seal(&self, label: &str, open: &[u8]) -> Result<String, ApiError> {
        let key = self.sealing_key(label).ok_or(ApiError::new(Code::Internal))?;
        let mut closed = open.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(label.as_bytes()), &mut closed);
        let nonce = nonce.map_err(|_| ApiError::new(Code::Internal))?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut closed);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Decrypts what was sealed under this label; `None` when it was not, or was changed since.
    #[must_use]
    pub fn open(&self, label: &str, sealed: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, closed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut closed = closed.to_vec();
        let key = self.sealing_key(label)?;
        key.open_in_place(nonce, Aad::from(label.as_bytes()), &mut closed).ok().map(|open| open.to_vec())
    }

    fn sealing_key(&self, label: &str) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.derive(&format!("seal:{label}"))).ok()
    }
}

fn array(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_label_alone() {
        let vault = Vault::of_seed(&[7; 32]);
        let sealed = vault.seal("totp", b"a secret").unwrap();
        assert_eq!(vault.open("totp", &sealed).unwrap(), b"a secret");
        assert_ne!(vault.seal("totp", b"a secret").unwrap(), sealed, "sealed twice, it looks different");
        assert!(vault.open("other", &sealed).is_none());
        assert!(Vault::of_seed(&[8; 32]).open("totp", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(vault.open("totp", &changed).is_none(), "character {at} was changed");
        }
        assert!(vault.open("totp", "").is_none() && vault.open("totp", "AAAA").is_none());
    }

    #[test]
    fn each_label_has_a_key_of_its_own_and_keeps_it() {
        let vault = Vault::of_seed(&[7; 32]);
        assert_eq!(vault.derive("a"), Vault::of_seed(&[7; 32]).derive("a"));
        assert_ne!(vault.derive("a"), vault.derive("b"));
        assert_ne!(vault.mac("a", b"x"), vault.mac("b", b"x"));
        assert_ne!(vault.mac("a", b"x"), vault.mac("a", b"y"));
    }

    #[test]
    fn the_master_secret_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let first = Vault::load_or_create(&path).unwrap().derive("a");
        assert_eq!(Vault::load_or_create(&path).unwrap().derive("a"), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"nonsense").unwrap();
        assert!(matches!(Vault::load_or_create(&path), Err(KeyError::Content(_))));
    }
}
