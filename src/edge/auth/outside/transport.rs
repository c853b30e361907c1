//! Requests to outside providers: bounded in time and size, and never led elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer in bytes; key sets of large providers have some ten thousand.
const LONGEST: usize = 512 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// It did not come.
    #[error("no answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// It is too long to be taken.
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
    /// It cannot be put into the form that is asked for.
    #[error("the answer cannot be passed on: {0}")]
    Form(#[from] axum::http::Error),
}

/// Sends requests.
pub(super) struct Transport {
    http: reqwest::Client,
}

impl Transport {
    /// One for all requests to a provider.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // Who follows a redirection of a token endpoint may hand a code or a secret to somebody else.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .user_agent(concat!("eml/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        // The URL of a request may hold what others should not read in a log.
        let hidden = reqwest::Error::without_url;
        let request = reqwest::Request::try_from(request).map_err(hidden)?;
        let mut response = self.http.execute(request).await.map_err(hidden)?;
        let mut answer = axum::http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            *headers = std::mem::take(response.headers_mut());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(hidden)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(TransportError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Transport {
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, TransportError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
