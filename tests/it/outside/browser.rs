//! What a browser does in a sign-in: follows redirections, keeps cookies, fills in forms.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode, header};
use url::Url;

/// A browser with a cookie jar and nothing else.
pub(super) struct Browser {
    http: reqwest::Client,
    /// Cookies per place (scheme, host and port).
    jar: BTreeMap<String, BTreeMap<String, String>>,
}

/// A page, or a redirection that is not followed.
pub(super) struct Page {
    pub status: StatusCode,
    pub url: Url,
    pub headers: header::HeaderMap,
    pub body: String,
}

impl Page {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.url, self.body))
    }

    /// Where it leads.
    pub(super) fn location(&self) -> Url {
        let place = self.headers.get(header::LOCATION);
        let place =
            place.unwrap_or_else(|| panic!("{} {} leads nowhere: {}", self.url, self.status, self.body));
        self.url.join(place.to_str().unwrap()).unwrap()
    }

    /// What stands between two texts.
    fn between(&self, before: &str, after: &str) -> Option<String> {
        let rest = &self.body[self.body.find(before)? + before.len()..];
        Some(rest[..rest.find(after)?].replace("&amp;", "&"))
    }
}

impl Browser {
    pub(super) fn new() -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, jar: BTreeMap::new() }
    }

    /// One request with the cookies of its place; those that come are kept.
    pub(super) async fn visit(&mut self, method: Method, url: Url, form: &[(&str, &str)]) -> Page {
        let place = url.origin().ascii_serialization();
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(cookies) = self.jar.get(&place) {
            let cookies: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if method == Method::POST {
            request = request.form(form);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.jar.entry(place.clone()).or_default().insert(name.to_owned(), value.to_owned());
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Page { status, url, headers, body: response.text().await.unwrap() }
    }

    pub(super) async fn get(&mut self, url: &str) -> Page {
        self.visit(Method::GET, Url::parse(url).unwrap(), &[]).await
    }

    /// Goes through the pages of the provider as `login` until they lead to `home`; answers that URL.
    pub(super) async fn sign_in(&mut self, start: Url, login: &str, home: &str) -> Url {
        let mut url = start;
        for _ in 0..20 {
            if url.as_str().starts_with(home) {
                return url;
            }
            let page = self.visit(Method::GET, url, &[]).await;
            if page.status.is_redirection() {
                url = page.location();
                continue;
            }
            let action = page.between("action=\"", "\"").unwrap_or_else(|| panic!("no form: {}", page.body));
            let prompt = page.between("name=\"prompt\" value=\"", "\"").unwrap();
            let fields = [("prompt", prompt.as_str()), ("login", login), ("password", "whatever")];
            let page = self.visit(Method::POST, page.url.join(&action).unwrap(), &fields).await;
            url = page.location();
        }
        panic!("{login} never came back");
    }

    /// Turns the first page of the provider down; answers the URL at `home` that this leads to.
    pub(super) async fn turn_down(&mut self, start: Url, home: &str) -> Url {
        let page = self.visit(Method::GET, start, &[]).await;
        let page = self.visit(Method::GET, page.location(), &[]).await;
        let (before, _) = page.body.split_once("/abort\"").unwrap();
        let (_, abort) = before.rsplit_once("href=\"").unwrap();
        let mut url = page.url.join(&format!("{abort}/abort")).unwrap();
        while !url.as_str().starts_with(home) {
            url = self.visit(Method::GET, url, &[]).await.location();
        }
        url
    }
}
