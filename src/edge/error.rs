//! Errors as clients see them: RFC 9457 problem documents. Only this file knows status codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::actors::AskError;
use crate::domain::agent::AgentRefusal;
use crate::domain::call::CallRefusal;
use crate::domain::catalogue;
use crate::store::StoreError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident;)*) => {
        /// What went wrong, as in the catalogue of errors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in the catalogue.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    /// The body is not what the content type says.
    MalformedBody = "EML-1001", BAD_REQUEST;
    /// A value is not acceptable.
    Validation = "EML-1002", UNPROCESSABLE_ENTITY;
    /// There is no such thing.
    NotFound = "EML-1003", NOT_FOUND;
    /// The path does not know this method.
    MethodNotAllowed = "EML-1004", METHOD_NOT_ALLOWED;
    /// The body is too large.
    BodyTooLarge = "EML-1005", PAYLOAD_TOO_LARGE;
    /// A field is not known.
    UnknownField = "EML-1006", UNPROCESSABLE_ENTITY;
    /// `If-Match` is needed.
    PreconditionRequired = "EML-1007", PRECONDITION_REQUIRED;
    /// The thing was changed in the meantime.
    PreconditionFailed = "EML-1008", PRECONDITION_FAILED;
    /// The name is taken.
    Exists = "EML-1009", CONFLICT;
    /// The idempotency key was used for another request.
    KeyReused = "EML-1010", UNPROCESSABLE_ENTITY;
    /// The first request with this key is still running.
    KeyRunning = "EML-1011", CONFLICT;
    /// The content type is not JSON.
    MediaType = "EML-1012", UNSUPPORTED_MEDIA_TYPE;
    /// It took too long.
    Timeout = "EML-1013", SERVICE_UNAVAILABLE;
    /// A number is not in E.164 form.
    NumberNotE164 = "EML-1014", UNPROCESSABLE_ENTITY;
    /// The cursor is not one of ours.
    BadCursor = "EML-1015", BAD_REQUEST;
    /// A filter is not usable.
    BadFilter = "EML-1016", BAD_REQUEST;
    /// A header is not usable.
    BadHeader = "EML-1017", BAD_REQUEST;
    /// Other things refer to it.
    InUse = "EML-1018", CONFLICT;
    /// No token, or not one of ours.
    NoToken = "EML-2001", UNAUTHORIZED;
    /// The token has expired.
    TokenExpired = "EML-2002", UNAUTHORIZED;
    /// The role does not allow this.
    Forbidden = "EML-2003", FORBIDDEN;
    /// A second factor is due before the sign-in is complete.
    SecondFactorDue = "EML-2004", UNAUTHORIZED;
    /// Login or password is wrong.
    BadCredentials = "EML-2005", UNAUTHORIZED;
    /// Too many tries.
    TooManyTries = "EML-2006", TOO_MANY_REQUESTS;
    /// The page's origin may not connect.
    OriginNotAllowed = "EML-2007", FORBIDDEN;
    /// The ticket was used, or is too old.
    BadTicket = "EML-2008", UNAUTHORIZED;
    /// A second factor must be shown again before this.
    StepUpDue = "EML-2009", UNAUTHORIZED;
    /// The password is too weak.
    WeakPassword = "EML-2010", UNPROCESSABLE_ENTITY;
    /// The session is over.
    SessionOver = "EML-2011", UNAUTHORIZED;
    /// The link was used, or is too old.
    LinkNotUsable = "EML-2012", GONE;
    /// The second factor is wrong.
    SecondFactorWrong = "EML-2013", UNAUTHORIZED;
    /// The request does not come from a page of ours.
    ForeignRequest = "EML-2014", FORBIDDEN;
    /// The outside provider did not do its part.
    OutsideProviderFailed = "EML-2015", BAD_GATEWAY;
    /// Nobody can register here.
    RegistrationClosed = "EML-2016", FORBIDDEN;
    /// The challenge was answered, or is too old.
    ChallengeOver = "EML-2017", UNAUTHORIZED;
    /// There is no such call.
    CallNotFound = "EML-3001", NOT_FOUND;
    /// The call's state does not allow this.
    WrongState = "EML-3002", CONFLICT;
    /// The call belongs to another agent.
    NotYourCall = "EML-3003", FORBIDDEN;
    /// The offer does not stand any more.
    OfferGone = "EML-3004", CONFLICT;
    /// There is no such agent.
    AgentNotFound = "EML-3005", NOT_FOUND;
    /// The agent cannot take a call now.
    AgentNotReady = "EML-3006", CONFLICT;
    /// There is no such queue.
    QueueNotFound = "EML-3007", UNPROCESSABLE_ENTITY;
    /// No provider can make this call.
    NoProvider = "EML-3008", CONFLICT;
    /// It failed too often and is put aside.
    SetAside = "EML-3009", SERVICE_UNAVAILABLE;
    /// The signature does not hold.
    BadSignature = "EML-4001", FORBIDDEN;
    /// The webhook makes no sense.
    MalformedWebhook = "EML-4002", BAD_REQUEST;
    /// There is no such provider.
    UnknownProvider = "EML-4003", NOT_FOUND;
    /// The store is not there.
    StoreUnavailable = "EML-5001", SERVICE_UNAVAILABLE;
    /// Too much is under way.
    Overloaded = "EML-5002", SERVICE_UNAVAILABLE;
    /// The node is being stopped.
    Draining = "EML-5003", SERVICE_UNAVAILABLE;
    /// A fault of ours.
    Internal = "EML-9001", INTERNAL_SERVER_ERROR;
}

/// Seconds after which a client should come back when we were not able to serve it.
const RETRY_AFTER: &str = "1";

