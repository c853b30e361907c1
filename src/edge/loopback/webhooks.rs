//! Sending webhooks: signed, retried as the fragment of their URL says, in order per lane.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::form_urlencoded;

use super::chaos::{Fate, Mischief};
use super::lines::Sids;
use super::policy::{Failure, Policy};
use super::settings::CarrierSettings;
use super::stats::{Stats, count};
use super::twiml::{LARGEST, Link};
use crate::edge::providers::twilio::signature::sign;

/// Decoded form fields in the order they are sent.
pub(super) type Form = Vec<(String, String)>;

/// Wait before a repeat, in milliseconds, times the number of the repeat.
const RETRY_PAUSE_MS: u64 = 100;
/// Time for a connection, as the real carrier's default.
const CONNECT_MS: u64 = 5_000;
/// Requests on their way at once: beyond that they wait here instead of opening ever more connections.
const IN_FLIGHT: usize = 512;

/// One webhook with the token that all its tries carry.
#[derive(Clone)]
struct Parcel {
    link: Link,
    form: Arc<Form>,
    token: String,
}

/// Callbacks that leave one after the other.
#[derive(Default)]
pub(super) struct Lane(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    parcels: VecDeque<(Instant, Parcel)>,
    moving: bool,
}

impl Lane {
    /// Adds a parcel; true when somebody has to start moving the lane.
    fn push(&self, due: Instant, parcel: Parcel) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.parcels.push_back((due, parcel));
        !std::mem::replace(&mut waiting.moving, true)
    }

    fn pop(&self) -> Option<(Instant, Parcel)> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.parcels.pop_front();
        waiting.moving = next.is_some();
        next
    }
}

/// Sends webhooks over one keep-alive client.
pub(super) struct Courier {
    client: reqwest::Client,
    auth_token: String,
    public_url: String,
    webhook_base: String,
    sids: Arc<Sids>,
    stats: Arc<Stats>,
    mischief: Arc<Mischief>,
    tracker: TaskTracker,
    stop: CancellationToken,
    in_flight: Semaphore,
}

