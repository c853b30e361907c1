//! The carrier against a small receiver that plays the engine, over real sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::edge::providers::twilio::signature::sign;

mod chaos;
mod conference;
mod documents;
mod voicemail;

const ACCOUNT: &str = "ACce9220c61815beca5e30c0390e14e7c3";
const TOKEN: &str = "token-of-the-account";
const PUBLIC: &str = "https://eml.example.org";
const NUMBER: &str = "+12025550100";
const CALLER: &str = "+12025550143";
const PATIENCE: Duration = Duration::from_secs(5);

/// One request that the receiver got.
#[derive(Clone, Debug)]
struct Got {
    method: Method,
    path: String,
    query: String,
    form: Vec<(String, String)>,
    token: String,
}

impl Got {
    fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Plays the engine: documents by path, a list of what came in, failures on demand.
#[derive(Default)]
struct Engine {
    documents: Mutex<HashMap<String, String>>,
    failing: Mutex<HashMap<String, u32>>,
    got: Mutex<Vec<Got>>,
    forged: Mutex<Vec<String>>,
    news: Notify,
}

impl Engine {
    fn answers(&self, path: &str, verbs: &str) {
        let document = format!("<?xml version=\"1.0\"?><Response>{verbs}</Response>");
        self.documents.lock().unwrap().insert(path.to_owned(), document);
    }

    fn fails(&self, path: &str, times: u32) {
        self.failing.lock().unwrap().insert(path.to_owned(), times);
    }

    fn got(&self, path: &str) -> Vec<Got> {
        self.got.lock().unwrap().iter().filter(|got| got.path == path).cloned().collect()
    }

    /// The conference events seen so far, with the leg each is about.
    fn events(&self) -> Vec<String> {
        self.got("/conference").iter().map(|got| got.field("StatusCallbackEvent").to_owned()).collect()
    }

    /// The statuses reported to a path for one leg, in order of arrival.
    fn statuses(&self, path: &str, sid: &str) -> Vec<String> {
        let about = self.got(path).into_iter().filter(|got| got.field("CallSid") == sid);
        about.map(|got| got.field("CallStatus").to_owned()).collect()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let news = self.news.notified();
                if is_so(self) {
                    return;
                }
                news.await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "never saw {what}; got {:#?}",
            self.got
                .lock()
                .unwrap()
                .iter()
                .map(|got| (&got.path, got.field("CallStatus").to_owned() + got.field("StatusCallbackEvent")))
                .collect::<Vec<_>>()
        );
    }

    fn all_signatures_were_right(&self) {
        assert_eq!(*self.forged.lock().unwrap(), Vec::<String>::new());
    }
}

async fn receive(
    State(engine): State<Arc<Engine>>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let signed = format!("{PUBLIC}{}", uri.path_and_query().unwrap());
    if header("x-twilio-signature") != sign(TOKEN, &signed, &form) {
        engine.forged.lock().unwrap().push(signed);
    }
    let path = uri.path().to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    let token = header("i-twilio-idempotency-token");
    engine.got.lock().unwrap().push(Got { method, path: path.clone(), query, form, token });
    engine.news.notify_waiters();
    if let Some(left) = engine.failing.lock().unwrap().get_mut(&path).filter(|left| **left > 0) {
        *left -= 1;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let document = engine.documents.lock().unwrap().get(&path).cloned();
    document.map_or_else(
        || StatusCode::NO_CONTENT.into_response(),
        |text| ([("content-type", "text/xml")], text).into_response(),
    )
}

/// A carrier in front of a receiver.
struct World {
    engine: Arc<Engine>,
    carrier: Carrier,
    client: reqwest::Client,
}

impl World {
    async fn start() -> Self {
        Self::start_with(Chaos::default()).await
    }

    async fn start_with(chaos: Chaos) -> Self {
        let engine = Arc::new(Engine::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(Arc::clone(&engine));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut settings = CarrierSettings::new(anywhere, ACCOUNT, TOKEN, &base);
        settings.public_url = PUBLIC.to_owned();
        settings.chaos = chaos;
        settings.phones.answer_after_ms = 30;
        settings.timing = Timing { dial_ms: 5, speech_ms: 5, record_ms: 50, ..Timing::default() };
        settings.numbers = vec![NumberPlan {
            number: NUMBER.to_owned(),
            voice_url: format!("{PUBLIC}/voice"),
            fallback_url: Some(format!("{PUBLIC}/fallback")),
            status_callback: Some(format!("{PUBLIC}/status?of=number#rc=3&rp=all")),
        }];
        let carrier = Carrier::start(settings).await.unwrap();
        Self { engine, carrier, client: reqwest::Client::new() }
    }

    fn place(&self, mut plan: CallPlan) -> String {
        (plan.from, plan.to) = (CALLER.to_owned(), NUMBER.to_owned());
        self.carrier.place_call(plan).unwrap()
    }

    async fn rest(&self, method: Method, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let base = format!("http://{}/2010-04-01/Accounts/{ACCOUNT}", self.carrier.local_addr());
        let request = self.client.request(method, format!("{base}{path}"));
        let response = request.basic_auth(ACCOUNT, Some(TOKEN)).form(form).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        self.rest(Method::POST, path, form).await
    }

    /// Calls an agent as the engine does.
    async fn call_agent(&self, name: &str) -> String {
        let to = format!("client:{name}");
        let (status, call) = self
            .post(
                "/Calls.json",
                &[
                    ("To", &to),
                    ("From", NUMBER),
                    ("Url", &format!("{PUBLIC}/agent?call=c1&leg=l2#rc=2&rp=all&tt=14500")),
                    ("StatusCallback", &format!("{PUBLIC}/agent-status?leg=l2#rc=3&rp=all")),
                    ("StatusCallbackEvent", "initiated"),
                    ("StatusCallbackEvent", "ringing"),
                    ("StatusCallbackEvent", "answered"),
                    ("StatusCallbackEvent", "completed"),
                    ("NoSuchParameter", "is ignored"),
                ],
            )
            .await;
        assert_eq!((status, call["status"].as_str()), (201, Some("queued")));
        call["sid"].as_str().unwrap().to_owned()
    }

    async fn leg(&self, sid: &str, is_so: impl Fn(&LegView) -> bool) -> LegView {
        self.carrier.await_leg_state(sid, is_so, PATIENCE).await.unwrap()
    }

    async fn end(self) {
        self.engine.all_signatures_were_right();
        let switch = self.carrier.switch_for_tests();
        self.carrier.shutdown(PATIENCE).await;
        assert!(switch.tracker.is_empty(), "tasks were left behind");
    }
}
