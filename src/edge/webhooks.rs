//! What providers post: verified, read, taken to its call, answered once its facts are durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Code};
use super::providers::twilio::signature::{Signed, verify};
use super::providers::twilio::{self, Correlated, Incoming, Kind, Links, Phrases, form};
use super::request;
use super::router::EdgeState;
use crate::actors::AskError;
use crate::domain::call::{Arrival, Asked, CallCommand, CallRefusal, CallReply, Document, News};
use crate::domain::id::CallId;
use crate::telemetry::WebhookResult;

/// A provider section that speaks Twilio's language.
pub struct TwilioSection {
    /// Secrets in use, the present one first.
    pub secrets: Vec<String>,
    /// The addresses we hand out.
    pub links: Links,
    /// What callers hear.
    pub phrases: Phrases,
}

/// Every provider section by name.
#[derive(Default)]
pub struct Webhooks {
    sections: HashMap<String, Arc<TwilioSection>>,
}

impl Webhooks {
    /// The sections, by name.
    #[must_use]
    pub fn new(sections: HashMap<String, Arc<TwilioSection>>) -> Self {
        Self { sections }
    }
}

/// Takes in one webhook.
pub(super) async fn receive(
    State(state): State<EdgeState>,
    Path((provider, path)): Path<(String, String)>,
    incoming: Request,
) -> Response {
    let started = Instant::now();
    let section = state.webhooks.sections.get(&provider).cloned();
    let (Some(section), Some(kind)) = (section, Kind::of_path(&path)) else {
        return ApiError::new(Code::UnknownProvider).into_response();
    };
    let (response, result) =
        Delivery { state: &state, provider: &provider, section: &section, kind }.take(incoming).await;
    state.engine.metrics().webhook(&provider, result, started.elapsed());
    response
}

/// One webhook on its way.
struct Delivery<'a> {
    state: &'a EdgeState,
    provider: &'a str,
    section: &'a TwilioSection,
    kind: Kind,
}

