//! One outside provider: its discovery document and keys, where people are sent, and who comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType,
    CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalProviderMetadata, AuthType, AuthorizationCode,
    ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, DiscoveryError, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IdToken, IdTokenClaims, IdTokenFields, IssuerUrl,
    LocalizedClaim, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, ProviderMetadata,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse,
    StandardTokenResponse, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

use super::person::{OtherClaims, Person, is_second_factor};
use super::transport::{Transport, TransportError};
use crate::domain::identity::RoleName;
use crate::domain::time::Clock;

/// How long a discovery document and its keys are used before they are read again.
const FRESH: Duration = Duration::from_hours(1);
/// How old keys must be for a token with an unknown one to have them read again.
const KEYS_OLD: Duration = Duration::from_secs(1);
/// How long a provider that did not answer is not asked again, so that nobody waits in line for it.
const REST: Duration = Duration::from_secs(2);
/// How far the provider's clock may be ahead of ours, in seconds.
const CLOCKS_APART: i64 = 60;
/// Longest id of a person, in bytes (`OpenID` Connect Core 1.0, section 2).
const LONGEST_SUBJECT: usize = 255;

/// Signatures that are taken: those of key pairs. Everybody who knows the client's secret could make others.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What of a discovery document the library has no name for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Extras {
    /// Whether answers name their issuer (RFC 9207).
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Extras {}

type Metadata = ProviderMetadata<
    Extras,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
type IdFields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Answer = StandardTokenResponse<IdFields, CoreTokenType>;
type Refusal = StandardErrorResponse<CoreErrorResponseType>;
type Token =
    IdToken<OtherClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type IdClaims = IdTokenClaims<OtherClaims, CoreGenderClaim>;
type UserInfo = UserInfoClaims<OtherClaims, CoreGenderClaim>;
type Client = openidconnect::Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    Refusal,
    Answer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What is known of a provider from its configuration section.
#[derive(Clone)]
pub struct OutsideSettings {
    /// Name of the section.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Its issuer.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Our secret there, if we have one.
    pub client_secret: Option<String>,
    /// What it sends people back to.
    pub redirect_url: String,
    /// Scopes besides `openid`.
    pub scopes: Vec<String>,
    /// The claim with the groups of a person, if any.
    pub roles_claim: Option<String>,
    /// Which group gives which role.
    pub roles: Vec<(String, RoleName)>,
    /// Roles of everybody it brings.
    pub default_roles: Vec<RoleName>,
    /// Whether somebody who is not known becomes a user.
    pub create_users: bool,
    /// Whether a verified e-mail address leads to the user who has it.
    pub link_by_email: bool,
    /// Whether a second factor shown there counts here.
    pub trust_second_factor: bool,
    /// Pages that a sign-in may end at.
    pub return_urls: Vec<String>,
}

/// Why a provider did not say who somebody is.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutsideError {
    /// It does not answer, or not as it should.
    #[error("the provider does not answer as it should: {0}")]
    Unreachable(String),
    /// It does not take the code.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// It answers something that must not be believed.
    #[error("the provider's answer does not hold: {0}")]
    Unbelievable(String),
}

/// Where somebody is sent, and what must be kept until the answer comes.
pub(super) struct Departure {
    /// There.
    pub(super) url: Url,
    /// What proves that an id token was made for this sign-in.
    pub(super) nonce: String,
    /// What proves that whoever redeems the code is who asked for it (RFC 7636).
    pub(super) verifier: String,
}

/// A code, and what was kept since somebody was sent away.
pub(super) struct Arrival {
    /// What came with the person.
    pub(super) code: String,
    /// What was kept.
    pub(super) nonce: String,
    /// What was kept.
    pub(super) verifier: String,
}

struct Known {
    client: Client,
    names_issuer: bool,
    read_at: Instant,
}

#[derive(Default)]
struct Knowledge {
    known: Option<Arc<Known>>,
    failed: Option<(Instant, String)>,
}