/// One unusable value of a request.
#[derive(Debug, Clone)]
struct Fault {
    pointer: String,
    detail: String,
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: Code,
    detail: Option<String>,
    faults: Vec<Fault>,
    members: Vec<(&'static str, Value)>,
}

impl ApiError {
    /// An error of this code.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None, faults: Vec::new(), members: Vec::new() }
    }

    /// The same with what is special about this case.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same naming an unusable value by its JSON pointer.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.faults.push(Fault { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// The same with another member of the problem document. A number under `retry_after` is also sent as
    /// the header, in seconds.
    #[must_use]
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((member, value.into()));
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The problem document; `instance` and `request_id` are added where the request is known.
    #[must_use]
    pub fn problem(&self) -> Value {
        let entry = catalogue::find(self.code.code());
        let mut problem = json!({
            "type": entry.map_or_else(|| "about:blank".to_owned(), |entry| format!("/problems/{}", entry.slug)),
            "title": entry.map_or("error", |entry| entry.title),
            "status": self.code.status().as_u16(),
            "code": self.code.code(),
            "hint": entry.map_or("", |entry| entry.fix),
        });
        if let Some(detail) = &self.detail {
            problem["detail"] = Value::from(detail.as_str());
        }
        if !self.faults.is_empty() {
            let fault = |fault: &Fault| json!({ "pointer": fault.pointer, "code": self.code.code(), "detail": fault.detail });
            problem["errors"] = self.faults.iter().map(fault).collect();
        }
        for (member, value) in &self.members {
            problem[*member] = value.clone();
        }
        problem
    }

    fn retry_after(&self) -> Option<HeaderValue> {
        let named = self.members.iter().find(|(member, _)| *member == "retry_after");
        if let Some(seconds) = named.and_then(|(_, seconds)| seconds.as_u64()) {
            return Some(seconds.into());
        }
        let is_passing =
            matches!(self.code.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        is_passing.then_some(HeaderValue::from_static(RETRY_AFTER))
    }
}

/// What a client is asked to do about a 401 (RFC 6750, RFC 9470).
const fn challenge(code: Code) -> &'static str {
    if matches!(code, Code::StepUpDue) {
        return "Bearer error=\"insufficient_user_authentication\"";
    }
    if matches!(code, Code::TokenExpired) { "Bearer error=\"invalid_token\"" } else { "Bearer" }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), self.problem().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge(self.code)));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::InDoubt(_) | StoreError::Fenced(_) => {
                Self::new(Code::StoreUnavailable)
            }
            StoreError::Exists(what) => Self::new(Code::Exists).detail(format!("{what} exists already")),
            StoreError::Changed => Self::new(Code::PreconditionFailed),
            StoreError::Corrupt { .. } | StoreError::Refused(_) => {
                tracing::error!(%error, "store cannot answer");
                Self::new(Code::Internal)
            }
        }
    }
}

/// What actors have in common when they do not answer.
fn unanswered<R: std::error::Error>(error: AskError<R>, refused: impl FnOnce(R) -> ApiError) -> ApiError {
    match error {
        AskError::Refused(refusal) => refused(refusal),
        AskError::Store(error) => error.into(),
        AskError::Overloaded => ApiError::new(Code::Overloaded),
        AskError::Quarantined => ApiError::new(Code::SetAside),
        AskError::Unavailable => ApiError::new(Code::Timeout),
    }
}

impl From<AskError<CallRefusal>> for ApiError {
    fn from(error: AskError<CallRefusal>) -> Self {
        unanswered(error, |refusal| match refusal {
            CallRefusal::Unknown => Self::new(Code::CallNotFound),
            CallRefusal::Exists => Self::new(Code::Exists).detail("the call exists already"),
            CallRefusal::WrongState { .. } => Self::new(Code::WrongState).detail(refusal.to_string()),
            CallRefusal::NotYours => Self::new(Code::NotYourCall),
            CallRefusal::OfferGone => Self::new(Code::OfferGone),
        })
    }
}

impl From<AskError<AgentRefusal>> for ApiError {
    fn from(error: AskError<AgentRefusal>) -> Self {
        unanswered(error, |refusal| match refusal {
            AgentRefusal::NotReady => Self::new(Code::AgentNotReady),
            AgentRefusal::OfferGone { outcome } => {
                let error = Self::new(Code::OfferGone);
                match outcome {
                    Some(outcome) => {
                        let word = serde_json::to_value(outcome).unwrap_or_default();
                        error.detail(format!("it ended: {}", word.as_str().unwrap_or_default()))
                    }
                    None => error,
                }
            }
            AgentRefusal::NoSuchCall => Self::new(Code::CallNotFound).detail("the agent has no such call"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_catalogue_with_its_status() {
        for code in Code::ALL {
            let entry =
                catalogue::find(code.code()).unwrap_or_else(|| panic!("{} is not explained", code.code()));
            assert_eq!(entry.status, Some(code.status().as_u16()), "{}", code.code());
        }
    }

    #[test]
    fn a_problem_tells_where_and_what_to_do() {
        let error = ApiError::new(Code::NumberNotE164).at("/to", "must begin with +");
        let problem = error.problem();
        assert_eq!(problem["type"], "/problems/number-not-e164");
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["pointer"], "/to");
        assert!(!problem["hint"].as_str().unwrap().is_empty());
    }

    #[test]
    fn a_problem_may_tell_more_and_when_to_come_back() {
        let error = ApiError::new(Code::TooManyTries).with("retry_after", 17).with("left", 0);
        assert_eq!(error.problem()["left"], 0);
        assert_eq!(error.into_response().headers()[header::RETRY_AFTER], "17");
    }
}