impl Courier {
    pub(super) fn new(
        settings: &CarrierSettings,
        (sids, stats, mischief): (Arc<Sids>, Arc<Stats>, Arc<Mischief>),
        (tracker, stop): (TaskTracker, CancellationToken),
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent("TwilioProxy/1.1")
            .connect_timeout(Duration::from_millis(CONNECT_MS))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IN_FLIGHT)
            .build()?;
        Ok(Self {
            client,
            auth_token: settings.auth_token.clone(),
            public_url: settings.public_url.trim_end_matches('/').to_owned(),
            webhook_base: settings.webhook_base.trim_end_matches('/').to_owned(),
            sids,
            stats,
            mischief,
            tracker,
            stop,
            in_flight: Semaphore::new(IN_FLIGHT),
        })
    }

    /// Sends a callback, in the order of its lane unless chaos has other plans; does not wait.
    pub(super) fn post(self: &Arc<Self>, lane: &Arc<Lane>, link: &Link, form: Form) {
        let parcel = Parcel { link: link.clone(), form: Arc::new(form), token: self.sids.token() };
        let Fate::Sent { delay, overtaken, again } = self.mischief.callback() else {
            count(&self.stats.webhooks_lost);
            return;
        };
        if let Some(after) = again {
            count(&self.stats.webhooks_doubled);
            self.stray(delay + after, parcel.clone());
        }
        if let Some(behind) = overtaken {
            self.stray(delay + behind, parcel);
        } else if lane.push(Instant::now() + delay, parcel) {
            let (courier, lane) = (Arc::clone(self), Arc::clone(lane));
            self.tracker.spawn(async move {
                while let Some((due, parcel)) = lane.pop() {
                    courier.send_at(due, &parcel).await;
                }
            });
        }
    }

    fn stray(self: &Arc<Self>, after: Duration, parcel: Parcel) {
        let courier = Arc::clone(self);
        let due = Instant::now() + after;
        self.tracker.spawn(async move { courier.send_at(due, &parcel).await });
    }

    async fn send_at(&self, due: Instant, parcel: &Parcel) {
        if due > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return,
            }
        }
        if let Err(failure) = self.deliver(parcel, false).await {
            tracing::debug!(%failure, webhook.url = parcel.link.url, "callback failed");
        }
    }

    /// Asks for a document; the request is finished even when nobody waits for it any more.
    pub(super) async fn fetch(self: &Arc<Self>, link: &Link, form: Form) -> Result<String, Failure> {
        let parcel = Parcel { link: link.clone(), form: Arc::new(form), token: self.sids.token() };
        let courier = Arc::clone(self);
        let request = self.tracker.spawn(async move { courier.deliver(&parcel, true).await });
        request.await.unwrap_or(Err(Failure::ShutDown))
    }

    async fn deliver(&self, parcel: &Parcel, document: bool) -> Result<String, Failure> {
        let (plain, policy) = Policy::split(&parcel.link.url);
        let deadline = Instant::now() + policy.total;
        let mut tries = 0;
        loop {
            let limit = policy.first_byte.min(deadline.saturating_duration_since(Instant::now()));
            let failure = match self.attempt(plain, parcel, limit, document).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            tries += 1;
            let pause = Duration::from_millis(RETRY_PAUSE_MS * u64::from(tries));
            if tries > policy.retries || !policy.covers(failure) || Instant::now() + pause >= deadline {
                count(&self.stats.webhooks_failed);
                return Err(failure);
            }
            count(&self.stats.webhooks_retried);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Err(Failure::ShutDown),
            }
        }
    }

    async fn attempt(
        &self,
        plain: &str,
        parcel: &Parcel,
        limit: Duration,
        document: bool,
    ) -> Result<String, Failure> {
        // A wait for a turn counts as latency: whoever calls would feel it.
        let began = Instant::now();
        let Ok(_turn) = self.in_flight.acquire().await else { return Err(Failure::ShutDown) };
        count(&self.stats.webhooks_sent);
        let request = self.request(plain, parcel);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(limit, request.send()) => outcome,
            () = self.stop.cancelled() => return Err(Failure::ShutDown),
        };
        self.stats.latency.record(began.elapsed());
        let response = outcome.map_err(|_| Failure::Timeout)?.map_err(|error| failure_of(&error))?;
        if !response.status().is_success() {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_xml = kind.is_some_and(|value| value.contains("xml") || value.contains("html"));
        let body = tokio::time::timeout(limit, response.text())
            .await
            .map_err(|_| Failure::Timeout)?
            .map_err(|error| failure_of(&error))?;
        if document && body.len() > LARGEST {
            return Err(Failure::TooLarge);
        }
        if document && !is_xml && !body.trim().is_empty() {
            return Err(Failure::ContentType);
        }
        Ok(body)
    }

    fn request(&self, plain: &str, parcel: &Parcel) -> reqwest::RequestBuilder {
        let encoded =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parcel.form.iter()).finish();
        let request = if parcel.link.get {
            let joint = if plain.contains('?') { '&' } else { '?' };
            let asked = format!("{plain}{joint}{encoded}");
            let signature = sign(&self.auth_token, &asked, &[]);
            self.client.get(self.real_address(&asked)).header("X-Twilio-Signature", signature)
        } else {
            let signature = sign(&self.auth_token, plain, &parcel.form);
            self.client
                .post(self.real_address(plain))
                .header("X-Twilio-Signature", signature)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
                .body(encoded)
        };
        request.header("I-Twilio-Idempotency-Token", &parcel.token)
    }

    /// Where the bytes for a public URL go.
    fn real_address(&self, url: &str) -> String {
        let path =
            url.strip_prefix(&self.public_url).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        path.map_or_else(|| url.to_owned(), |rest| format!("{}{rest}", self.webhook_base))
    }
}

fn failure_of(error: &reqwest::Error) -> Failure {
    if error.is_timeout() && !error.is_connect() { Failure::Timeout } else { Failure::Connect }
}

/// The value of the Basic authentication header for an account.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
