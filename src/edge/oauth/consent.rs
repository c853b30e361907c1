//! The forms of our pages: sign in, second factor, the code of a device, allow or deny. Each comes with the
//! journey that it belongs to, sealed, and with the cookie of the browser that began it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::super::auth::passwords::Password;
use super::super::auth::{Act, Origin, Secret};
use super::super::router::EdgeState;
use super::authorize::{back, back_with, source, unserved};
use super::error::{Fault, OAuthError};
use super::form::{Parameters, Posted};
use super::journey::{Aim, Asked, Journey, Proof, Stage, is_own_form};
use super::pages::{self, Asker, Page, Sheet};
use super::person::{self, Shown};
use super::{codes, devices, known, scope, secret};
use crate::domain::identity::{Actor, Client};
use crate::domain::time::Millis;

/// The span in which wrong codes of devices are counted.
const WINDOW: Millis = Millis::from_secs(60);
/// Wrong codes of devices that one address may type in that span.
const MOST: u64 = 10;

/// A page instead of the next step.
type Step = Result<Response, OAuthError>;

/// One step of somebody through our pages.
struct Walk<'a> {
    state: &'a EdgeState,
    origin: &'a Origin,
    journey: Journey,
}

/// Takes a form of our pages.
#[utoipa::path(post, path = "/oauth/consent", tag = "oauth", security(()), request_body(content = Object, content_type = "application/x-www-form-urlencoded", description = "the fields of our pages"), responses(
    (status = 200, description = "the next page"),
    (status = 303, description = "back to the client"),
    (status = 400, description = "a page: the form is too old, or of another browser"),
    (status = 401, description = "the same page again: login, password or code is wrong"),
    (status = 403, description = "a page: the form is of another site"),
    (status = 429, description = "the same page again: too many tries"),
    (status = 503, description = "a page: the store is away"),
))]
pub(super) async fn step(State(state): State<EdgeState>, origin: Origin, posted: Posted) -> Response {
    let Posted { parameters, headers } = posted;
    if !is_own_form(&headers) {
        return pages::broken("This form was sent from another site.")
            .status(StatusCode::FORBIDDEN)
            .into_response();
    }
    let sealed = parameters.get("journey").unwrap_or_default();
    let now = state.engine.clock().now();
    let Some(journey) = Journey::open(state.authority.vault(), sealed, &headers, now) else {
        return pages::broken("This page is too old, or your browser keeps no cookies.").into_response();
    };
    let walk = Walk { state: &state, origin: &origin, journey };
    walk.step(&parameters).await.unwrap_or_else(|error| unserved(&error).into_response())
}

