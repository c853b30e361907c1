//! Where a client sends its user's browser (RFC 6749, section 3.1). What is wrong is told to the client by
//! way of the browser only when the client and its address are known to belong together; else a page says
//! so, and the browser goes nowhere.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::router::EdgeState;
use super::error::{Fault, OAuthError, unkept};
use super::form::Parameters;
use super::journey::{Aim, Asked, Journey};
use super::pages::{self, Asker, Page, Sheet};
use super::pkce::Challenge;
use super::{known, redirect, scope};
use crate::domain::id::ClientId;
use crate::domain::identity::Client;

/// Longest state of a client, in bytes: it travels through every page.
const LONGEST_STATE: usize = 2048;

/// Why a browser goes no further.
enum Stop {
    /// Said on a page: nobody knows whether the address is the client's.
    Page(Page),
    /// Told to the client.
    Back { redirect_uri: String, state: Option<String>, error: OAuthError },
}

impl From<OAuthError> for Stop {
    fn from(error: OAuthError) -> Self {
        Self::Page(unserved(&error))
    }
}

/// The page for an error that is nobody's fault before the screen.
pub(super) fn unserved(error: &OAuthError) -> Page {
    let status = error.clone().into_response().status();
    pages::broken(&error.description).status(status)
}

/// Sends the browser back to a client. 303: what was posted to us is not posted there.
pub(super) fn back(state: &EdgeState, redirect_uri: &str, told: &[(&str, &str)]) -> Response {
    let issuer = [("iss", super::issuer(state))];
    let told: Vec<_> = told.iter().copied().chain(issuer).collect();
    let location = redirect::with(redirect_uri, &told).and_then(|uri| HeaderValue::from_str(&uri).ok());
    let Some(location) = location else { return pages::broken("Its address is not usable.").into_response() };
    let mut response = unkept(StatusCode::SEE_OTHER.into_response());
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Tells a client by way of the browser what went wrong.
pub(super) fn back_with(
    state: &EdgeState,
    redirect_uri: &str,
    given: Option<&str>,
    error: &OAuthError,
) -> Response {
    let mut told = vec![("error", error.fault.word()), ("error_description", &*error.description)];
    told.extend(given.map(|given| ("state", given)));
    back(state, redirect_uri, &told)
}

/// Asks a user to sign in and to let a client.
#[utoipa::path(get, path = "/oauth/authorize", tag = "oauth", security(()), params(
    ("response_type" = String, Query, description = "`code`"),
    ("client_id" = String, Query),
    ("redirect_uri" = String, Query, description = "one that is registered, byte by byte"),
    ("scope" = Option<String>, Query, description = "names of permissions; all of the client's when absent"),
    ("state" = Option<String>, Query),
    ("code_challenge" = String, Query),
    ("code_challenge_method" = String, Query, description = "`S256`"),
), responses(
    (status = 200, description = "a page to sign in"),
    (status = 303, description = "back to the client with an error"),
    (status = 400, description = "a page: the client or its address is not known"),
    (status = 503, description = "a page: the store is away"),
))]
pub(super) async fn authorize(State(state): State<EdgeState>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::read(query.unwrap_or_default().as_bytes());
    match validated(&state, &parameters).await {
        Ok((client, aim)) => begin(&state, &client, aim),
        Err(Stop::Page(page)) => page.into_response(),
        Err(Stop::Back { redirect_uri, state: given, error }) => {
            back_with(&state, &redirect_uri, given.as_deref(), &error)
        }
    }
}

/// The first page.
fn begin(state: &EdgeState, client: &Client, aim: Aim) -> Response {
    let leads_to = source(&aim);
    let (journey, cookie) = Journey::begin(aim, state.engine.clock().now());
    let Some(sealed) = journey.seal(state.authority.vault()) else {
        return pages::broken("It cannot be begun.")
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
    };
    let asker = Asker { client: &client.name, user_code: None };
    let sheet = Sheet { journey: &sealed, fault: None };
    pages::sign_in(asker, sheet).leading_to(leads_to).cookie(cookie).into_response()
}

/// Where the forms of a journey may lead at its end.
pub(super) fn source(aim: &Aim) -> Option<String> {
    match aim {
        Aim::Code { redirect_uri, .. } => redirect::policy_source(redirect_uri),
        Aim::Device(_) => None,
    }
}

