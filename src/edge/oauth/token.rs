//! Where clients get tokens (RFC 6749, section 3.2): for a code, a refresh token, a device's code, or for
//! themselves.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::{Act, Claims, Origin, SignIn, Subject, Tokens};
use super::super::router::EdgeState;
use super::codes::{self, Shown, Taken, Use};
use super::devices::{self, Heard};
use super::error::{Fault, OAuthError, unkept};
use super::form::{Parameters, Posted};
use super::journey::{Asked, Proof};
use super::{known, person, scope};
use crate::domain::id::SessionId;
use crate::domain::identity::{Actor, Client, GrantType, PermissionSet};

/// What a client gets.
#[derive(Serialize, ToSchema)]
pub(super) struct Given {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds until the access token does not work any more.
    expires_in: u64,
    /// Exchanged for fresh tokens; works once.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// What the tokens may be used for.
    scope: String,
}

/// A request for tokens of a client that is known.
struct Request<'a> {
    state: &'a EdgeState,
    origin: &'a Origin,
    client: Client,
    parameters: &'a Parameters,
}

type Answer = Result<Given, OAuthError>;

fn no_grant(why: &'static str) -> OAuthError {
    OAuthError::new(Fault::InvalidGrant, why)
}

/// Gives tokens to a client.
#[utoipa::path(post, path = "/oauth/token", tag = "oauth", security(()), request_body(content = Object, content_type = "application/x-www-form-urlencoded", description = "`grant_type`, what that needs, and the client"), responses(
    (status = 200, body = Given),
    (status = 400, description = "`error` and `error_description` of RFC 6749"),
    (status = 401, description = "the client is not who it says"),
    (status = 429, description = "too many wrong secrets from this address"),
    (status = 503, description = "the store is away"),
))]
pub(super) async fn token(
    State(state): State<EdgeState>,
    origin: Origin,
    posted: Posted,
) -> Result<Response, OAuthError> {
    let Posted { parameters, headers } = posted;
    let client = known::identify(&state, &origin, (&headers, &parameters)).await?;
    let way = GrantType::named(parameters.need("grant_type")?)
        .ok_or_else(|| OAuthError::new(Fault::UnsupportedGrantType, "there is no such grant_type"))?;
    if !client.uses(way) {
        return Err(OAuthError::new(Fault::UnauthorizedClient, "the client may not get tokens in this way"));
    }
    let request = Request { state: &state, origin: &origin, client, parameters: &parameters };
    let given = match way {
        GrantType::AuthorizationCode => request.by_code().await?,
        GrantType::RefreshToken => request.by_refresh_token().await?,
        GrantType::ClientCredentials => request.for_itself().await?,
        GrantType::DeviceCode => request.by_device().await?,
    };
    Ok(unkept(axum::Json(given).into_response()))
}