impl Delivery<'_> {
    async fn take(&self, incoming: Request) -> (Response, WebhookResult) {
        let (method, uri, headers) =
            (incoming.method().clone(), incoming.uri().clone(), incoming.headers().clone());
        let body = match request::body(incoming, self.state).await {
            Ok(body) => body,
            Err(error) => return (error.into_response(), WebhookResult::Malformed),
        };
        let (query, fields) = match self.read(&method, &uri, &headers, &body) {
            Ok(read) => read,
            Err(refused) => return *refused,
        };
        match twilio::parse(self.kind, self.provider, &query, &fields) {
            Ok(Incoming::Arrival(arrival)) => self.arrive(*arrival).await,
            Ok(Incoming::News(news)) => self.hear(*news).await,
            Err(malformed) => {
                let error = ApiError::new(Code::MalformedWebhook).detail(malformed.to_string());
                (error.into_response(), WebhookResult::Malformed)
            }
        }
    }

    /// The verified fields of the query and the body.
    fn read(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(form::Fields, form::Fields), Box<(Response, WebhookResult)>> {
        let malformed = || {
            let error = ApiError::new(Code::MalformedWebhook).detail("fields are not valid UTF-8");
            Box::new((error.into_response(), WebhookResult::Malformed))
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_form =
            text("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let query = form::parse(uri.query().unwrap_or_default().as_bytes()).map_err(|_| malformed())?;
        let fields = if is_form { Some(form::parse(body).map_err(|_| malformed())?) } else { None };
        let target = uri.path_and_query().map_or_else(|| uri.path(), |target| target.as_str());
        let secrets: Vec<_> = self.section.secrets.iter().map(String::as_str).collect();
        let signed = Signed {
            url: &self.section.links.signed_url(target),
            form: fields.as_deref().filter(|_| method != Method::GET),
            body,
            signature: text("x-twilio-signature").unwrap_or_default(),
            settings: text("x-twilio-webhooks-signature-settings"),
        };
        if let Err(why) = verify(&signed, &secrets) {
            tracing::warn!(provider = self.provider, %why, "webhook refused");
            let error = ApiError::new(Code::BadSignature);
            return Err(Box::new((error.into_response(), WebhookResult::BadSignature)));
        }
        // A GET carries its fields in the query.
        let fields = fields.unwrap_or_else(|| query.clone());
        Ok((query, fields))
    }

    async fn arrive(&self, mut arrival: Arrival) -> (Response, WebhookResult) {
        let engine = &self.state.engine;
        if engine.admit().is_err() {
            return self.cannot(&ApiError::new(Code::Overloaded));
        }
        arrival.routing = engine.directory().routing_for(&arrival.to);
        if arrival.routing.is_none() {
            tracing::warn!(number = %arrival.to.masked(), "a call came for a number that leads nowhere");
        }
        let id = CallId::derived(self.provider, &arrival.provider_call_id);
        let answer = engine.call(id, CallCommand::Arrive(Box::new(arrival))).await;
        self.answer(id, answer)
    }

    async fn hear(&self, correlated: Correlated) -> (Response, WebhookResult) {
        let Correlated { call_id, names, mut news } = correlated;
        let engine = &self.state.engine;
        if let Some(address) = &news.leg.address {
            news.leg.agent_id = engine.directory().agent_at(address).map(|agent| agent.id);
        }
        let found = match call_id {
            Some(id) => Ok(Some(id)),
            None => engine.find_call(self.provider, &names).await,
        };
        // An inbound call's id follows from the provider's, even before we know the call.
        let parent = news.leg.parent_id.as_ref().or(news.leg.provider_id.as_ref());
        let derived = parent.map(|sid| CallId::derived(self.provider, sid));
        match found.map(|found| found.or(derived)) {
            Err(error) => self.cannot(&error.into()),
            Ok(Some(id)) => {
                let asked = news.news.clone();
                match engine.carrier_news(self.provider, id, news, &names).await {
                    Err(AskError::Refused(CallRefusal::Unknown)) => {
                        (self.document(id, &unknown(&asked)), WebhookResult::Accepted)
                    }
                    answer => self.answer(id, answer),
                }
            }
            Ok(None) => match engine.keep_orphan(self.provider, news, &names).await {
                Ok(()) => (self.acknowledge(), WebhookResult::Accepted),
                Err(error) => self.cannot(&error.into()),
            },
        }
    }

    fn answer(
        &self,
        id: CallId,
        answer: Result<CallReply, AskError<CallRefusal>>,
    ) -> (Response, WebhookResult) {
        match answer {
            Ok(reply) => {
                let document = reply.document().unwrap_or(&Document::Acknowledge);
                (self.document(id, document), WebhookResult::Accepted)
            }
            Err(AskError::Quarantined) if self.kind.wants_document() => {
                (self.apology(), WebhookResult::Unavailable)
            }
            Err(error) => self.cannot(&error.into()),
        }
    }

    /// Nothing was stored. The provider comes again, or asks the fallback address; there it gets the
    /// safe document, since nothing comes after that.
    fn cannot(&self, error: &ApiError) -> (Response, WebhookResult) {
        let response = match self.kind {
            Kind::Fallback => self.apology(),
            Kind::Voice
            | Kind::Agent
            | Kind::Status
            | Kind::Conference
            | Kind::Wait
            | Kind::Hold
            | Kind::DialAction
            | Kind::Gather
            | Kind::Recording
            | Kind::Amd
            | Kind::Messages
            | Kind::MessagesStatus => error.clone().into_response(),
        };
        (response, WebhookResult::Unavailable)
    }

    fn document(&self, id: CallId, document: &Document) -> Response {
        if !self.kind.wants_document() {
            return self.acknowledge();
        }
        xml(twilio::render(document, id, &self.section.links, &self.section.phrases))
    }

    fn apology(&self) -> Response {
        xml(twilio::apology(&self.section.phrases))
    }

    fn acknowledge(&self) -> Response {
        if self.kind.wants_document() {
            return xml("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>".to_owned());
        }
        StatusCode::NO_CONTENT.into_response()
    }
}

fn xml(document: String) -> Response {
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], document).into_response()
}

/// What a leg does that belongs to no call we know of.
fn unknown(asked: &News) -> Document {
    match asked {
        News::Document(Asked::Wait) => Document::WaitMusic,
        News::Document(Asked::Hold) => Document::HoldMusic,
        News::QueueReport { hung_up: false, .. } => Document::WaitMusic,
        News::Document(Asked::Answered | Asked::Next { .. }) | News::VoicemailLeft { .. } => Document::Hangup,
        News::Leg { .. }
        | News::Joined
        | News::Left { .. }
        | News::HoldChanged { .. }
        | News::Room { .. }
        | News::QueueReport { hung_up: true, .. }
        | News::Recording { .. }
        | News::Other => Document::Acknowledge,
    }
}
