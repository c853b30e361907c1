//! Ordering Twilio to do something about legs, by its REST API of 2010-04-01.

mod search;
mod transport;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use self::transport::Answer;
use super::links::{BadPublicUrl, Links};
use crate::actors::ports::Carrier;
use crate::domain::address::Address;
use crate::domain::call::{CarrierOrder, OrderResult};
use crate::domain::id::{AttemptId, CallId, LegId};
use crate::domain::time::Millis;
use crate::telemetry::{Metrics, ProviderResult};

/// Time to set up a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for a whole request.
const WHOLE: Duration = Duration::from_secs(10);
/// The code of a refusal that is ours: Twilio could not be reached at all.
const UNREACHED: u32 = 0;
/// Longest time that a phone may ring, in seconds.
const LONGEST_RING: u64 = 600;
/// The call is not in a state that allows the change.
const WRONG_STATE: u32 = 21_220;
/// There is no such thing.
const UNKNOWN: u32 = 20_404;

/// What is needed to speak with an account.
#[derive(Clone)]
pub struct TwilioSettings {
    /// Name of the provider section.
    pub name: String,
    /// The account.
    pub account_sid: String,
    /// Its secret.
    pub auth_token: String,
    /// The secret that will replace it.
    pub auth_token_next: Option<String>,
    /// Where the API is.
    pub api_base: String,
    /// Where Twilio reaches us.
    pub public_url: String,
    /// New calls per second; 0 = no limit. The excess waits.
    pub calls_per_second: u32,
}

impl fmt::Debug for TwilioSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwilioSettings")
            .field("name", &self.name)
            .field("account_sid", &self.account_sid)
            .field("api_base", &self.api_base)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// The public URL is of no use.
    #[error(transparent)]
    PublicUrl(#[from] BadPublicUrl),
    /// The address of the API is no URL with a host.
    #[error("api_base must be an http or https URL")]
    ApiBase,
    /// The HTTP client cannot be made.
    #[error("http client: {0}")]
    Http(String),
}

