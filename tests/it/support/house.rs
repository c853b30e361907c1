use std::path::{Path, PathBuf};
use std::time::Duration;

use eml::app::{self, Node};
use eml::config::{self, Provider, Settings, Sources};
use eml::domain::id::{AgentId, CallId, UserId};
use eml::domain::time::Millis;
use eml::edge::auth::Holder;
use eml::edge::loopback::{Carrier, CarrierSettings, NumberPlan};
use eml::edge::providers::twilio::signature;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Desk, FakeTwilio, canary};

/// The number that leads into the house's queue.
pub const NUMBER: &str = "+12025550100";
/// The secret of the house's provider section.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The public URL that is signed.
pub const PUBLIC: &str = "https://hooks.example.org";

/// How a house is built.
pub struct HouseSettings {
    pub store_url: Option<String>,
    pub folder: Option<PathBuf>,
    pub api_base: String,
    pub change: fn(&mut Settings),
}

impl Default for HouseSettings {
    fn default() -> Self {
        Self { store_url: None, folder: None, api_base: "http://127.0.0.1:9".to_owned(), change: |_| {} }
    }
}

/// A whole node in this process, with one provider section named `twilio`.
pub struct House {
    pub node: Option<Node>,
    pub base: String,
    pub queue_id: String,
    pub http: reqwest::Client,
    admin: UserId,
    _own_folder: Option<tempfile::TempDir>,
}

fn settings(house: &HouseSettings, folder: &Path) -> Settings {
    let mut settings = config::load(&Sources::default()).unwrap().settings;
    settings.node.data_dir = folder.to_owned();
    settings.server.listen = "127.0.0.1:0".to_owned();
    settings.server.public_url = PUBLIC.to_owned();
    settings.telemetry.listen = String::new();
    settings.auth.bcrypt_cost = 4;
    settings.store.url = house.store_url.clone().unwrap_or_else(|| "memory:".to_owned());
    let section = Provider {
        kind: "twilio".to_owned(),
        account_sid: "AC00000000000000000000000000000001".to_owned(),
        auth_token: TOKEN.to_owned(),
        api_base: house.api_base.clone(),
        ..Provider::default()
    };
    settings.providers.insert("twilio".to_owned(), section);
    (house.change)(&mut settings);
    settings
}

impl House {
    /// Opens a house without a queue.
    pub async fn bare(house: HouseSettings) -> Self {
        canary::listen();
        canary::secret(TOKEN);
        let own = house.folder.is_none().then(|| tempfile::tempdir().unwrap());
        let folder = house.folder.clone().unwrap_or_else(|| own.as_ref().unwrap().path().to_owned());
        let node = app::start(&settings(&house, &folder)).await.unwrap();
        let base = format!("http://{}", node.address);
        Self {
            node: Some(node),
            base,
            queue_id: String::new(),
            http: reqwest::Client::new(),
            admin: UserId::fresh(),
            _own_folder: own,
        }
    }

    /// Opens a house with a queue, and a number that leads there.
    pub async fn open(house: HouseSettings) -> Self {
        let mut house = Self::bare(house).await;
        let queue = house.post("/queues", json!({ "name": "support", "wrap_up_ms": 30_000 })).await;
        house.queue_id = queue["id"].as_str().unwrap().to_owned();
        house.post("/numbers", json!({ "address": NUMBER, "queue_id": house.queue_id })).await;
        house
    }

    /// Opens a house whose provider is a fake that only records.
    pub async fn with_fake() -> (Self, FakeTwilio) {
        let fake = FakeTwilio::start().await;
        let house =
            Self::open(HouseSettings { api_base: fake.base.clone(), ..HouseSettings::default() }).await;
        (house, fake)
    }

