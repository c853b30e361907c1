//! A node with one outside provider, `op`, and what a browser sees of it.

use eml::app::{self, Node};
use eml::config::{self, Oidc, Provider, Settings, Sources};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::browser::{Browser, Page};
use crate::support::canary;

/// Where browsers think that the node is.
pub(super) const PUBLIC: &str = "https://eml.example.org";
/// Where the provider sends them back.
pub(super) const CALLBACK: &str = "https://eml.example.org/auth/oidc/op/callback";
/// A page of ours.
pub(super) const PAGE: &str = "https://desk.example.org/signed-in";
/// The client's secret at the provider.
pub(super) const SECRET: &str = "a secret that only tests know";

/// A running node.
pub(super) struct Stand {
    pub node: Node,
    pub base: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// A section that leads to this provider, without anything that lets somebody new in.
pub(super) fn section(issuer: &str) -> Oidc {
    Oidc {
        issuer: issuer.to_owned(),
        client_id: "eml".to_owned(),
        client_secret: SECRET.to_owned(),
        return_urls: vec![PAGE.to_owned()],
        ..Oidc::default()
    }
}

/// The same for everybody, with roles by groups.
pub(super) fn open_section(issuer: &str) -> Oidc {
    Oidc {
        create_users: true,
        roles_claim: "groups".to_owned(),
        roles: vec!["leads=supervisor".to_owned(), "desk=agent".to_owned()],
        ..section(issuer)
    }
}

impl Stand {
    pub(super) async fn open(section: Oidc) -> Self {
        Self::open_with(section, |_| {}).await
    }

    /// The same with other settings.
    pub(super) async fn open_with(section: Oidc, change: impl FnOnce(&mut Settings)) -> Self {
        canary::listen();
        let folder = tempfile::tempdir().unwrap();
        let mut settings = config::load(&Sources::default()).unwrap().settings;
        settings.node.data_dir = folder.path().to_owned();
        settings.server.listen = "127.0.0.1:0".to_owned();
        settings.server.public_url = PUBLIC.to_owned();
        settings.telemetry.listen = String::new();
        settings.auth.bcrypt_cost = 4;
        settings.auth.login_tries_per_minute = 1000;
        settings.store.url = "memory:".to_owned();
        let carrier = Provider {
            kind: "twilio".to_owned(),
            account_sid: "AC00000000000000000000000000000001".to_owned(),
            auth_token: "0123456789abcdef0123456789abcdef".to_owned(),
            ..Provider::default()
        };
        settings.providers.insert("twilio".to_owned(), carrier);
        settings.auth.oidc.insert("op".to_owned(), section.clone());
        settings.auth.oidc.insert("other".to_owned(), section);
        change(&mut settings);
        let node = app::start(&settings).await.unwrap();
        let base = format!("http://{}", node.address);
        Self { node, base, http: reqwest::Client::new(), _folder: folder }
    }

    /// Where a URL of the public name is in truth.
    fn here(&self, url: &Url) -> Url {
        let path = url.as_str().strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{url} is elsewhere"));
        Url::parse(&format!("{}{path}", self.base)).unwrap()
    }

    /// Sets out for the provider; answers the page, which leads there.
    pub(super) async fn set_out(&self, browser: &mut Browser, query: &str) -> Page {
        browser.get(&format!("{}/auth/oidc/op{query}", self.base)).await
    }

    /// Follows a URL that the provider sent the browser to.
    pub(super) async fn come_back(&self, browser: &mut Browser, url: &Url) -> Page {
        browser.visit(Method::GET, self.here(url), &[]).await
    }

    /// Posts JSON, with a token if there is one.
    pub(super) async fn post(&self, path: &str, body: &Value, token: Option<&str>) -> (StatusCode, Value) {
        canary::secrets_in(body);
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status(), response.json().await.unwrap_or_default());
        canary::secrets_in(&answer);
        (status, answer)
    }

    /// Gets or deletes with a token.
    pub(super) async fn ask(&self, method: Method, path: &str, token: &str) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status(), response.json().await.unwrap_or_default());
        canary::secrets_in(&answer);
        (status, answer)
    }

    /// What the audit trail has noted, oldest first: what, and its details.
    pub(super) async fn noted(&self) -> Vec<(String, Value)> {
        let sealed = self.node.engine.stores().audit.audit_after(0, 1000).await.unwrap();
        let entries = sealed.iter().map(|sealed| serde_json::from_str::<Value>(&sealed.body).unwrap());
        entries.map(|entry| (entry["what"].as_str().unwrap().to_owned(), entry["details"].clone())).collect()
    }

    /// How often something was noted.
    pub(super) async fn times(&self, what: &str) -> usize {
        self.noted().await.iter().filter(|(noted, _)| noted == what).count()
    }

    pub(super) async fn close(self) {
        self.node.stop().await;
    }
}

/// The code of a problem, as in `EML-2012`.
pub(super) fn code(page: &Page) -> String {
    page.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// The token of an answer.
pub(super) fn token(answer: &Value) -> &str {
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}"))
}

/// The roles of a user as shown.
pub(super) fn roles(answer: &Value) -> Vec<&str> {
    answer["user"]["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect()
}

/// Claims of somebody whose address the provider has verified.
pub(super) fn ann(groups: &[&str]) -> Value {
    json!({
        "email": "Ann@Example.org", "email_verified": true, "name": "Ann Other",
        "preferred_username": "ann", "groups": groups,
    })
}
