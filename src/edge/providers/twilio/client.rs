//! Ordering Twilio to do something about legs, by its REST API of 2010-04-01.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::links::{BadPublicUrl, Links};
use crate::actors::ports::Carrier;
use crate::domain::address::Address;
use crate::domain::backoff::Backoff;
use crate::domain::call::{CarrierOrder, OrderResult};
use crate::domain::id::{AttemptId, CallId, LegId};
use crate::domain::time::{Millis, Timestamp};
use crate::telemetry::{Metrics, ProviderResult};

/// Requests under way at a time; beyond, Twilio answers 429.
const CONCURRENCY: usize = 64;
/// Time to set up a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for a whole request.
const WHOLE: Duration = Duration::from_secs(10);
/// Tries of a request that may be repeated.
const TRIES: usize = 4;
/// Pauses between them.
const PAUSE: Backoff = Backoff { first: Millis(200), factor: 3, longest: Millis(3_000) };
/// Searches for a leg in doubt: its list is only in time consistent.
const SEARCHES: usize = 4;
/// Pages of a search that are read at most.
const PAGES: usize = 5;
/// How far Twilio's clock may be behind ours when a leg is looked for.
const CLOCK_SLACK: Millis = Millis::from_secs(5);
/// Too many requests at once; nothing was done.
const TOO_MANY: u32 = 20_429;
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
    /// The HTTP client cannot be made.
    #[error("http client: {0}")]
    Http(String),
}

/// A client of one account.
pub struct TwilioClient {
    settings: TwilioSettings,
    links: Links,
    http: reqwest::Client,
    slots: Semaphore,
    /// When the next new call may be placed.
    next_place: Mutex<Instant>,
    metrics: Metrics,
}

/// How a request went.
enum Answer {
    /// Done, with the body.
    Done(String),
    /// Refused before anything was done.
    Refused(u32),
    /// Never reached Twilio.
    Unsent,
    /// Nobody knows.
    Unknown,
}

#[derive(Deserialize)]
struct CallBody {
    sid: Box<str>,
}

#[derive(Deserialize)]
struct CallList {
    calls: Vec<ListedCall>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct ListedCall {
    sid: Box<str>,
    status: String,
    start_time: Option<String>,
    date_created: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<u32>,
}

type Form = Vec<(&'static str, String)>;

impl TwilioClient {
    /// A client for an account.
    ///
    /// # Errors
    /// When the public URL is one that Twilio refuses.
    pub fn new(settings: TwilioSettings, metrics: Metrics) -> Result<Self, BadSettings> {
        let links = Links::new(&settings.public_url, &settings.name)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| BadSettings::Http(error.to_string()))?;
        let slots = Semaphore::new(CONCURRENCY);
        Ok(Self { settings, links, http, slots, next_place: Mutex::new(Instant::now()), metrics })
    }

    fn url(&self, resource: &str) -> String {
        let base = self.settings.api_base.trim_end_matches('/');
        format!("{base}/2010-04-01/Accounts/{}/{resource}.json", self.settings.account_sid)
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
            Ok(body) if status.is_client_error() => {
                let code = serde_json::from_str::<ErrorBody>(&body).ok().and_then(|body| body.code);
                Answer::Refused(code.unwrap_or_else(|| u32::from(status.as_u16())))
            }
            Ok(_) | Err(_) => Answer::Unknown,
        }
    }

    /// Repeats what did nothing: refused for being too much, or never sent.
    async fn send_new(&self, resource: &str, form: &Form) -> Answer {
        for attempt in 0..TRIES {
            let answer = self.send(self.http.post(self.url(resource)).form(form)).await;
            match answer {
                Answer::Unsent | Answer::Refused(TOO_MANY | 429) => pause(attempt).await,
                Answer::Done(_) | Answer::Refused(_) | Answer::Unknown => return answer,
            }
        }
        Answer::Unsent
    }