impl Walk<'_> {
    async fn step(mut self, parameters: &Parameters) -> Step {
        let stage = self.journey.stage.clone();
        match (parameters.get("step").unwrap_or_default(), stage, self.asked().cloned()) {
            ("user_code", Stage::Anonymous, None) => self.user_code(parameters).await,
            ("sign_in", Stage::Anonymous, Some(asked)) => self.sign_in(&asked, parameters).await,
            ("second_factor", Stage::SecondFactor(proof), Some(asked)) => {
                self.second_factor(&asked, proof, parameters).await
            }
            ("allow", Stage::Consent(proof), Some(asked)) => self.allow(asked, proof).await,
            ("deny", stage, Some(_)) => self.deny(&stage).await,
            // A form of ours at another place: the way back of the browser, for one.
            (_, _, _) => Ok(pages::broken("This page was used already.").into_response()),
        }
    }

    fn asked(&self) -> Option<&Asked> {
        match &self.journey.aim {
            Aim::Code { asked, .. } => Some(asked),
            Aim::Device(waiting) => waiting.as_ref().map(|waiting| &waiting.asked),
        }
    }

    async fn client(&self, asked: &Asked) -> Result<Client, OAuthError> {
        let client = known::living(self.state, asked.client_id).await?;
        client.ok_or_else(|| OAuthError::new(Fault::UnauthorizedClient, "The program is not known any more."))
    }

    /// A page of this journey.
    fn page(
        &self,
        client: &Client,
        fault: Option<&str>,
        page: impl FnOnce(Asker<'_>, Sheet<'_>) -> Page,
    ) -> Result<Page, OAuthError> {
        let sealed = self.journey.seal(self.state.authority.vault());
        let sealed = sealed.ok_or_else(|| OAuthError::new(Fault::ServerError, "It cannot go on."))?;
        let user_code = match &self.journey.aim {
            Aim::Device(Some(waiting)) => Some(waiting.user_code.as_str()),
            Aim::Device(None) | Aim::Code { .. } => None,
        };
        let asker = Asker { client: &client.name, user_code };
        let page = page(asker, Sheet { journey: &sealed, fault });
        Ok(page.leading_to(source(&self.journey.aim)))
    }

    async fn user_code(&mut self, parameters: &Parameters) -> Step {
        let typed = parameters.get("user_code").unwrap_or_default();
        let found = match secret::read_user_code(typed) {
            Some(code) => devices::showing(self.state, code).await?,
            None => None,
        };
        if let Some(waiting) = found {
            let client = self.client(&waiting.asked).await?;
            self.journey.aim = Aim::Device(Some(waiting));
            return Ok(self.page(&client, None, pages::sign_in)?.into_response());
        }
        let key = format!("oauth-user-code:{}", self.origin.ip);
        let now = self.state.engine.clock().now();
        let counted = self.state.engine.stores().grants.count(&key, WINDOW, MOST, now).await?;
        if counted.count > MOST {
            return Err(OAuthError::new(Fault::TooMany, "Too many wrong codes. Wait a minute."));
        }
        let sealed = self.journey.seal(self.state.authority.vault()).unwrap_or_default();
        let sheet = Sheet { journey: &sealed, fault: Some("No device shows this code.") };
        Ok(pages::user_code(Some(typed), sheet).status(StatusCode::BAD_REQUEST).into_response())
    }

    async fn sign_in(&mut self, asked: &Asked, parameters: &Parameters) -> Step {
        let client = self.client(asked).await?;
        let login = parameters.get("login").unwrap_or_default();
        let password = Password::new(parameters.get("password").unwrap_or_default().to_owned());
        match person::password(self.state, self.origin, login, password).await {
            Ok(shown) => self.shown(asked, &client, shown).await,
            Err(wrong) => {
                let page = self.page(&client, Some(&wrong.said), pages::sign_in)?;
                Ok(page.status(wrong.status).into_response())
            }
        }
    }

    async fn second_factor(&mut self, asked: &Asked, proof: Proof, parameters: &Parameters) -> Step {
        let client = self.client(asked).await?;
        let code = Secret::new(parameters.get("code").unwrap_or_default().to_owned());
        match person::second_factor(self.state, self.origin, proof, code).await {
            Ok(proof) => self.shown(asked, &client, Shown::Whole(proof)).await,
            Err(wrong) => {
                let page = self.page(&client, Some(&wrong.said), pages::second_factor)?;
                Ok(page.status(wrong.status).into_response())
            }
        }
    }

    /// Goes on when somebody has shown who it is, or a part of it.
    async fn shown(&mut self, asked: &Asked, client: &Client, shown: Shown) -> Step {
        let proof = match shown {
            Shown::Half(proof) => {
                self.journey.stage = Stage::SecondFactor(proof);
                return Ok(self.page(client, None, pages::second_factor)?.into_response());
            }
            Shown::Whole(proof) => proof,
        };
        let Some(user) = person::unchanged(self.state, &proof).await? else {
            return Ok(pages::broken("Your account was changed meanwhile.").into_response());
        };
        let scopes = asked.scopes.intersection(person::permissions(self.state, &user));
        self.journey.stage = Stage::Consent(proof);
        let page = |asker: Asker<'_>, sheet: Sheet<'_>| pages::consent(asker, (&user.login, scopes), sheet);
        Ok(self.page(client, None, page)?.into_response())
    }

    async fn allow(self, asked: Asked, proof: Proof) -> Step {
        let client = self.client(&asked).await?;
        let Some(user) = person::unchanged(self.state, &proof).await? else {
            return Ok(pages::broken("Your account was changed meanwhile.").into_response());
        };
        let scopes = asked.scopes.intersection(person::permissions(self.state, &user));
        if scopes.iter().next().is_none() {
            let error = OAuthError::new(Fault::AccessDenied, "the user may do nothing of what was asked for");
            return self.refuse(&error).await;
        }
        let asked = Asked { scopes, ..asked };
        let actor = Actor::User { id: user.id };
        match self.journey.aim.clone() {
            Aim::Code { redirect_uri, state: given, challenge, .. } => {
                let wanted = (asked.clone(), proof);
                let code = codes::issue(self.state, wanted, redirect_uri.clone(), challenge).await?;
                self.note("client.allowed", actor, &asked).await?;
                let mut told = vec![("code", code.as_str())];
                told.extend(given.as_deref().map(|given| ("state", given)));
                Ok(self.left(back(self.state, &redirect_uri, &told)))
            }
            Aim::Device(waiting) => {
                let Some(waiting) = waiting else {
                    return Ok(pages::broken("No device waits.").into_response());
                };
                if !devices::answer(self.state, &waiting, Some((proof, asked.clone()))).await? {
                    return Ok(pages::broken("The device does not wait any more.").into_response());
                }
                self.note("client.allowed", actor, &asked).await?;
                Ok(self.left(pages::connected(&client.name).into_response()))
            }
        }
    }

    async fn deny(self, stage: &Stage) -> Step {
        let actor = match stage {
            Stage::Consent(proof) => Actor::User { id: proof.user_id },
            // Who has not shown everything is nobody yet.
            Stage::Anonymous | Stage::SecondFactor(_) => Actor::Unknown,
        };
        // Only whoever has signed in speaks for a device: others may have seen its code.
        let is_somebody = matches!(stage, Stage::Consent(_));
        if let (true, Some(asked)) = (is_somebody, self.asked().cloned()) {
            self.note("client.denied", actor, &asked).await?;
        }
        if !is_somebody && matches!(self.journey.aim, Aim::Device(_)) {
            return Ok(self.left(pages::refused().into_response()));
        }
        self.refuse(&OAuthError::new(Fault::AccessDenied, "the user said no")).await
    }

    async fn refuse(self, error: &OAuthError) -> Step {
        match &self.journey.aim {
            Aim::Code { redirect_uri, state: given, .. } => {
                Ok(self.left(back_with(self.state, redirect_uri, given.as_deref(), error)))
            }
            Aim::Device(waiting) => {
                if let Some(waiting) = waiting {
                    devices::answer(self.state, waiting, None).await?;
                }
                Ok(self.left(pages::refused().into_response()))
            }
        }
    }

    async fn note(&self, what: &'static str, actor: Actor, asked: &Asked) -> Result<(), OAuthError> {
        let mut details = Map::new();
        details.insert("scope".to_owned(), Value::from(scope::write(asked.scopes)));
        let subject = Some(asked.client_id.to_string());
        let act = Act { what, actor, subject, origin: Some(self.origin), details };
        Ok(self.state.trail.note(act).await?)
    }

    /// The last answer of a journey: its cookie goes.
    fn left(&self, mut response: Response) -> Response {
        if let Ok(cookie) = self.journey.spent_cookie().parse() {
            response.headers_mut().append(axum::http::header::SET_COOKIE, cookie);
        }
        response
    }
}