/// One outside provider. Nothing is asked of it before somebody wants to sign in with it.
pub struct OutsideProvider {
    /// Its section.
    pub settings: OutsideSettings,
    transport: Transport,
    knowledge: Mutex<Knowledge>,
}

impl OutsideProvider {
    /// A provider that nothing is known of yet.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(settings: OutsideSettings) -> Result<Self, reqwest::Error> {
        Ok(Self { settings, transport: Transport::new()?, knowledge: Mutex::default() })
    }

    /// Whether nobody on the way can read what people bring back.
    pub(super) fn is_private(&self) -> bool {
        self.settings.redirect_url.starts_with("https://")
    }

    /// Where to send somebody who wants to sign in.
    pub(super) async fn departure(&self, state: &str) -> Result<Departure, OutsideError> {
        let known = self.known(FRESH).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let state = CsrfToken::new(state.to_owned());
        let request = known.client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || state,
            Nonce::new_random,
        );
        let scopes = self.settings.scopes.iter().cloned().map(Scope::new);
        let (url, _, nonce) = request.add_scopes(scopes).set_pkce_challenge(challenge).url();
        Ok(Departure { url, nonce: nonce.secret().clone(), verifier: verifier.into_secret() })
    }

    /// Whether an answer comes from this provider, by the issuer that it names (RFC 9207): who has several
    /// providers must not take a code of one to another.
    pub(super) async fn is_from(&self, issuer: Option<&str>) -> Result<bool, OutsideError> {
        match issuer {
            Some(issuer) => Ok(issuer == self.settings.issuer),
            None => Ok(!self.known(FRESH).await?.names_issuer),
        }
    }

    /// Who came back with a code.
    pub(super) async fn person(&self, arrival: Arrival) -> Result<Person, OutsideError> {
        let Arrival { code, nonce, verifier } = arrival;
        let known = self.known(FRESH).await?;
        let request = known.client.exchange_code(AuthorizationCode::new(code));
        let request = request.map_err(|_| unreachable("it has no token endpoint"))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request.request_async(&self.transport).await.map_err(of_token_error)?;
        let token = answer.id_token().ok_or_else(|| unbelievable("there is no id token"))?;
        let (known, claims) = self.claims(known, token, &Nonce::new(nonce)).await?;
        check_access_token(&known, token, claims, answer.access_token())?;
        let subject = claims.subject().as_str();
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
            return Err(unbelievable("sub must have 1 to 255 bytes"));
        }
        let more = self.user_info(&known, claims, answer.access_token()).await?;
        Ok(self.person_of(claims, more.as_ref()))
    }

    /// The claims of an id token that holds. A key that is not known may be a new one.
    async fn claims<'t>(
        &self,
        known: Arc<Known>,
        token: &'t Token,
        nonce: &Nonce,
    ) -> Result<(Arc<Known>, &'t IdClaims), OutsideError> {
        match verified(&known, token, nonce) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let known = self.known(KEYS_OLD).await?;
                let claims = verified(&known, token, nonce).map_err(of_claims_error)?;
                Ok((known, claims))
            }
            claims => Ok((known, claims.map_err(of_claims_error)?)),
        }
    }

    /// What the id token does not tell, where it can be had.
    async fn user_info(
        &self,
        known: &Known,
        claims: &IdClaims,
        token: &AccessToken,
    ) -> Result<Option<UserInfo>, OutsideError> {
        let is_missing = |claim: &String| claims.additional_claims().groups(claim).is_none();
        let has_groups = !self.settings.roles_claim.as_ref().is_some_and(is_missing);
        if has_groups && claims.email().is_some() && claims.name().is_some() {
            return Ok(None);
        }
        // The library cannot put anything else into a header.
        if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unbelievable("the access token is none"));
        }
        let Ok(request) = known.client.user_info(token.clone(), Some(claims.subject().clone())) else {
            return Ok(None);
        };
        request.request_async(&self.transport).await.map(Some).map_err(of_user_info_error)
    }

    fn person_of(&self, claims: &IdClaims, more: Option<&UserInfo>) -> Person {
        let verified = |email: Option<&openidconnect::EndUserEmail>, is_verified: Option<bool>| {
            email.filter(|_| is_verified == Some(true)).map(|email| email.as_str().to_owned())
        };
        let own = verified(claims.email(), claims.email_verified());
        let asked = || more.and_then(|more| verified(more.email(), more.email_verified()));
        let login = claims.preferred_username().or_else(|| more?.preferred_username());
        let name = claims.name().or_else(|| more?.name());
        let methods = claims.auth_method_refs().into_iter().flatten();
        let groups = self.settings.roles_claim.as_ref().and_then(|claim| {
            let asked = || more?.additional_claims().groups(claim);
            claims.additional_claims().groups(claim).or_else(asked)
        });
        Person {
            issuer: self.settings.issuer.clone(),
            subject: claims.subject().as_str().to_owned(),
            verified_email: own.or_else(asked),
            preferred_login: login.map(|login| login.as_str().to_owned()),
            name: name.and_then(any_language).map(|name| name.as_str().to_owned()),
            groups,
            is_strong: is_second_factor(methods.map(|method| method.as_str())),
        }
    }

    /// The discovery document and keys, not older than this.
    async fn known(&self, oldest: Duration) -> Result<Arc<Known>, OutsideError> {
        // One reads, the others wait for what it finds.
        let mut knowledge = self.knowledge.lock().await;
        if let Some(known) = knowledge.known.as_ref().filter(|known| known.read_at.elapsed() < oldest) {
            return Ok(known.clone());
        }
        if let Some((at, why)) = &knowledge.failed
            && at.elapsed() < REST
        {
            return Err(OutsideError::Unreachable(why.clone()));
        }
        match self.discover().await {
            Ok(known) => {
                let known = Arc::new(known);
                *knowledge = Knowledge { known: Some(known.clone()), failed: None };
                Ok(known)
            }
            Err(why) => {
                knowledge.failed = Some((Instant::now(), why.clone()));
                Err(OutsideError::Unreachable(why))
            }
        }
    }

    async fn discover(&self) -> Result<Known, String> {
        let settings = &self.settings;
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?;
        let redirect = RedirectUrl::new(settings.redirect_url.clone()).map_err(|error| error.to_string())?;
        let found = Metadata::discover_async(issuer, &self.transport).await.map_err(of_discovery_error)?;
        let names_issuer = found.additional_metadata().authorization_response_iss_parameter_supported;
        let methods = found.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_some_and(|methods| methods.contains(&method));
        let in_body =
            takes(CoreClientAuthMethod::ClientSecretPost) && !takes(CoreClientAuthMethod::ClientSecretBasic);
        let secret = settings.client_secret.clone().map(ClientSecret::new);
        let client = Client::from_provider_metadata(found, ClientId::new(settings.client_id.clone()), secret)
            .set_redirect_uri(redirect)
            .set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth });
        tracing::info!(provider = settings.name, "outside provider was found");
        Ok(Known { client, names_issuer, read_at: Instant::now() })
    }
}