    /// Repeats what may be done twice without harm.
    async fn send_change(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Answer {
        for attempt in 0..TRIES {
            let answer = self.send(request()).await;
            match answer {
                Answer::Unsent | Answer::Unknown | Answer::Refused(TOO_MANY | 429) => pause(attempt).await,
                Answer::Done(_) | Answer::Refused(_) => return answer,
            }
        }
        Answer::Unknown
    }

    async fn change(&self, resource: &str, form: &Form) -> OrderResult {
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
        match self.send_new("Calls", &form).await {
            Answer::Done(body) => match serde_json::from_str::<CallBody>(&body) {
                Ok(call) => OrderResult::Done { provider_id: Some(call.sid) },
                Err(_) => OrderResult::InDoubt,
            },
            Answer::Refused(code) => OrderResult::Refused { code },
            Answer::Unsent => OrderResult::Refused { code: 0 },
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

    async fn find(&self, to: &Address, from: &Address, placed_at: Timestamp) -> OrderResult {
        let mut last = OrderResult::InDoubt;
        for attempt in 0..SEARCHES {
            pause(attempt).await;
            last = self.search(to, from, placed_at).await;
            if matches!(last, OrderResult::Done { .. }) {
                return last;
            }
        }
        last
    }

    async fn search(&self, to: &Address, from: &Address, placed_at: Timestamp) -> OrderResult {
        let earliest = placed_at - CLOCK_SLACK;
        let query = [
            ("To", to.to_string()),
            ("From", from.to_string()),
            ("StartTime>", earliest.date().format("%Y-%m-%d").to_string()),
        ];
        let mut page = None;
        for _ in 0..PAGES {
            let answer = match &page {
                None => self.send_change(|| self.http.get(self.url("Calls")).query(&query)).await,
                Some(url) => self.send_change(|| self.http.get(url)).await,
            };
            let Answer::Done(body) = answer else { return OrderResult::InDoubt };
            let Ok(list) = serde_json::from_str::<CallList>(&body) else { return OrderResult::InDoubt };
            if let Some(call) = list.calls.iter().find(|call| call.may_be(earliest)) {
                return OrderResult::Done { provider_id: Some(call.sid.clone()) };
            }
            match list.next_page_uri {
                Some(uri) => page = Some(format!("{}{uri}", self.settings.api_base.trim_end_matches('/'))),
                None => return OrderResult::NotFound,
            }
        }
        OrderResult::InDoubt
    }

    /// Whether a leg still lives.
    async fn check(&self, provider_id: &str) -> OrderResult {
        #[derive(Deserialize)]
        struct Status {
            status: String,
        }
        match self.send_change(|| self.http.get(self.url(&format!("Calls/{provider_id}")))).await {
            Answer::Done(body) => match serde_json::from_str::<Status>(&body) {
                Ok(call) if is_living(&call.status) => OrderResult::Done { provider_id: None },
                Ok(_) => OrderResult::NotFound,
                Err(_) => OrderResult::InDoubt,
            },
            Answer::Refused(404 | UNKNOWN) => OrderResult::NotFound,
            Answer::Refused(code) => OrderResult::Refused { code },
            Answer::Unsent | Answer::Unknown => OrderResult::InDoubt,
        }
    }

    async fn end(&self, provider_id: &str, answered: bool) -> OrderResult {
        let resource = format!("Calls/{provider_id}");
        let status = |word: &str| vec![("Status", word.to_owned())];
        if !answered {
            let canceled = self.change(&resource, &status("canceled")).await;
            // Refused: it was answered in the meantime, or is over.
            if canceled != (OrderResult::Refused { code: WRONG_STATE }) {
                return canceled;
            }
        }
        let completed = self.change(&resource, &status("completed")).await;
        let is_over = matches!(completed, OrderResult::Refused { code: WRONG_STATE } | OrderResult::NotFound);
        if is_over { OrderResult::Done { provider_id: None } } else { completed }
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
            ("Timeout", ring.0.div_ceil(1000).max(1).to_string()),
        ];
        let events = ["initiated", "ringing", "answered", "completed"];
        form.extend(events.map(|event| ("StatusCallbackEvent", event.to_owned())));
        form
    }
}

impl ListedCall {
    /// Whether this may be the leg that was placed: it lives, and is not older.
    fn may_be(&self, earliest: Timestamp) -> bool {
        let lives = is_living(&self.status);
        let told = self.start_time.as_ref().or(self.date_created.as_ref());
        let since = told.and_then(|text| Timestamp::from_rfc2822(text));
        lives && since.is_none_or(|since| since >= earliest)
    }
}

fn is_living(status: &str) -> bool {
    matches!(status, "queued" | "initiated" | "ringing" | "in-progress")
}

async fn pause(attempt: usize) {
    tokio::time::sleep(PAUSE.jittered(attempt, rand::random()).duration()).await;
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
                let mut form = vec![("Hold", held.to_string())];
                if held {
                    form.push(("HoldUrl", self.links.hold(call_id)));
                    form.push(("HoldMethod", "POST".to_owned()));
                }
                let resource = format!("Conferences/{room}/Participants/{provider_id}");
                ("hold", self.change(&resource, &form).await)
            }
            CarrierOrder::Redirect { provider_id } => {
                let form = vec![("Url", self.links.next(call_id)), ("Method", "POST".to_owned())];
                ("redirect", self.change(&format!("Calls/{provider_id}"), &form).await)
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
