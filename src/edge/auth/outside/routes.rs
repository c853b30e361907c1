//! The way out to an outside provider and back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::super::super::error::{ApiError, Code};
use super::super::super::list::{List, Page};
use super::super::super::request::{Json, Path, Query};
use super::super::super::router::EdgeState;
use super::super::super::users::UserView;
use super::super::factors::{self, FirstFactor, Purpose};
use super::super::{Act, Origin, Secret, SignIn, Tokens};
use super::account;
use super::binding::{Binding, is_bound};
use super::journey::{HandedOver, Journey, Return, fresh, is_challenge};
use super::person::Person;
use super::provider::{Arrival, Departure, OutsideError, OutsideProvider};
use crate::domain::directory::User;
use crate::domain::identity::Actor;

/// A provider as shown to those who want to sign in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderView {
    /// Its name in paths.
    name: String,
    /// What people call it.
    title: String,
    /// Where a sign-in with it begins.
    path: String,
}

/// How a sign-in shall end.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Begin {
    /// The page that gets the user back, as `auth.oidc.NAME.return_urls` lists it. It gets `handoff`, for
    /// `POST /auth/oidc/{provider}/exchange`, or `error`. Without it the callback itself answers with tokens.
    return_to: Option<String>,
    /// The code challenge (RFC 7636, S256) of what that page keeps; needed with `return_to`.
    code_challenge: Option<String>,
}

/// What a provider sends somebody back with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Back {
    /// Which sign-in it is.
    state: Option<String>,
    /// What the person is asked for with.
    #[param(value_type = Option<String>)]
    code: Option<Secret>,
    /// Why there is none.
    error: Option<String>,
    /// Who answers (RFC 9207).
    iss: Option<String>,
}

/// What a page asks with for the tokens of a user who came back to it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    /// What it got.
    #[schema(value_type = String)]
    pub(super) handoff: Secret,
    /// What it kept.
    #[schema(value_type = String)]
    pub(super) code_verifier: Secret,
}

/// What a sign-in leads to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedInOutside {
    #[serde(flatten)]
    tokens: Tokens,
    /// Who signed in.
    user: UserView,
}

/// The outside providers that users can sign in with.
#[utoipa::path(get, path = "/auth/oidc", tag = "auth", security(()), responses((status = 200, body = List<ProviderView>)))]
pub(super) async fn providers(State(state): State<EdgeState>) -> axum::Json<List<ProviderView>> {
    let data = state.outside.all().map(|provider| {
        let name = provider.settings.name.clone();
        let path = format!("/auth/oidc/{name}");
        ProviderView { name, title: provider.settings.title.clone(), path }
    });
    axum::Json(List { data: data.collect(), page: Page::whole() })
}

/// Sends a browser to an outside provider to sign in there.
#[utoipa::path(get, path = "/auth/oidc/{provider}", tag = "auth", security(()), params(("provider" = String, Path), Begin), responses(
    (status = 303, description = "to the provider"), (status = 400, description = "no page of ours, or no challenge"), (status = 404, description = "there is no such provider"),
    (status = 429, description = "too many tries"), (status = 502, description = "the provider does not answer"),
))]
pub(super) async fn begin(
    State(state): State<EdgeState>,
    Path(name): Path<String>,
    Query(query): Query<Begin>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = state.outside.named(&name)?;
    let back = wanted_return(provider, query)?;
    state.throttle.admit_departure(origin.ip, state.engine.clock().now()).await?;
    let name = fresh();
    let departure = provider.departure(&name).await.map_err(|error| told(provider, &error))?;
    let Departure { url, nonce, verifier } = departure;
    let binding = Binding::of(&headers, provider.is_private());
    let provider = provider.settings.name.clone();
    Journey { provider, nonce, verifier, browser: binding.hash(), back }.keep(&state, &name).await?;
    let mut response = redirect(&url)?;
    response.headers_mut().insert(header::SET_COOKIE, binding.cookie()?);
    Ok(response)
}

