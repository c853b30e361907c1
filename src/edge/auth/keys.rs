//! Tokens: JWTs signed with Ed25519 (RFC 8037), the algorithm fixed by the key.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::super::error::{ApiError, Code};
use super::Caller;
use crate::domain::directory::Role;
use crate::domain::id::{AgentId, RequestId, UserId};
use crate::domain::time::{Clock, Millis};

/// Whom tokens are for.
const AUDIENCE: &str = "eml";

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Requests.
    Access,
    /// Getting a fresh token.
    Refresh,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    agent: Option<AgentId>,
    #[serde(rename = "use")]
    purpose: Use,
    iat: i64,
    exp: i64,
    jti: String,
}

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
}

/// Makes and checks tokens.
pub struct Authority {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    issuer: String,
}

impl Authority {
    /// Reads the signing key, or makes one that only this user can read.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load_or_create(path: &Path, issuer: &str) -> Result<Self, KeyError> {
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
        Self::of_document(&document, issuer).ok_or_else(unusable)
    }

    /// The signing key that a seed leads to: the same on every node that knows it.
    ///
    /// # Errors
    /// When no key can be made of it.
    pub fn of_seed(seed: &[u8; 32], issuer: &str) -> Result<Self, KeyError> {
        let unusable = || KeyError::Content("of the cluster".to_owned());
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| unusable())?;
        let document = key.to_pkcs8v1().map_err(|_| unusable())?;
        Self::of_document(document.as_ref(), issuer).ok_or_else(unusable)
    }

    fn of_document(document: &[u8], issuer: &str) -> Option<Self> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).ok()?;
        let public = key.public_key().as_ref();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(hex::encode(&digest::digest(&digest::SHA256, public).as_ref()[..8]));
        Some(Self {
            encoding: EncodingKey::from_ed_der(document),
            decoding: DecodingKey::from_ed_der(public),
            header,
            issuer: issuer.to_owned(),
        })
    }

    /// A token for a caller.
    ///
    /// # Errors
    /// When signing fails, which is a fault of ours.
    pub fn mint(&self, caller: &Caller, purpose: Use, life: Millis) -> Result<String, ApiError> {
        let now = Clock.now();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: caller.user_id,
            role: caller.role,
            agent: caller.agent_id,
            purpose,
            iat: now.millis() / 1000,
            exp: (now + life).millis() / 1000,
            jti: RequestId::fresh().to_string(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding).map_err(|error| {
            tracing::error!(%error, "token cannot be signed");
            ApiError::new(Code::Internal)
        })
    }

    /// The caller behind an access token.
    ///
    /// # Errors
    /// When it is not one of ours, or too old.
    pub fn caller_from_bearer(&self, token: &str) -> Result<Caller, ApiError> {
        self.check(token, Use::Access)
    }

    /// The caller behind a token of this purpose.
    ///
    /// # Errors
    /// When it is not one of ours, or too old.
    pub fn check(&self, token: &str, purpose: Use) -> Result<Caller, ApiError> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        validation.leeway = 0;
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        let token = decoded.map_err(|error| {
            let is_old = matches!(error.kind(), ErrorKind::ExpiredSignature);
            ApiError::new(if is_old { Code::TokenExpired } else { Code::NoToken })
        })?;
        let claims = token.claims;
        if claims.purpose != purpose {
            return Err(ApiError::new(Code::NoToken));
        }
        Ok(Caller { user_id: claims.sub, role: claims.role, agent_id: claims.agent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(&folder.path().join("key"), "eml").unwrap();
        (folder, authority)
    }

    fn ann() -> Caller {
        Caller { user_id: UserId::fresh(), role: Role::Agent, agent_id: Some(AgentId::fresh()) }
    }

    #[test]
    fn a_token_tells_its_caller_until_it_expires() {
        let (_folder, authority) = authority();
        let token = authority.mint(&ann(), Use::Access, Millis::from_secs(60)).unwrap();
        assert!(authority.caller_from_bearer(&token).is_ok());
        let old = authority.mint(&ann(), Use::Access, Millis(0)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(authority.caller_from_bearer(&old).unwrap_err().code(), Code::TokenExpired);
    }

    #[test]
    fn tokens_of_others_and_for_other_uses_are_refused() {
        let (_folder, ours) = authority();
        let (_other_folder, theirs) = authority();
        let foreign = theirs.mint(&ann(), Use::Access, Millis::from_secs(60)).unwrap();
        let refresh = ours.mint(&ann(), Use::Refresh, Millis::from_secs(60)).unwrap();
        for token in [foreign.as_str(), refresh.as_str(), "nonsense", ""] {
            assert_eq!(ours.caller_from_bearer(token).unwrap_err().code(), Code::NoToken);
        }
        assert!(ours.check(&refresh, Use::Refresh).is_ok());
    }

    #[test]
    fn the_key_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let token = Authority::load_or_create(&path, "eml")
            .unwrap()
            .mint(&ann(), Use::Access, Millis::from_secs(60))
            .unwrap();
        assert!(Authority::load_or_create(&path, "eml").unwrap().caller_from_bearer(&token).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
