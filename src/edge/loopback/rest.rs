//! The REST side: what the engine asks of the carrier, answered as the real one answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::chaos::Mishap;
use super::leg::{Callback, Direction, Habits, Leg, Order, Origin, Source, Status};
use super::life::Start;
use super::stats::count;
use super::switch::Switch;
use super::twiml::Link;
use super::webhooks::{Form, basic};
use crate::domain::time::Timestamp;

/// Ring time of a call that names none, and the longest that may be asked for, in seconds.
const RING_S: (u64, u64) = (60, 600);

/// A refusal in the words of the real carrier.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) u32, pub(super) &'static str);

/// There is nothing at this address.
pub(super) const NOT_FOUND: Refusal =
    Refusal(StatusCode::NOT_FOUND, 20404, "The requested resource was not found");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let body = json!({
            "code": code,
            "message": message,
            "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
            "status": status.as_u16(),
        });
        (status, Json(body)).into_response()
    }
}

/// The paths of the REST side.
pub(super) fn routes(switch: &Arc<Switch>) -> Router<Arc<Switch>> {
    let account = Router::new()
        .route("/Calls.json", post(create_call).get(list_calls))
        .route("/Calls/{call}", post(update_call).get(show_call))
        .merge(super::rest_rooms::routes())
        .layer(from_fn_with_state(Arc::clone(switch), misbehave))
        .layer(from_fn_with_state(Arc::clone(switch), authenticate));
    Router::new().nest(&format!("/2010-04-01/Accounts/{}", switch.settings.account_sid), account)
}

/// Lets only the account in.
pub(super) async fn authenticate(
    State(switch): State<Arc<Switch>>,
    request: Request,
    next: Next,
) -> Response {
    let expected = basic(&switch.settings.account_sid, &switch.settings.auth_token);
    let given = request.headers().get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
    if given == Some(expected.as_bytes()) {
        return next.run(request).await;
    }
    Refusal(StatusCode::UNAUTHORIZED, 20003, "Authenticate").into_response()
}

async fn misbehave(State(switch): State<Arc<Switch>>, request: Request, next: Next) -> Response {
    count(&switch.stats.rest_requests);
    let (mishap, late) = switch.mischief.rest();
    if mishap != Mishap::None {
        count(&switch.stats.rest_mishaps);
    }
    let broken = Refusal(StatusCode::INTERNAL_SERVER_ERROR, 20500, "An internal server error has occurred");
    let response = match mishap {
        Mishap::None => next.run(request).await,
        Mishap::Refused => Refusal(StatusCode::TOO_MANY_REQUESTS, 20429, "Too Many Requests").into_response(),
        Mishap::FailedBefore => broken.into_response(),
        Mishap::FailedAfter => {
            next.run(request).await;
            broken.into_response()
        }
    };
    if late > Duration::ZERO {
        tokio::time::sleep(late).await;
    }
    response
}

/// The fields of a form or query; names count by case, unknown ones are nobody's business.
pub(super) struct Fields(Form);

impl Fields {
    pub(super) fn read(raw: &[u8]) -> Self {
        Self(form_urlencoded::parse(raw).into_owned().collect())
    }

    /// The value of a field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A URL field and the method to ask it by, which is POST unless said otherwise.
    pub(super) fn link(&self, url: &str, method: &str) -> Result<Option<Link>, Refusal> {
        let Some(text) = self.get(url) else { return Ok(None) };
        let host = url::Url::parse(text).ok().filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
        if host.and_then(|parsed| parsed.host_str().map(|host| !host.contains('_'))) != Some(true) {
            return Err(Refusal(StatusCode::BAD_REQUEST, 21205, "Url is not a valid URL"));
        }
        let get = self.get(method).is_some_and(|value| value.eq_ignore_ascii_case("get"));
        Ok(Some(Link { url: text.to_owned(), get }))
    }

    fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.flat_map(|(_, value)| value.split_whitespace()).map(ToOwned::to_owned).collect()
    }

    fn source(&self) -> Result<Option<Source>, Refusal> {
        if let Some(link) = self.link("Url", "Method")? {
            return Ok(Some(Source::Ask(link, Form::new())));
        }
        Ok(self.get("Twiml").map(|text| Source::Inline(text.to_owned())))
    }

    fn callback(&self) -> Result<Option<Callback>, Refusal> {
        let mut events = self.all("StatusCallbackEvent");
        if events.is_empty() {
            events.push("completed".to_owned());
        }
        Ok(self.link("StatusCallback", "StatusCallbackMethod")?.map(|link| Callback { link, events }))
    }
}

fn is_reachable(address: &str) -> bool {
    if let Some(name) = address.strip_prefix("client:").or_else(|| address.strip_prefix("sip:")) {
        return !name.is_empty();
    }
    let digits = address.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

async fn create_call(State(switch): State<Arc<Switch>>, body: Bytes) -> Result<Response, Refusal> {
    let bad = |code, message| Refusal(StatusCode::BAD_REQUEST, code, message);
    let fields = Fields::read(&body);
    let to = fields.get("To").ok_or(bad(21201, "No 'To' number is specified"))?;
    let from = fields.get("From").ok_or(bad(21213, "'From' phone number is required"))?;
    if !is_reachable(to) {
        return Err(bad(21211, "The 'To' number is not a valid phone number"));
    }
    if !is_reachable(from) {
        return Err(bad(21212, "The 'From' number is not a valid phone number"));
    }
    if from.starts_with('+') && !switch.may_call_from(from) {
        return Err(bad(21210, "The source phone number provided is not yet verified for your account"));
    }
    let then = fields.source()?.ok_or(bad(21205, "Url parameter is required"))?;
    let phone = switch.phone(to);
    let ring_s = fields.get("Timeout").and_then(|text| text.parse().ok()).unwrap_or(RING_S.0).min(RING_S.1);
    let origin = Origin {
        direction: Direction::OutboundApi,
        from: from.to_owned(),
        to: to.to_owned(),
        parent: None,
        habits: Habits {
            hang_up_after_ms: phone.hang_up_after_ms,
            talk_ms: phone.talk_ms,
            ..Habits::default()
        },
        fallback: fields.link("FallbackUrl", "FallbackMethod")?,
        callback: fields.callback()?,
    };
    let leg = switch.begin(origin, Start::Ring { phone, limit: Duration::from_secs(ring_s), then });
    Ok((StatusCode::CREATED, Json(describe(&switch, &leg))).into_response())
}

/// The leg named by the last part of a path, with or without its `.json`.
fn find(switch: &Switch, call: &str) -> Result<Arc<Leg>, Refusal> {
    switch.leg(call.trim_end_matches(".json")).ok_or(NOT_FOUND)
}

async fn show_call(State(switch): State<Arc<Switch>>, Path(call): Path<String>) -> Result<Response, Refusal> {
    let leg = find(&switch, &call)?;
    Ok(Json(describe(&switch, &leg)).into_response())
}

async fn update_call(
    State(switch): State<Arc<Switch>>,
    Path(call): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let leg = find(&switch, &call)?;
    let fields = Fields::read(&body);
    let wrong_state = || Refusal(StatusCode::BAD_REQUEST, 21220, "Call is not in-progress. Cannot redirect.");
    let order = match (fields.get("Status"), fields.source()?) {
        (Some("completed"), _) => Order::End,
        (Some("canceled"), _) if leg.status() == Status::InProgress => return Err(wrong_state()),
        (Some("canceled"), _) => Order::End,
        (Some(_), _) => return Err(Refusal(StatusCode::BAD_REQUEST, 20001, "Invalid Status")),
        (None, Some(_)) if leg.status() != Status::InProgress => return Err(wrong_state()),
        (None, Some(source)) => Order::Redirect(source),
        (None, None) => return Ok(Json(describe(&switch, &leg)).into_response()),
    };
    let redirects = matches!(order, Order::Redirect(_));
    if let Some(callback) = fields.callback()?.filter(|_| redirects) {
        leg.state().callback = Some(callback);
    }
    if !leg.order(order) {
        return Err(wrong_state());
    }
    Ok(Json(describe(&switch, &leg)).into_response())
}

async fn list_calls(State(switch): State<Arc<Switch>>, RawQuery(query): RawQuery) -> Response {
    let fields = Fields::read(query.unwrap_or_default().as_bytes());
    let size = fields.get("PageSize").and_then(|text| text.parse().ok()).unwrap_or(50).clamp(1, 1000);
    let since = fields.get("StartTime>").and_then(point_in_time);
    let until = fields.get("StartTime<").and_then(point_in_time);
    let legs = switch.legs(size, |leg| {
        fields.get("To").is_none_or(|to| to == leg.to)
            && fields.get("From").is_none_or(|from| from == leg.from)
            && fields.get("Status").is_none_or(|status| status == leg.status().as_str())
            && fields.get("ParentCallSid").is_none_or(|parent| leg.parent.as_deref() == Some(parent))
            && since.is_none_or(|since| leg.created >= since)
            && until.is_none_or(|until| leg.created <= until)
    });
    let calls: Vec<Value> = legs.iter().map(|leg| describe(&switch, leg)).collect();
    let uri = format!("/2010-04-01/Accounts/{}/Calls.json", switch.settings.account_sid);
    Json(json!({
        "calls": calls, "page": 0, "page_size": size, "start": 0, "end": calls.len().saturating_sub(1),
        "uri": uri, "first_page_uri": uri, "previous_page_uri": null, "next_page_uri": null,
    }))
    .into_response()
}

/// A day (its begin in UTC), an RFC 3339 or an RFC 2822 date.
fn point_in_time(text: &str) -> Option<Timestamp> {
    let day = || format!("{text}T00:00:00Z").parse().ok();
    text.parse().ok().or_else(|| Timestamp::from_rfc2822(text)).or_else(day)
}

fn describe(switch: &Switch, leg: &Leg) -> Value {
    let account = &switch.settings.account_sid;
    let base = format!("/2010-04-01/Accounts/{account}/Calls/{}", leg.sid);
    let duration = leg.answered_ms().div_ceil(1000).to_string();
    let state = leg.state();
    let date = |at: Option<Timestamp>| at.map(Timestamp::to_rfc2822);
    // What the network has but nobody hears yet is still called queued.
    let status = if state.status == Status::Initiated { Status::Queued } else { state.status };
    json!({
        "sid": leg.sid,
        "account_sid": account,
        "api_version": "2010-04-01",
        "parent_call_sid": leg.parent,
        "to": leg.to, "to_formatted": leg.to,
        "from": leg.from, "from_formatted": leg.from,
        "status": status.as_str(),
        "direction": leg.direction.as_str(),
        "date_created": leg.created.to_rfc2822(),
        "date_updated": date(state.ended.or(state.answered).map(|(_, at)| at)),
        "start_time": date(state.answered.map(|(_, at)| at).or(Some(leg.created))),
        "end_time": date(state.ended.map(|(_, at)| at)),
        "duration": state.ended.map(|_| duration),
        "answered_by": null, "price": null, "price_unit": "USD", "queue_time": "0",
        "phone_number_sid": null, "forwarded_from": null, "caller_name": null, "group_sid": null,
        "trunk_sid": null, "annotation": null,
        "uri": format!("{base}.json"),
        "subresource_uris": {
            "recordings": format!("{base}/Recordings.json"), "events": format!("{base}/Events.json"),
        },
    })
}

/// Silence in place of what would have been recorded: nobody has spoken.
pub(super) async fn recording() -> Response {
    const SAMPLES: u32 = 800;
    let mut sound = Vec::with_capacity(44 + SAMPLES as usize);
    sound.extend_from_slice(b"RIFF");
    sound.extend_from_slice(&(36 + SAMPLES).to_le_bytes());
    sound.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    sound.extend_from_slice(&8000_u32.to_le_bytes());
    sound.extend_from_slice(&8000_u32.to_le_bytes());
    sound.extend_from_slice(b"\x01\0\x08\0data");
    sound.extend_from_slice(&SAMPLES.to_le_bytes());
    sound.resize(44 + SAMPLES as usize, 0x80);
    ([("content-type", "audio/wav")], sound).into_response()
}

/// The path of recordings: also below the account.
pub(super) fn recordings() -> Router<Arc<Switch>> {
    Router::new().route("/Recordings/{recording}", get(recording))
}