/// Takes somebody back from an outside provider: answers with tokens, or sends the browser on to the page
/// that asked.
#[utoipa::path(get, path = "/auth/oidc/{provider}/callback", tag = "auth", security(()), params(("provider" = String, Path), Back), responses(
    (status = 200, body = SignedInOutside), (status = 303, description = "to the page that asked"),
    (status = 401, description = "turned down, or a second factor is due"), (status = 403, description = "not asked for by this browser, or nobody here"),
    (status = 404, description = "there is no such provider"), (status = 409, description = "its address is another user's"),
    (status = 410, description = "used, or too old"), (status = 502, description = "the provider does not answer as it should"),
))]
pub(super) async fn callback(
    State(state): State<EdgeState>,
    Path(name): Path<String>,
    Query(back): Query<Back>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = state.outside.named(&name)?;
    let journey = Journey::take(&state, back.state.as_deref().unwrap_or_default()).await?;
    let journey = journey.filter(|journey| journey.provider == provider.settings.name);
    let mut journey = journey.ok_or(ApiError::new(Code::LinkNotUsable))?;
    if !is_bound(&headers, provider.is_private(), &journey.browser) {
        refused(&state, provider, &origin, "another browser").await?;
        return Err(ApiError::new(Code::ForeignRequest).detail("this browser did not ask for it"));
    }
    let page = journey.back.take();
    let person = arrive(&state, provider, (journey, back), &origin).await;
    match (page, person) {
        (Some(page), Ok(person)) => {
            let Return { url, challenge } = page;
            let handoff = HandedOver::keep(&state, &provider.settings.name, person, challenge).await?;
            send_on(&url, ("handoff", &handoff))
        }
        (Some(page), Err(error)) => send_on(&page.url, ("error", error.code().code())),
        (None, Ok(person)) => sign_in(&state, provider, &person, &origin).await,
        (None, Err(error)) => Err(error),
    }
}

/// Exchanges what a page got for the tokens of its user. Works once.
#[utoipa::path(post, path = "/auth/oidc/{provider}/exchange", tag = "auth", security(()), params(("provider" = String, Path)), request_body = Exchange, responses(
    (status = 200, body = SignedInOutside), (status = 401, description = "a second factor is due"),
    (status = 403, description = "nobody here"), (status = 404, description = "there is no such provider"),
    (status = 409, description = "its address is another user's"), (status = 410, description = "used, or too old"),
))]
pub(super) async fn exchange(
    State(state): State<EdgeState>,
    Path(name): Path<String>,
    origin: Origin,
    Json(Exchange { handoff, code_verifier }): Json<Exchange>,
) -> Result<Response, ApiError> {
    let provider = state.outside.named(&name)?;
    let shown = (handoff.expose(), code_verifier.expose());
    let person = HandedOver::take(&state, &provider.settings.name, shown).await?;
    sign_in(&state, provider, &person, &origin).await
}

fn wanted_return(provider: &OutsideProvider, query: Begin) -> Result<Option<Return>, ApiError> {
    let Begin { return_to, code_challenge } = query;
    let bad = |why: &str| ApiError::new(Code::BadFilter).detail(why);
    match (return_to, code_challenge) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(bad("code_challenge needs return_to")),
        (Some(url), _) if !provider.settings.return_urls.contains(&url) => {
            Err(bad("return_to is not one of the provider's return_urls"))
        }
        (Some(url), Some(challenge)) if is_challenge(&challenge) => Ok(Some(Return { url, challenge })),
        (Some(_), _) => Err(bad("return_to needs code_challenge: 32 bytes in base64url")),
    }
}

/// Who came back.
async fn arrive(
    state: &EdgeState,
    provider: &OutsideProvider,
    (journey, back): (Journey, Back),
    origin: &Origin,
) -> Result<Person, ApiError> {
    let Back { code, error, iss, .. } = back;
    let is_from = provider.is_from(iss.as_deref()).await.map_err(|error| told(provider, &error))?;
    if !is_from {
        refused(state, provider, origin, "another issuer").await?;
        return Err(ApiError::new(Code::OutsideProviderFailed).detail("the answer is not the provider's"));
    }
    let code = match (code, error) {
        (Some(code), None) => code,
        (_, Some(error)) => {
            let is_persons = ["access_denied", "login_required", "consent_required", "interaction_required"];
            let is_persons = is_persons.contains(&error.as_str());
            refused(state, provider, origin, if is_persons { "turned down" } else { "provider" }).await?;
            let code = if is_persons { Code::BadCredentials } else { Code::OutsideProviderFailed };
            return Err(ApiError::new(code).detail("the provider let nobody sign in"));
        }
        (None, None) => {
            return Err(ApiError::new(Code::OutsideProviderFailed).detail("there is no code"));
        }
    };
    let Journey { nonce, verifier, .. } = journey;
    let arrival = Arrival { code: code.expose().to_owned(), nonce, verifier };
    match provider.person(arrival).await {
        Ok(person) => Ok(person),
        Err(error) => {
            refused(state, provider, origin, "provider").await?;
            Err(told(provider, &error))
        }
    }
}