async fn validated(state: &EdgeState, parameters: &Parameters) -> Result<(Client, Aim), Stop> {
    let page = |why| Stop::Page(pages::broken(why));
    if matches!(parameters.doubled(), Some("client_id" | "redirect_uri")) {
        return Err(page("The request names a client or an address twice."));
    }
    let id = parameters.get("client_id").and_then(|id| id.parse::<ClientId>().ok());
    let client = match id {
        Some(id) => known::living(state, id).await.map_err(OAuthError::from)?,
        None => None,
    };
    let client = client.ok_or_else(|| page("The program that sent you here is not known."))?;
    let redirect_uri = parameters.get("redirect_uri").unwrap_or_default();
    if !redirect::is_registered(&client.redirect_uris, redirect_uri) {
        return Err(page("The program that sent you here named an address that is not its own."));
    }
    let given = parameters.get("state").map(ToOwned::to_owned);
    let is_long = given.as_ref().is_some_and(|given| given.len() > LONGEST_STATE);
    let given = given.filter(|_| !is_long);
    let asked = if is_long {
        Err(OAuthError::new(Fault::InvalidRequest, "state is too long"))
    } else {
        asked(&client, parameters)
    };
    match asked {
        Ok((asked, challenge)) => {
            let redirect_uri = redirect_uri.to_owned();
            Ok((client, Aim::Code { asked, redirect_uri, state: given, challenge }))
        }
        Err(error) => Err(Stop::Back { redirect_uri: redirect_uri.to_owned(), state: given, error }),
    }
}

/// What a known client asks for.
fn asked(client: &Client, parameters: &Parameters) -> Result<(Asked, Challenge), OAuthError> {
    let wrong = |why| OAuthError::new(Fault::InvalidRequest, why);
    if parameters.doubled().is_some() {
        return Err(wrong("a parameter came twice"));
    }
    if parameters.get("request").is_some() {
        return Err(OAuthError::new(Fault::RequestNotSupported, "request objects are not read"));
    }
    if parameters.get("request_uri").is_some() {
        return Err(OAuthError::new(Fault::RequestUriNotSupported, "request objects are not read"));
    }
    if parameters.need("response_type")? != "code" {
        return Err(OAuthError::new(Fault::UnsupportedResponseType, "response_type must be code"));
    }
    if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(wrong("response_mode must be query"));
    }
    // Absent means plain (RFC 7636): whoever takes the parameters out of a request gets no weaker code.
    if parameters.need("code_challenge_method")? != "S256" {
        return Err(wrong("code_challenge_method must be S256"));
    }
    let challenge = Challenge::parse(parameters.need("code_challenge")?)
        .ok_or_else(|| wrong("code_challenge must be a SHA-256 in base64url"))?;
    let scopes = scope::read(parameters.get("scope"), client.scopes)?;
    if parameters.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "none")) {
        return Err(OAuthError::new(Fault::LoginRequired, "every request asks the user"));
    }
    Ok((Asked { client_id: client.id, scopes }, challenge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{Permission, PermissionSet, command_line};

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn a_request_that_asks_for_less_safety_is_refused() {
        let client = Client { scopes: PermissionSet::NONE.with(Permission::CallsRead), ..command_line() };
        let fine = format!("response_type=code&code_challenge={CHALLENGE}&code_challenge_method=S256");
        let asked_for = |query: &str| asked(&client, &Parameters::read(query.as_bytes()));
        let (what, _) = asked_for(&fine).unwrap();
        assert_eq!(what.scopes, client.scopes, "all of the client's scopes when none is named");
        let rows = [
            ("no proof", "response_type=code".to_owned(), Fault::InvalidRequest),
            (
                "a proof without method",
                format!("response_type=code&code_challenge={CHALLENGE}"),
                Fault::InvalidRequest,
            ),
            ("a plain proof", fine.replace("S256", "plain"), Fault::InvalidRequest),
            ("a short proof", fine.replace(CHALLENGE, "abc"), Fault::InvalidRequest),
            ("a token at once", fine.replace("type=code", "type=token"), Fault::UnsupportedResponseType),
            ("both at once", fine.replace("type=code", "type=code%20token"), Fault::UnsupportedResponseType),
            ("no type", fine.replace("response_type=code&", ""), Fault::InvalidRequest),
            ("an answer behind the #", format!("{fine}&response_mode=fragment"), Fault::InvalidRequest),
            ("a signed request", format!("{fine}&request=x"), Fault::RequestNotSupported),
            ("a request elsewhere", format!("{fine}&request_uri=https://x"), Fault::RequestUriNotSupported),
            ("too much", format!("{fine}&scope=users:write"), Fault::InvalidScope),
            ("something else", format!("{fine}&scope=openid"), Fault::InvalidScope),
            ("no page", format!("{fine}&prompt=none"), Fault::LoginRequired),
            ("two scopes", format!("{fine}&scope=calls:read&scope=own"), Fault::InvalidRequest),
        ];
        for (why, query, fault) in rows {
            assert_eq!(asked_for(&query).err().map(|error| error.fault), Some(fault), "{why}");
        }
    }
}
