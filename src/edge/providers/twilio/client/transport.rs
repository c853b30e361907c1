//! Sending a request, telling what its answer means, and repeating it where that does no harm.

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::{Form, TwilioClient};
use crate::domain::backoff::Backoff;
use crate::domain::time::Millis;

/// Requests under way at a time; beyond, Twilio answers 429.
pub(super) const CONCURRENCY: usize = 64;
/// Repetitions of a request that may be repeated.
pub(super) const REPETITIONS: usize = 3;
/// Pauses between them.
const PAUSE: Backoff = Backoff { first: Millis(200), factor: 3, longest: Millis(3_000) };
/// Too many requests at once; nothing was done.
const TOO_MANY: u32 = 20_429;
/// The same from something on the way that gives no code of Twilio's.
const TOO_MANY_HTTP: u32 = 429;

/// How a request went.
pub(super) enum Answer {
    /// Done, with the body.
    Done(String),
    /// Refused before anything was done.
    Refused(u32),
    /// Never reached Twilio.
    Unsent,
    /// Nobody knows.
    Unknown,
}

impl Answer {
    /// Whether Twilio surely did nothing, and might the next time.
    const fn did_nothing(&self) -> bool {
        match self {
            Self::Unsent | Self::Refused(TOO_MANY | TOO_MANY_HTTP) => true,
            Self::Done(_) | Self::Refused(_) | Self::Unknown => false,
        }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<u32>,
}

impl TwilioClient {
    /// The address of a resource of the account; the parts are escaped, since they come from outside.
    pub(super) fn url(&self, resource: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Cannot fail: the base has a host.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["2010-04-01", "Accounts", &self.settings.account_sid]);
            if let Some((last, parents)) = resource.split_last() {
                path.extend(parents).push(&format!("{last}.json"));
            }
        }
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let Ok(_slot) = self.slots.acquire().await else { return Answer::Unsent };
        let request = request.basic_auth(&self.settings.account_sid, Some(&self.settings.auth_token));
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Answer::Unsent,
            Err(_) => return Answer::Unknown,
        };
        let status = response.status();
        match response.text().await {
            Ok(body) if status.is_success() => Answer::Done(body),
            // 408 comes from something on the way that gave up waiting.
            Ok(body) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                let code = serde_json::from_str::<ErrorBody>(&body).ok().and_then(|body| body.code);
                Answer::Refused(code.unwrap_or_else(|| u32::from(status.as_u16())))
            }
            Ok(_) | Err(_) => Answer::Unknown,
        }
    }

    /// Sends again, after a pause, while the answer allows it; gives the last answer.
    async fn send_while(
        &self,
        may_repeat: impl Fn(&Answer) -> bool,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Answer {
        let mut answer = self.send(request()).await;
        for repetition in 0..REPETITIONS {
            if !may_repeat(&answer) {
                break;
            }
            pause(repetition).await;
            answer = self.send(request()).await;
        }
        answer
    }

    /// Repeats what did nothing: refused for being too much, or never sent.
    pub(super) async fn send_new(&self, resource: &[&str], form: &Form) -> Answer {
        let request = || self.http.post(self.url(resource)).form(form);
        self.send_while(Answer::did_nothing, request).await
    }

    /// Repeats what may be done twice without harm.
    pub(super) async fn send_change(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Answer {
        let may_repeat = |answer: &Answer| answer.did_nothing() || matches!(answer, Answer::Unknown);
        self.send_while(may_repeat, request).await
    }
}

/// Waits before a repetition, counted from 0.
pub(super) async fn pause(repetition: usize) {
    tokio::time::sleep(PAUSE.jittered(repetition, rand::random()).duration()).await;
}