/// Signs a person in as its user.
async fn sign_in(
    state: &EdgeState,
    provider: &OutsideProvider,
    person: &Person,
    origin: &Origin,
) -> Result<Response, ApiError> {
    let user = match account::resolve(state, provider, person, origin).await {
        Ok(user) if user.enabled => user,
        Ok(_) => {
            refused(state, provider, origin, "disabled").await?;
            return Err(ApiError::new(Code::BadCredentials));
        }
        Err(error) => {
            refused(state, provider, origin, error.code().code()).await?;
            return Err(error);
        }
    };
    let is_strong = provider.settings.trust_second_factor && person.is_strong;
    let amr = if is_strong {
        vec!["ext", "mfa"]
    } else {
        factors::complete(state, &user, Purpose::sign_in(FirstFactor::Outside), None, origin).await?
    };
    tracing::info!(user = %user.id, ip = %origin.ip, provider = provider.settings.name, "signed in");
    let sign_in = SignIn { user: &user, amr, client: None, origin };
    let tokens = state.sessions.begin(state, sign_in).await?;
    Ok(signed_in(state, &user, tokens))
}

fn signed_in(state: &EdgeState, user: &User, tokens: Tokens) -> Response {
    let agent_id = state.engine.directory().agent_of(user.id).map(|agent| agent.id);
    let body = SignedInOutside { tokens, user: UserView::of(user, agent_id) };
    (private(), axum::Json(body)).into_response()
}

/// Notes that somebody was not let in.
async fn refused(
    state: &EdgeState,
    provider: &OutsideProvider,
    origin: &Origin,
    why: &str,
) -> Result<(), ApiError> {
    let name = provider.settings.name.as_str();
    tracing::warn!(ip = %origin.ip, provider = name, why, "sign-in refused");
    let details =
        [("provider", name), ("why", why)].map(|(name, value)| (name.to_owned(), Value::from(value)));
    let details: Map<_, _> = details.into_iter().collect();
    let act = Act {
        what: "user.login_failed",
        actor: Actor::Unknown,
        subject: None,
        origin: Some(origin),
        details,
    };
    state.trail.note(act).await
}

/// A fault of a provider as it is answered; the log has more of it than whoever wants to sign in.
fn told(provider: &OutsideProvider, error: &OutsideError) -> ApiError {
    tracing::warn!(provider = provider.settings.name, %error, "outside provider failed");
    let why = match error {
        OutsideError::Unreachable(_) => "the provider does not answer as it should",
        OutsideError::Refused(_) => "the provider does not take the code",
        OutsideError::Unbelievable(_) => "the provider's answer does not hold",
    };
    ApiError::new(Code::OutsideProviderFailed).detail(why)
}

fn private() -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

fn redirect(url: &Url) -> Result<Response, ApiError> {
    let place = HeaderValue::from_str(url.as_str()).map_err(|_| ApiError::new(Code::Internal))?;
    Ok((StatusCode::SEE_OTHER, private(), [(header::LOCATION, place)]).into_response())
}

/// Sends the browser to a page of ours with one parameter.
fn send_on(page: &str, parameter: (&str, &str)) -> Result<Response, ApiError> {
    let mut url = Url::parse(page).map_err(|_| ApiError::new(Code::Internal))?;
    url.query_pairs_mut().append_pair(parameter.0, parameter.1);
    redirect(&url)
}

/// All outside providers, by name.
#[derive(Default)]
pub struct OutsideProviders(Vec<Arc<OutsideProvider>>);

impl OutsideProviders {
    /// These.
    #[must_use]
    pub const fn new(providers: Vec<Arc<OutsideProvider>>) -> Self {
        Self(providers)
    }

    fn all(&self) -> impl Iterator<Item = &OutsideProvider> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(super) fn named(&self, name: &str) -> Result<&OutsideProvider, ApiError> {
        self.all().find(|provider| provider.settings.name == name).ok_or(ApiError::new(Code::NotFound))
    }
}
