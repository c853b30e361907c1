//! The service token that opens each connection: a JWT over the cluster's secret.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::node::NodeRef;
use crate::domain::time::{Millis, Timestamp};

/// Whom the tokens are for.
pub(super) const AUDIENCE: &str = "eml-cluster";
/// How long a token is good. It is made when a connection is, and used at once.
pub(super) const LIFE: Millis = Millis::from_secs(30);
/// How far two nodes' clocks may be apart.
pub(super) const LEEWAY: Millis = Millis::from_secs(30);
/// A shorter secret is no secret, in bytes.
pub(super) const SHORTEST_SECRET: usize = 32;

/// Why a token does not show who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not signed with our secret, not for us, or no token at all.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// It is too old.
    #[error("the token has expired")]
    Expired,
    /// It is good for longer than a token may be.
    #[error("the token is good for too long")]
    LivesTooLong,
    /// It cannot be signed, which is a fault of ours.
    #[error("the token cannot be signed: {0}")]
    Unsigned(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Box<str>,
    pub(super) sub: Uuid,
    pub(super) aud: Box<str>,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

/// Makes and checks service tokens.
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Tokens {
    pub(super) fn new(secret: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        // Expiry is checked below, by the clock that the node was given instead of the machine's own.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    /// A token that names this run of a node.
    pub(super) fn mint(&self, at: &NodeRef, now: Timestamp) -> Result<String, TokenError> {
        let claims = Claims {
            iss: at.node.clone(),
            sub: at.incarnation,
            aud: AUDIENCE.into(),
            iat: now.millis() / 1000,
            exp: (now + LIFE).millis() / 1000,
        };
        self.sign(&claims)
    }

    /// Signs claims as they are.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|error| TokenError::Unsigned(error.to_string()))
    }

    /// The run of a node that a token names.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<NodeRef, TokenError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|error| TokenError::Invalid(error.to_string()))?
            .claims;
        let expires = Timestamp::from_millis(claims.exp.saturating_mul(1000));
        if expires + LEEWAY < now {
            return Err(TokenError::Expired);
        }
        if expires > now + LIFE + LEEWAY {
            return Err(TokenError::LivesTooLong);
        }
        Ok(NodeRef { node: claims.iss, incarnation: claims.sub })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn tokens() -> Tokens {
        Tokens::new("0123456789abcdef0123456789abcdef")
    }

    fn at() -> NodeRef {
        NodeRef { node: "a".into(), incarnation: Uuid::from_u128(7) }
    }

    #[test]
    fn a_token_names_its_node_while_it_is_fresh() {
        let token = tokens().mint(&at(), NOW).unwrap();
        assert_eq!(tokens().check(&token, NOW), Ok(at()));
        assert_eq!(tokens().check(&token, NOW + Millis::from_secs(60)), Ok(at()), "clocks may differ a bit");
        assert_eq!(tokens().check(&token, NOW + Millis::from_secs(61)), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_for_others_of_others_or_for_ever_is_refused() {
        let claims = |aud: &str, life: i64| Claims {
            iss: "a".into(),
            sub: Uuid::from_u128(7),
            aud: aud.into(),
            iat: NOW.millis() / 1000,
            exp: NOW.millis() / 1000 + life,
        };
        let elsewhere = tokens().sign(&claims("eml", 30)).unwrap();
        assert!(matches!(tokens().check(&elsewhere, NOW), Err(TokenError::Invalid(_))));
        let long = tokens().sign(&claims(AUDIENCE, 3_600)).unwrap();
        assert_eq!(tokens().check(&long, NOW), Err(TokenError::LivesTooLong));
        let foreign = Tokens::new("another secret, also long enough").mint(&at(), NOW).unwrap();
        assert!(matches!(tokens().check(&foreign, NOW), Err(TokenError::Invalid(_))));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0.";
        assert!(matches!(tokens().check(unsigned, NOW), Err(TokenError::Invalid(_))));
    }
}