/// Checks signature and claims.
fn verified<'t>(
    known: &Known,
    token: &'t Token,
    nonce: &Nonce,
) -> Result<&'t IdClaims, ClaimsVerificationError> {
    let now = || {
        let seconds = Clock.now().millis() / 1000;
        chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    };
    let verifier = known.client.id_token_verifier().set_allowed_algs(ALGORITHMS);
    // Another audience could take the token that it got to us.
    let verifier = verifier.set_other_audience_verifier_fn(|_| false).set_time_fn(now);
    let verifier = verifier.set_issue_time_verifier_fn(move |made: chrono::DateTime<chrono::Utc>| {
        let is_past = made.timestamp() <= now().timestamp() + CLOCKS_APART;
        if is_past { Ok(()) } else { Err("it was made in the future".to_owned()) }
    });
    let claims = token.claims(&verifier, nonce)?;
    match claims.authorized_party() {
        Some(party) if party != known.client.client_id() => {
            Err(ClaimsVerificationError::InvalidAudience("it was made for another party".to_owned()))
        }
        Some(_) | None => Ok(claims),
    }
}

/// Whether the access token is the one that came with the id token, where that says so.
fn check_access_token(
    known: &Known,
    token: &Token,
    claims: &IdClaims,
    access_token: &AccessToken,
) -> Result<(), OutsideError> {
    let Some(wanted) = claims.access_token_hash() else { return Ok(()) };
    let verifier = known.client.id_token_verifier();
    let algorithm = token.signing_alg().map_err(|error| unbelievable(error.to_string()))?;
    let key = token.signing_key(&verifier).map_err(|error| unbelievable(error.to_string()))?;
    let found = AccessTokenHash::from_token(access_token, algorithm, key);
    let found = found.map_err(|error| unbelievable(error.to_string()))?;
    if found == *wanted { Ok(()) } else { Err(unbelievable("the access token is another")) }
}

