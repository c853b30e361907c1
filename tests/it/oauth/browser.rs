//! A browser as far as our pages need one: it keeps cookies, sends forms, and stops where it is sent.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use crate::support::canary;

/// A page, or where the browser is sent.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) html: String,
}

impl Page {
    /// The sealed journey in the page's form.
    pub(crate) fn journey(&self) -> String {
        let form = self.html.split_once("name=\"journey\" value=\"");
        let (journey, _) = form
            .and_then(|(_, rest)| rest.split_once('"'))
            .unwrap_or_else(|| panic!("no form: {} {}", self.status, self.html));
        journey.to_owned()
    }

    /// Where the browser is sent.
    pub(crate) fn location(&self) -> Option<Url> {
        self.headers.get(LOCATION).map(|value| value.to_str().unwrap().parse().unwrap())
    }

    /// What the client is told there.
    pub(crate) fn told(&self) -> BTreeMap<String, String> {
        let location =
            self.location().unwrap_or_else(|| panic!("not sent on: {} {}", self.status, self.html));
        let told: BTreeMap<String, String> = location.query_pairs().into_owned().collect();
        if let Some(code) = told.get("code") {
            canary::secret(code);
        }
        told
    }
}

/// A browser.
pub(crate) struct Browser {
    base: String,
    http: reqwest::Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base: base.to_owned(), http, cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: RequestBuilder) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header(COOKIE, cookies.join("; ")) };
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        for line in headers.get_all(SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { status, headers, html: answer.text().await.unwrap() }
    }

    pub(crate) async fn open(&mut self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Sends a page's form.
    pub(crate) async fn step(&mut self, page: &Page, step: &str, fields: &[(&str, &str)]) -> Page {
        self.step_with(&page.journey(), step, fields, &[]).await
    }

    /// Sends a form with headers that a browser would add.
    pub(crate) async fn step_with(
        &mut self,
        journey: &str,
        step: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let mut form = vec![("journey", journey), ("step", step)];
        form.extend(fields);
        fields
            .iter()
            .filter(|(name, _)| ["password", "code"].contains(name))
            .for_each(|(_, value)| canary::secret(value));
        let mut request = self.http.post(format!("{}/oauth/consent", self.base)).form(&form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }
}