impl Request<'_> {
    async fn by_code(&self) -> Answer {
        let text = self.parameters.need("code")?;
        let verifier = self.parameters.need("code_verifier")?;
        let redirect_uri = self.parameters.need("redirect_uri")?;
        let taken = match codes::take(self.state, text).await? {
            Shown::Taken(taken) => *taken,
            Shown::Again(session, code) => return Err(self.replayed(session, &code.asked).await?),
            Shown::Unknown => return Err(no_grant("the code is not known, or too old")),
        };
        let code = &taken.code;
        let fault = if code.asked.client_id != self.client.id {
            Some("the code was given to another client")
        } else if code.redirect_uri != redirect_uri {
            Some("redirect_uri is not the one that the code was sent to")
        } else if !code.challenge.is_answered_by(verifier) {
            Some("code_verifier does not answer the code_challenge")
        } else {
            None
        };
        if let Some(fault) = fault {
            // Somebody has the code who should not: nobody gets anything for it.
            self.note("client.code_refused", &taken.code.asked, fault).await?;
            codes::led_to(self.state, taken, Use::Burnt).await?;
            return Err(no_grant(fault));
        }
        self.exchange(taken).await
    }

    async fn exchange(&self, taken: Taken) -> Answer {
        let (proof, asked) = (taken.code.proof.clone(), taken.code.asked.clone());
        let (session, given) = self.begin(&proof, asked.clone()).await?;
        if codes::led_to(self.state, taken, Use::Led(session)).await? {
            return Ok(given);
        }
        Err(self.replayed(Some(session), &asked).await?)
    }

    /// Ends what a code led to that came again.
    async fn replayed(&self, session: Option<SessionId>, asked: &Asked) -> Result<OAuthError, OAuthError> {
        tracing::warn!(client = %asked.client_id, ip = %self.origin.ip, "a code came again: what it led to ends");
        self.note("client.code_replayed", asked, "it came again").await?;
        if let Some(session) = session {
            let act = Act {
                what: "user.session_ended",
                actor: Actor::Client { id: self.client.id },
                subject: Some(session.to_string()),
                origin: Some(self.origin),
                details: Map::new(),
            };
            self.state.sessions.end(self.state, session, act).await?;
        }
        Ok(no_grant("the code was used before"))
    }

    /// A session of somebody who let this client.
    async fn begin(&self, proof: &Proof, asked: Asked) -> Result<(SessionId, Given), OAuthError> {
        let user = person::unchanged(self.state, proof).await?;
        let user = user.ok_or_else(|| no_grant("the user was changed meanwhile"))?;
        // What the client may ask for at most may have become less since.
        let scopes = asked.scopes.intersection(self.client.scopes);
        let sign_in = SignIn {
            user: &user,
            amr: person::methods(&proof.amr),
            client: Some((self.client.id, scopes)),
            origin: self.origin,
        };
        let (session, tokens) = self.state.sessions.begin_at(self.state, sign_in, proof.at).await?;
        Ok((session, self.given(tokens, scopes)))
    }

    fn given(&self, tokens: Tokens, scopes: PermissionSet) -> Given {
        let Tokens { access_token, token_type, expires_in, refresh_token, .. } = tokens;
        let refresh_token = refresh_token.filter(|_| self.client.uses(GrantType::RefreshToken));
        Given { access_token, token_type, expires_in, refresh_token, scope: scope::write(scopes) }
    }

    async fn by_refresh_token(&self) -> Answer {
        let text = self.parameters.need("refresh_token")?;
        let asked = match self.parameters.get("scope") {
            Some(named) => Some(self.narrower(text, named).await?),
            None => None,
        };
        let client = Some(self.client.id);
        let refreshed = self.state.sessions.refresh(self.state, text, client, self.origin).await;
        let (tokens, _) = refreshed.map_err(OAuthError::from)?;
        let claims = self.state.authority.verify(&tokens.access_token)?;
        let held = claims.scope.unwrap_or_default();
        // What the client may ask for at most may have become less since.
        let scopes = asked.unwrap_or(held).intersection(held).intersection(self.client.scopes);
        if scopes == held {
            return Ok(self.given(tokens, held));
        }
        let narrowed = Claims { scope: Some(scopes), ..Claims::clone(&claims) };
        let access_token = self.state.authority.mint(&narrowed)?;
        Ok(self.given(Tokens { access_token, ..tokens }, scopes))
    }

    /// Less than its session may do; asked before the refresh token is used up.
    async fn narrower(&self, text: &str, named: &str) -> Result<PermissionSet, OAuthError> {
        let found = self.state.sessions.of_token(self.state, text).await?;
        let session = found.map(|found| found.listed.session);
        let session = session.filter(|session| session.client_id == Some(self.client.id));
        let most = session.and_then(|session| session.scope);
        let most = most.ok_or_else(|| no_grant("the refresh token is not usable"))?;
        scope::read(Some(named), most)
    }

    async fn by_device(&self) -> Answer {
        let device_code = self.parameters.need("device_code")?;
        match devices::ask(self.state, device_code, self.client.id).await? {
            Heard::Allowed(proof, asked) => Ok(self.begin(&proof, asked).await?.1),
            Heard::Pending => {
                Err(OAuthError::new(Fault::AuthorizationPending, "the user has not decided yet"))
            }
            Heard::TooSoon => Err(OAuthError::new(Fault::SlowDown, "wait five seconds between two requests")),
            Heard::Denied => Err(OAuthError::new(Fault::AccessDenied, "the user said no")),
            Heard::Unknown => Err(OAuthError::new(Fault::ExpiredToken, "no device waits with this code")),
        }
    }

    async fn for_itself(&self) -> Answer {
        let scopes = scope::read(self.parameters.get("scope"), self.client.scopes)?;
        let life = self.state.settings.access_ttl;
        // A session of no user: its name is what a single token is revoked by.
        let session = SessionId::fresh();
        let claims = Claims {
            client_id: Some(self.client.id),
            sid: Some(session),
            scope: Some(scopes),
            amr: Vec::new(),
            ..self.state.authority.claims(Subject::Client(self.client.id), life)
        };
        // Compared with when the client was last disabled.
        let claims = Claims { epoch: u64::try_from(claims.iat).unwrap_or_default(), ..claims };
        let access_token = self.state.authority.mint(&claims)?;
        let asked = Asked { client_id: self.client.id, scopes };
        self.note("client.signed_in", &asked, &scope::write(scopes)).await?;
        let expires_in = life.0 / 1000;
        Ok(Given {
            access_token,
            token_type: "Bearer",
            expires_in,
            refresh_token: None,
            scope: scope::write(scopes),
        })
    }

    /// Notes what this client did, or tried, with what was asked for.
    async fn note(&self, what: &'static str, asked: &Asked, why: &str) -> Result<(), OAuthError> {
        let mut details = Map::new();
        details.insert("why".to_owned(), Value::from(why));
        let subject = Some(asked.client_id.to_string());
        let actor = Actor::Client { id: self.client.id };
        let act = Act { what, actor, subject, origin: Some(self.origin), details };
        Ok(self.state.trail.note(act).await?)
    }
}
