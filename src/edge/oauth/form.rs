//! Parameters as OAuth sends them: `application/x-www-form-urlencoded`, each at most once.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};

use super::super::request::body;
use super::super::router::EdgeState;
use super::error::{Fault, OAuthError};

/// Parameters of one request. Not `Debug`: they hold passwords, codes and tokens.
#[derive(Clone)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    doubled: Option<String>,
}

impl Parameters {
    /// Reads them. Whoever uses them must look at [`Self::doubled`] first.
    pub(super) fn read(text: &[u8]) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut doubled = None;
        for (name, value) in url::form_urlencoded::parse(text) {
            if pairs.iter().any(|(known, _)| *known == name) {
                doubled = Some(name.into_owned());
                continue;
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Self { pairs, doubled }
    }

    /// The name of one that came twice: the two sides may not read the same one.
    pub(super) fn doubled(&self) -> Option<&str> {
        self.doubled.as_deref()
    }

    /// The value of one; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of one that must be there.
    ///
    /// # Errors
    /// `invalid_request` when it is not.
    pub(super) fn need(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::new(Fault::InvalidRequest, format!("{name} is missing")))
    }
}

/// A request with parameters in its body.
pub(super) struct Posted {
    pub parameters: Parameters,
    pub headers: HeaderMap,
}

impl FromRequest<EdgeState> for Posted {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &EdgeState) -> Result<Self, OAuthError> {
        let headers = request.headers().clone();
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let why = "the body must be application/x-www-form-urlencoded";
            return Err(OAuthError::new(Fault::InvalidRequest, why));
        }
        let parameters = Parameters::read(&body(request, state).await?);
        if parameters.doubled().is_some() {
            return Err(OAuthError::new(Fault::InvalidRequest, "a parameter came twice"));
        }
        Ok(Self { parameters, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_noticed_and_what_is_empty_is_absent() {
        let read = Parameters::read(b"a=1&b=&c=x%20y+z&a=2");
        assert_eq!((read.get("a"), read.get("b"), read.get("c")), (Some("1"), None, Some("x y z")));
        assert_eq!(read.doubled(), Some("a"));
        assert!(Parameters::read(b"a=1&b=2").doubled().is_none());
        assert!(read.need("b").is_err() && read.need("c").is_ok());
    }
}