/// A client of one account.
pub struct TwilioClient {
    settings: TwilioSettings,
    links: Links,
    http: reqwest::Client,
    base: Url,
    slots: Semaphore,
    /// When the next new call may be placed.
    next_place: Mutex<Instant>,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct CallBody {
    sid: Box<str>,
}

type Form = Vec<(&'static str, String)>;

impl TwilioClient {
    /// A client for an account.
    ///
    /// # Errors
    /// When the public URL is one that Twilio refuses, or the API's address is none.
    pub fn new(settings: TwilioSettings, metrics: Metrics) -> Result<Self, BadSettings> {
        let links = Links::new(&settings.public_url, &settings.name)?;
        let base = Url::parse(&settings.api_base).ok().filter(Url::has_host);
        let base = base.ok_or(BadSettings::ApiBase)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .tcp_nodelay(true)
            // A redirected POST would be sent a second time.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| BadSettings::Http(error.to_string()))?;
        let slots = Semaphore::new(transport::CONCURRENCY);
        Ok(Self { settings, links, http, base, slots, next_place: Mutex::new(Instant::now()), metrics })
    }

    async fn change(&self, resource: &[&str], form: &Form) -> OrderResult {
        let answer = self.send_change(|| self.http.post(self.url(resource)).form(form)).await;
        match answer {
            Answer::Done(_) => OrderResult::Done { provider_id: None },
            Answer::Refused(404 | UNKNOWN) => OrderResult::NotFound,
            Answer::Refused(code) => OrderResult::Refused { code },
            Answer::Unsent | Answer::Unknown => OrderResult::InDoubt,
        }
    }

    /// Places a leg. A request whose answer was lost is never sent again: it would ring twice.
    async fn place(&self, form: Form) -> OrderResult {
        self.wait_for_turn().await;
        match self.send_new(&["Calls"], &form).await {
            Answer::Done(body) => match serde_json::from_str::<CallBody>(&body) {
                Ok(call) => OrderResult::Done { provider_id: Some(call.sid) },
                Err(_) => OrderResult::InDoubt,
            },
            Answer::Refused(code) => OrderResult::Refused { code },
            Answer::Unsent => OrderResult::Refused { code: UNREACHED },
            Answer::Unknown => OrderResult::InDoubt,
        }
    }

    /// New calls are spread so that Twilio does not queue them where we cannot see it.
    async fn wait_for_turn(&self) {
        let Some(gap) = Duration::from_secs(1).checked_div(self.settings.calls_per_second) else { return };
        let turn = {
            let mut next = self.next_place.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + gap;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    async fn end(&self, provider_id: &str, answered: bool) -> OrderResult {
        let resource = ["Calls", provider_id];
        let status = |word: &str| vec![("Status", word.to_owned())];
        if !answered {
            match self.change(&resource, &status("canceled")).await {
                // It was answered in the meantime, or is over.
                OrderResult::Refused { code: WRONG_STATE } => {}
                OrderResult::NotFound => return OrderResult::Done { provider_id: None },
                settled @ (OrderResult::Done { .. } | OrderResult::Refused { .. } | OrderResult::InDoubt) => {
                    return settled;
                }
            }
        }
        match self.change(&resource, &status("completed")).await {
            OrderResult::Refused { code: WRONG_STATE } | OrderResult::NotFound => {
                OrderResult::Done { provider_id: None }
            }
            settled @ (OrderResult::Done { .. } | OrderResult::Refused { .. } | OrderResult::InDoubt) => {
                settled
            }
        }
    }

    async fn hold(&self, call_id: CallId, room: Box<str>, provider_id: &str, held: bool) -> OrderResult {
        let room = match self.room_id(room).await {
            Ok(room) => room,
            Err(without) => return without,
        };
        let mut form = vec![("Hold", held.to_string())];
        if held {
            form.push(("HoldUrl", self.links.hold(call_id)));
            form.push(("HoldMethod", "POST".to_owned()));
        }
        self.change(&["Conferences", &room, "Participants", provider_id], &form).await
    }

    fn place_form(
        &self,
        (call_id, leg_id, attempt): (CallId, LegId, AttemptId),
        (to, from): (&Address, &Address),
        ring: Millis,
    ) -> Form {
        let mut form = vec![
            ("To", to.to_string()),
            ("From", from.to_string()),
            ("Url", self.links.agent(call_id, leg_id, attempt)),
            ("Method", "POST".to_owned()),
            ("FallbackUrl", self.links.fallback(call_id)),
            ("FallbackMethod", "POST".to_owned()),
            ("StatusCallback", self.links.status(call_id, leg_id, attempt)),
            ("StatusCallbackMethod", "POST".to_owned()),
            ("Timeout", ring.0.div_ceil(1000).clamp(1, LONGEST_RING).to_string()),
        ];
        let events = ["initiated", "ringing", "answered", "completed"];
        form.extend(events.map(|event| ("StatusCallbackEvent", event.to_owned())));
        form
    }
}

#[async_trait]
impl Carrier for TwilioClient {
    async fn carry_out(&self, call_id: CallId, leg_id: LegId, order: CarrierOrder) -> OrderResult {
        let (operation, result) = match order {
            CarrierOrder::Place { attempt, to, from, ring } => {
                let form = self.place_form((call_id, leg_id, attempt), (&to, &from), ring);
                ("place", self.place(form).await)
            }
            CarrierOrder::Find { to, from, placed_at } => ("find", self.find(&to, &from, placed_at).await),
            CarrierOrder::Check { provider_id } => ("check", self.check(&provider_id).await),
            CarrierOrder::End { provider_id, answered } => ("end", self.end(&provider_id, answered).await),
            CarrierOrder::Hold { provider_id, room, held } => {
                ("hold", self.hold(call_id, room, &provider_id, held).await)
            }
            CarrierOrder::Redirect { provider_id } => {
                let form = vec![("Url", self.links.next(call_id)), ("Method", "POST".to_owned())];
                ("redirect", self.change(&["Calls", &provider_id], &form).await)
            }
        };
        let counted = match &result {
            OrderResult::Done { .. } => ProviderResult::Done,
            OrderResult::Refused { .. } | OrderResult::NotFound => ProviderResult::Refused,
            OrderResult::InDoubt => ProviderResult::InDoubt,
        };
        self.metrics.provider_request(&self.settings.name, operation, counted);
        result
    }
}