/// A claim in the language that the provider takes first.
fn any_language<T>(claim: &LocalizedClaim<T>) -> Option<&T> {
    claim.get(None).or_else(|| claim.iter().next().map(|(_, text)| text))
}

fn unreachable(why: impl Into<String>) -> OutsideError {
    OutsideError::Unreachable(why.into())
}

fn unbelievable(why: impl Into<String>) -> OutsideError {
    OutsideError::Unbelievable(why.into())
}

// What cannot be read is not told further: it may hold a token.

fn of_discovery_error(error: DiscoveryError<TransportError>) -> String {
    match error {
        DiscoveryError::Request(error) => error.to_string(),
        DiscoveryError::Response(_, _, why)
        | DiscoveryError::Validation(why)
        | DiscoveryError::Other(why) => why,
        DiscoveryError::Parse(error) => format!("its documents cannot be read at {}", error.path()),
        DiscoveryError::UrlParse(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn of_token_error(error: RequestTokenError<TransportError, Refusal>) -> OutsideError {
    match error {
        RequestTokenError::ServerResponse(refusal) => OutsideError::Refused(refusal.error().to_string()),
        RequestTokenError::Request(error) => unreachable(error.to_string()),
        RequestTokenError::Parse(error, _) => {
            unbelievable(format!("tokens cannot be read at {}", error.path()))
        }
        RequestTokenError::Other(why) => unreachable(why),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others of the library are told in its words")]
fn of_claims_error(error: ClaimsVerificationError) -> OutsideError {
    let why = match error {
        ClaimsVerificationError::Expired(_) => "the id token has expired".to_owned(),
        ClaimsVerificationError::InvalidNonce(_) => "the id token is of another sign-in".to_owned(),
        ClaimsVerificationError::InvalidAudience(_) => "the id token is for another client".to_owned(),
        ClaimsVerificationError::InvalidIssuer(_) => "the id token is of another issuer".to_owned(),
        ClaimsVerificationError::SignatureVerification(error) => {
            format!("the id token's signature: {error}")
        }
        error => error.to_string(),
    };
    unbelievable(why)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others of the library are told in its words")]
fn of_user_info_error(error: UserInfoError<TransportError>) -> OutsideError {
    match error {
        UserInfoError::ClaimsVerification(_) => unbelievable("user info is of somebody else"),
        UserInfoError::Parse(error) => unbelievable(format!("user info cannot be read at {}", error.path())),
        UserInfoError::Request(error) => unreachable(error.to_string()),
        UserInfoError::Response(status, _, _) => unreachable(format!("user info: {status}")),
        error => unreachable(error.to_string()),
    }
}