    /// Opens a house in front of the loopback carrier.
    pub async fn with_carrier(change: fn(&mut Settings)) -> (Self, Carrier) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let account = "AC00000000000000000000000000000001";
        let house = Self::open(HouseSettings {
            api_base: format!("http://{port}"),
            change,
            ..HouseSettings::default()
        })
        .await;
        let mut plan = CarrierSettings::new(port, account, TOKEN, &house.base);
        plan.public_url = PUBLIC.to_owned();
        let path = |path: &str| format!("{PUBLIC}/webhooks/twilio/{path}");
        plan.numbers = vec![NumberPlan {
            number: NUMBER.to_owned(),
            voice_url: path("voice"),
            fallback_url: Some(path("voice/fallback")),
            status_callback: Some(path("status")),
        }];
        (house, Carrier::start(plan).await.unwrap())
    }

    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    pub fn token(&self, caller: &Holder) -> String {
        self.node().authority.token_for(caller, Millis::from_secs(3600)).unwrap()
    }

    pub fn admin(&self) -> Holder {
        Holder::admin(self.admin)
    }

    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Value,
        caller: &Holder,
    ) -> (StatusCode, Value) {
        let request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token(caller));
        let request = if body.is_null() { request } else { request.json(&body) };
        canary::secrets_in(&body);
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer = response.json().await.unwrap_or(Value::Null);
        canary::secrets_in(&answer);
        (status, answer)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.request(Method::POST, path, body, &self.admin()).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.request(Method::GET, path, Value::Null, &self.admin()).await;
        assert!(status.is_success(), "GET {path}: {status} {answer}");
        answer
    }

    /// Makes an agent of the house's queue with a phone at `client:agent_NAME`.
    pub async fn agent(&self, name: &str) -> Holder {
        let user_id = UserId::fresh();
        let body = json!({
            "name": name, "address": format!("client:agent_{name}"), "queue_ids": [self.queue_id], "user_id": user_id,
        });
        let made = self.post("/agents", body).await;
        let agent_id: AgentId = made["id"].as_str().unwrap().parse().unwrap();
        Holder::agent(user_id, agent_id)
    }

    /// An agent at its desk, ready for offers.
    pub async fn ready_agent(&self, name: &str) -> (Holder, Desk) {
        let caller = self.agent(name).await;
        let mut desk = self.desk(&caller, None).await;
        desk.ask("agent.set_activity", json!({ "activity": "available" })).await;
        (caller, desk)
    }

    pub async fn desk(&self, caller: &Holder, last_sequence: Option<u64>) -> Desk {
        Desk::open(&self.base, &self.token(caller), last_sequence).await
    }

    /// Posts a signed webhook; answers status and body.
    pub async fn webhook(&self, path: &str, fields: &[(String, String)]) -> (StatusCode, String) {
        let target = format!("/webhooks/twilio/{path}");
        let signature = signature::sign(TOKEN, &format!("{PUBLIC}{target}"), fields);
        self.post_form(&target, fields, &signature).await
    }

    pub async fn post_form(
        &self,
        target: &str,
        fields: &[(String, String)],
        signature: &str,
    ) -> (StatusCode, String) {
        let request =
            self.http.post(format!("{}{target}", self.base)).header("x-twilio-signature", signature);
        let response = request.form(fields).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// An inbound call; answers its id.
    pub async fn call_in(&self, sid: &str) -> CallId {
        let fields = form(&[
            ("CallSid", sid),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+12025550143"),
            ("To", NUMBER),
        ]);
        let (status, body) = self.webhook("voice", &fields).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        CallId::derived("twilio", sid)
    }

    pub async fn call(&self, id: CallId) -> Value {
        self.get(&format!("/calls/{id}")).await
    }

    /// Waits until a call is as wanted.
    pub async fn await_call(&self, id: CallId, why: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..200 {
            let (status, call) =
                self.request(Method::GET, &format!("/calls/{id}"), Value::Null, &self.admin()).await;
            if status.is_success() && wanted(&call) {
                return call;
            }
            last = call;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{why}: {last:#}");
    }

    pub async fn timeline(&self, id: CallId) -> Vec<Value> {
        self.get(&format!("/calls/{id}/timeline")).await["data"].as_array().unwrap().clone()
    }

    pub async fn close(mut self) {
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
    }
}

pub fn form(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
