use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use eml::edge::providers::twilio::form;
use serde_json::{Value, json};

/// A request that the engine made.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub form: Vec<(String, String)>,
}

impl Received {
    pub fn field(&self, name: &str) -> Option<&str> {
        form::value(&self.form, name)
    }
}

type Answer = Box<dyn FnMut(&Received) -> (u16, Value) + Send>;

struct Shared {
    received: Vec<Received>,
    answer: Answer,
}

/// A provider's REST side that records and answers as told. When a judge is named by
/// `EML_TEST_JUDGE`, every request is shown to it too and must be accepted.
#[derive(Clone)]
pub struct FakeTwilio {
    pub base: String,
    shared: Arc<Mutex<Shared>>,
    judge: Option<String>,
    verdicts: Arc<Mutex<Vec<String>>>,
}

impl FakeTwilio {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut made = 0;
        let answer: Answer = Box::new(move |request| {
            made += 1;
            let is_new = request.method == "POST" && request.path.ends_with("/Calls.json");
            let sid = format!("CA{made:032x}");
            let room = json!({ "sid": format!("CF{made:032x}") });
            let all = json!({ "sid": sid, "status": "queued", "calls": [], "conferences": [room] });
            (if is_new { 201 } else { 200 }, all)
        });
        let shared = Arc::new(Mutex::new(Shared { received: Vec::new(), answer }));
        let fake =
            Self { base, shared, judge: std::env::var("EML_TEST_JUDGE").ok(), verdicts: Arc::default() };
        let router = Router::new().fallback(receive).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    /// Answers from now on as told.
    pub fn answer(&self, answer: impl FnMut(&Received) -> (u16, Value) + Send + 'static) {
        self.shared.lock().unwrap().answer = Box::new(answer);
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().unwrap().received.clone()
    }

    /// Waits for a request like this.
    pub async fn await_request(&self, why: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        for _ in 0..200 {
            if let Some(found) = self.received().into_iter().find(|request| wanted(request)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{why}: {:#?}", self.received());
    }

    /// Fails when the judge refused anything.
    pub fn assert_judged(&self) {
        let verdicts = self.verdicts.lock().unwrap();
        assert!(verdicts.is_empty(), "the judge refused: {verdicts:#?}");
    }
}

async fn receive(State(fake): State<FakeTwilio>, method: Method, uri: Uri, body: Bytes) -> Response {
    let request = Received {
        method: method.to_string(),
        path: uri.path().to_owned(),
        form: form::parse(&body).unwrap_or_default(),
    };
    if let Some(judge) = &fake.judge {
        let url = format!("{judge}{}", uri.path_and_query().map_or("/", |target| target.as_str()));
        let shown = reqwest::Client::new()
            .request(method, url)
            .basic_auth("AC00000000000000000000000000000001", Some("tok"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        if !shown.status().is_success() {
            let text = format!("{request:?}: {} {}", shown.status(), shown.text().await.unwrap_or_default());
            fake.verdicts.lock().unwrap().push(text);
        }
    }
    let (status, answer) = {
        let mut shared = fake.shared.lock().unwrap();
        shared.received.push(request.clone());
        (shared.answer)(&request)
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(answer)).into_response()
}
