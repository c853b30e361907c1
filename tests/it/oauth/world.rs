//! A house with clients, users and what they do with each other.

use std::fmt::Write as _;

use eml::config::Settings;
use eml::domain::directory::User;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::browser::{Browser, Page};
pub(crate) use crate::support::PASSWORD;
use crate::support::{House, HouseSettings};

/// The pair of RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Where the client of the tests gets its codes.
pub(crate) const BACK: &str = "https://app.example.org/back?tenant=1";
/// The same without a query, for libraries that take every query for our answer.
pub(crate) const PLAIN_BACK: &str = "https://app.example.org/plain";

/// A client as the tests know it.
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
}

/// A house without public URL, so that what it says of itself can be reached.
pub(crate) async fn house() -> House {
    house_with(|settings| settings.server.public_url = String::new()).await
}

pub(crate) async fn house_with(change: fn(&mut Settings)) -> House {
    House::open(HouseSettings { change, ..HouseSettings::default() }).await
}

pub(crate) async fn client(house: &House, body: Value) -> Known {
    let made = house.post("/clients", body).await;
    let text = |name: &str| made[name].as_str().map(ToOwned::to_owned);
    Known { id: text("id").unwrap(), secret: text("client_secret") }
}

/// A client with a secret that sends browsers.
pub(crate) async fn web(house: &House) -> Known {
    let body = json!({
        "name": "Wallboard & Co", "confidential": true, "grants": ["authorization_code", "refresh_token"],
        "scopes": ["own", "calls:read", "users:read"], "redirect_uris": [BACK, PLAIN_BACK],
    });
    client(house, body).await
}

/// A client that acts for itself.
pub(crate) async fn robot(house: &House) -> Known {
    let body = json!({
        "name": "Robot", "confidential": true, "grants": ["client_credentials"], "scopes": ["calls:read", "setup:read"],
    });
    client(house, body).await
}

/// A client without a secret, that shows codes.
pub(crate) async fn device(house: &House) -> Known {
    let body = json!({
        "name": "Terminal", "confidential": false, "scopes": ["own", "calls:read"],
        "grants": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    });
    client(house, body).await
}

/// A user that can sign in.
pub(crate) async fn user(house: &House, login: &str, role: &str) -> User {
    house.person(login, &[role]).await
}

pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(pairs).finish()
}

/// A client's request for a code, with some parameters changed; an empty one is left out.
pub(crate) fn asking(client: &Known, changes: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", client.id.as_str()),
        ("redirect_uri", BACK),
        ("scope", "own calls:read"),
        ("state", "a&b=c"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    format!("/oauth/authorize?{}", query(&pairs))
}

pub(crate) async fn signed_in(browser: &mut Browser, page: &Page, login: &str) -> Page {
    browser.step(page, "sign_in", &[("login", login), ("password", PASSWORD)]).await
}

/// A code that a user let a client have.
pub(crate) async fn code(house: &House, client: &Known, login: &str) -> String {
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(client, &[])).await;
    let page = signed_in(&mut browser, &page, login).await;
    let page = browser.step(&page, "allow", &[]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.html);
    page.told()["code"].clone()
}

/// Sends a form to an endpoint, with the client's secret in the header if it has one.
pub(crate) async fn post(
    house: &House,
    path: &str,
    client: &Known,
    form: &[(&str, &str)],
) -> (StatusCode, Value) {
    let request = house.http.post(format!("{}{path}", house.base));
    let mut form = form.to_vec();
    let request = if let Some(secret) = &client.secret {
        request.basic_auth(&client.id, Some(secret))
    } else {
        form.push(("client_id", &client.id));
        request
    };
    let answer = request.form(&form).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    let status = answer.status();
    (status, answer.json().await.unwrap_or(Value::Null))
}

pub(crate) async fn exchange(house: &House, client: &Known, code: &str) -> (StatusCode, Value) {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    post(house, "/oauth/token", client, &form).await
}

/// What a path answers to a token.
pub(crate) async fn with_token(house: &House, path: &str, token: &Value) -> StatusCode {
    let token = token.as_str().unwrap();
    let request = house.http.request(Method::GET, format!("{}{path}", house.base)).bearer_auth(token);
    request.send().await.unwrap().status()
}

/// Types of the audit trail, oldest first.
pub(crate) async fn trail(house: &House) -> Vec<String> {
    let stores = house.node().engine.stores();
    let entries = stores.audit.audit_after(0, 1_000).await.unwrap();
    let what = |body: &str| serde_json::from_str::<Value>(body).unwrap()["what"].as_str().unwrap().to_owned();
    entries.iter().map(|sealed| what(&sealed.body)).collect()
}

/// Everything in the audit trail, as text.
pub(crate) async fn trail_text(house: &House) -> String {
    let stores = house.node().engine.stores();
    let mut text = String::new();
    for sealed in stores.audit.audit_after(0, 1_000).await.unwrap() {
        let _ = writeln!(text, "{}", sealed.body);
    }
    text
}
