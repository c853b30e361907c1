//! A provider that answers whatever a test wants, with signatures good and bad.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use eml::domain::time::Clock;
use serde_json::{Value, json};

use super::stand::SECRET;

/// What an id token is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    /// The key that is published.
    Own,
    /// A key that is not.
    Other,
    /// HMAC with the client's secret.
    ClientSecret,
    /// HMAC with the bytes of the published key.
    PublicKey,
    /// Nothing.
    Nobody,
}

/// What is wrong with an answer beside its id token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    NoIdToken,
    Failure,
    NoJson,
    TooLong,
    Elsewhere,
    BadAccessToken,
}

/// What the provider answers.
#[derive(Clone)]
pub(super) struct Script {
    pub header: Value,
    pub claims: Value,
    pub user_info: Value,
    pub signer: Signer,
    /// Changes the finished token.
    pub spoil: fn(String) -> String,
    pub answer: Answer,
}

struct Inner {
    issuer: String,
    key: Mutex<(Ed25519KeyPair, String)>,
    other: Ed25519KeyPair,
    script: Mutex<Option<Script>>,
}

/// The provider.
#[derive(Clone)]
pub(super) struct Forger(Arc<Inner>);

const ACCESS_TOKEN: &str = "an-access-token";

impl Forger {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = || Ed25519KeyPair::generate().unwrap();
        let inner = Inner {
            issuer,
            key: Mutex::new((key(), "one".to_owned())),
            other: key(),
            script: Mutex::default(),
        };
        let forger = Self(Arc::new(inner));
        let router = axum::Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/elsewhere", get(elsewhere).post(elsewhere))
            .route("/userinfo", get(user_info))
            .with_state(forger.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        forger
    }

    pub(super) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// A new key, under a new name.
    pub(super) fn rotate(&self, kid: &str) {
        *self.0.key.lock().unwrap() = (Ed25519KeyPair::generate().unwrap(), kid.to_owned());
    }

    /// An answer that is right in everything, for a sign-in with this nonce.
    pub(super) fn good(&self, nonce: &str) -> Script {
        let now = Clock.now().millis() / 1000;
        let half = &digest(&SHA512, ACCESS_TOKEN.as_bytes()).as_ref()[..32].to_vec();
        let kid = self.0.key.lock().unwrap().1.clone();
        Script {
            header: json!({ "alg": "EdDSA", "kid": kid, "typ": "JWT" }),
            claims: json!({
                "iss": self.0.issuer, "sub": "ann-1", "aud": "eml", "exp": now + 300, "iat": now,
                "nonce": nonce, "at_hash": BASE64.encode(half), "groups": ["desk"],
            }),
            user_info: json!({ "sub": "ann-1", "email": "ann@example.org", "email_verified": true }),
            signer: Signer::Own,
            spoil: |token| token,
            answer: Answer::Good,
        }
    }

    pub(super) fn answers(&self, script: Script) {
        *self.0.script.lock().unwrap() = Some(script);
    }

    fn id_token(&self, script: &Script) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&script.header), part(&script.claims));
        let message = signed.as_bytes();
        let mac =
            |secret: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec();
        let key = self.0.key.lock().unwrap();
        let signature = match script.signer {
            Signer::Own => key.0.sign(message).as_ref().to_vec(),
            Signer::Other => self.0.other.sign(message).as_ref().to_vec(),
            Signer::ClientSecret => mac(SECRET.as_bytes()),
            Signer::PublicKey => mac(key.0.public_key().as_ref()),
            Signer::Nobody => Vec::new(),
        };
        (script.spoil)(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

async fn discovery(State(Forger(inner)): State<Forger>) -> axum::Json<Value> {
    let issuer = &inner.issuer;
    axum::Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
        "userinfo_endpoint": format!("{issuer}/userinfo"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn keys(State(Forger(inner)): State<Forger>) -> axum::Json<Value> {
    let key = inner.key.lock().unwrap();
    let x = BASE64.encode(key.0.public_key().as_ref());
    axum::Json(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": key.1, "x": x }] }))
}

/// Tokens that would do, where nobody should ask for them.
async fn elsewhere(State(forger): State<Forger>) -> axum::Json<Value> {
    axum::Json(tokens(&forger, &forger.0.script.lock().unwrap().clone().unwrap()))
}

fn tokens(forger: &Forger, script: &Script) -> Value {
    json!({
        "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 60,
        "id_token": forger.id_token(script),
    })
}

async fn token(State(forger): State<Forger>) -> Response {
    let script = forger.0.script.lock().unwrap().clone().unwrap();
    let mut answer = tokens(&forger, &script);
    match script.answer {
        Answer::Good => axum::Json(answer).into_response(),
        Answer::NoIdToken => {
            answer.as_object_mut().unwrap().remove("id_token");
            axum::Json(answer).into_response()
        }
        Answer::Failure => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Answer::NoJson => ([(header::CONTENT_TYPE, "application/json")], "<html>").into_response(),
        Answer::TooLong => {
            answer["padding"] = "x".repeat(600 * 1024).into();
            axum::Json(answer).into_response()
        }
        Answer::Elsewhere => {
            (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")], Body::empty()).into_response()
        }
        Answer::BadAccessToken => {
            answer["access_token"] = "two\nlines".into();
            axum::Json(answer).into_response()
        }
    }
}

async fn user_info(State(Forger(inner)): State<Forger>) -> axum::Json<Value> {
    axum::Json(inner.script.lock().unwrap().as_ref().unwrap().user_info.clone())
}
