//! Calls: starting them, acting on them.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::error::{ApiError, Code};
use super::idempotency::RequestKey;
use super::request::{Json, Path};
use super::router::EdgeState;
use crate::actors::AskError;
use crate::domain::address::Address;
use crate::domain::agent::Activity;
use crate::domain::call::{By, CallCommand, CallRefusal, CallReply, Control, DialRequest};
use crate::domain::directory::Directory;
use crate::domain::id::{AgentId, CallId, DispositionId, QueueId};
use crate::domain::identity::Permission;
use crate::domain::record::CallSummary;

/// Longest note on a call, in bytes.
const LONGEST_NOTE: usize = 4_000;

/// A call to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartCall {
    /// Whom to call: `+E.164`, `client:NAME` or `sip:ADDRESS`.
    to: String,
    /// The number shown to the customer; the provider's first number when absent.
    from: Option<String>,
    /// The queue, by id or name, whose agents speak with the customer.
    queue: Option<String>,
    /// The agent who speaks with the customer. An agent who starts a call does so for itself.
    #[schema(value_type = Option<String>)]
    agent_id: Option<AgentId>,
    /// The provider section; needed only when there are several.
    provider: Option<String>,
    /// Anything the creator wants to find again.
    #[schema(value_type = Option<Object>)]
    context: Option<serde_json::Value>,
}

/// Starts a call under a given id; starting it again answers with the call that is there.
///
/// # Errors
/// When it cannot be made.
pub(super) async fn start(
    state: &EdgeState,
    caller: &Caller,
    id: CallId,
    request: StartCall,
) -> Result<Box<CallSummary>, ApiError> {
    state.engine.admit()?;
    let dial = dial_request(state, caller, request)?;
    let answer = state.engine.call(id, CallCommand::Dial(Box::new(dial))).await;
    let answer = match answer {
        Err(AskError::Refused(CallRefusal::Exists)) => state.engine.call(id, CallCommand::Show).await,
        other => other,
    };
    done(answer?)
}

fn done(reply: CallReply) -> Result<Box<CallSummary>, ApiError> {
    match reply {
        CallReply::Done(row) => Ok(row),
        CallReply::Document(_) => Err(ApiError::new(Code::Internal)),
    }
}

fn dial_request(state: &EdgeState, caller: &Caller, request: StartCall) -> Result<DialRequest, ApiError> {
    let StartCall { to, from, queue, agent_id, provider, context } = request;
    let directory = state.engine.directory();
    let not_dialable = |pointer: &str| {
        ApiError::new(Code::NumberNotE164).at(pointer, "must be +E.164, client:NAME or sip:ADDRESS")
    };
    let to = Address::dialable(&to).map_err(|_| not_dialable("/to"))?;
    let provider = provider_for(state, provider)?;
    let from = match from {
        Some(from) => Address::dialable(&from).map_err(|_| not_dialable("/from"))?,
        None => own_number(&directory, &provider)?,
    };
    let routing = queue.map(|queue| find_queue(&directory, &queue)).transpose()?;
    let routing = routing.and_then(|queue_id| directory.routing_to(queue_id));
    let agent = speaking_agent(&directory, caller, agent_id, routing.is_some())?;
    Ok(DialRequest {
        provider: provider.into(),
        to,
        from,
        routing,
        agent,
        ring: state.settings.outbound_ring,
        wrap_up: state.settings.default_wrap_up,
        context,
    })
}

fn provider_for(state: &EdgeState, named: Option<String>) -> Result<String, ApiError> {
    match (named, state.settings.providers.as_slice()) {
        (Some(named), known) if known.contains(&named) => Ok(named),
        (Some(_), _) => Err(ApiError::new(Code::NoProvider).at("/provider", "there is no such provider")),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(ApiError::new(Code::NoProvider)),
        (None, _) => Err(ApiError::new(Code::NoProvider).at("/provider", "name one of several providers")),
    }
}

fn own_number(directory: &Directory, provider: &str) -> Result<Address, ApiError> {
    let mut numbers: Vec<_> = directory
        .numbers
        .values()
        .filter(|number| number.provider.as_deref().is_none_or(|named| named == provider))
        .map(|number| &number.address)
        .collect();
    numbers.sort();
    let first = numbers.first().copied().cloned();
    first.ok_or_else(|| ApiError::new(Code::NoProvider).at("/from", "no number to call from is configured"))
}

fn find_queue(directory: &Directory, named: &str) -> Result<QueueId, ApiError> {
    let by_id = named.parse().ok().filter(|id| directory.queues.contains_key(id));
    let by_name = || directory.queues.values().find(|queue| queue.name == named).map(|queue| queue.id);
    by_id
        .or_else(by_name)
        .ok_or_else(|| ApiError::new(Code::QueueNotFound).at("/queue", "there is no such queue"))
}

fn speaking_agent(
    directory: &Directory,
    caller: &Caller,
    named: Option<AgentId>,
    has_queue: bool,
) -> Result<Option<(AgentId, Address)>, ApiError> {
    let agent_id = match (caller.agent_id, named) {
        (Some(own), Some(named)) if own != named && !caller.may(Permission::CallsSupervise) => {
            return Err(ApiError::new(Code::Forbidden).at("/agent_id", "agents start calls for themselves"));
        }
        (Some(own), None) if !has_queue => Some(own),
        (_, named) => named,
    };
    let Some(agent_id) = agent_id else { return Ok(None) };
    let agent = directory.agents.get(&agent_id).ok_or(ApiError::new(Code::AgentNotFound))?;
    Ok(Some((agent_id, agent.address.clone())))
}

/// Starts a call.
#[utoipa::path(post, path = "/calls/start", tag = "calls", request_body = StartCall, responses(
    (status = 202, body = CallSummary), (status = 422, description = "a value is not acceptable"),
))]
pub(super) async fn start_call(
    State(state): State<EdgeState>,
    caller: Caller,
    key: Option<Extension<RequestKey>>,
    Json(request): Json<StartCall>,
) -> Result<Response, ApiError> {
    // A request that is repeated because its node died meets the call it made, if it came so far.
    let id = key.map_or_else(CallId::fresh, |Extension(key)| key.call_id());
    let row = start(&state, &caller, id, request).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("/calls/{id}"))], axum::Json(row)).into_response())
}

/// A call as it would be made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallPlan {
    /// Whom it would call.
    #[schema(value_type = String)]
    to: Address,
    /// The number that would be shown.
    #[schema(value_type = String)]
    from: Address,
    /// The provider section that would make it.
    provider: Box<str>,
    /// The queue whose agents would speak with the customer.
    #[schema(value_type = Option<String>)]
    queue_id: Option<QueueId>,
    /// The agent who would speak with the customer.
    #[schema(value_type = Option<String>)]
    agent_id: Option<AgentId>,
}

/// Tells how a call would be made, without making it: what `/calls/start` refuses is refused here too.
#[utoipa::path(post, path = "/calls/check", tag = "calls", request_body = StartCall, responses(
    (status = 200, body = CallPlan), (status = 422, description = "a value is not acceptable"),
))]
pub(super) async fn check_call(
    State(state): State<EdgeState>,
    caller: Caller,
    Json(request): Json<StartCall>,
) -> Result<axum::Json<CallPlan>, ApiError> {
    let DialRequest { provider, to, from, routing, agent, .. } = dial_request(&state, &caller, request)?;
    let queue_id = routing.map(|routing| routing.queue_id);
    let agent_id = agent.map(|(agent_id, _)| agent_id);
    Ok(axum::Json(CallPlan { to, from, provider, queue_id, agent_id }))
}

/// As whom a caller acts on a call: agents on their own calls, others on any.
pub(super) fn acting_as(caller: &Caller) -> Result<By, ApiError> {
    if caller.may(Permission::CallsSupervise) {
        return Ok(By::Operator);
    }
    let own = caller.agent_id.map(By::Agent);
    own.ok_or_else(|| ApiError::new(Code::Forbidden).detail("this user is no agent"))
}

async fn control(
    state: &EdgeState,
    caller: &Caller,
    id: CallId,
    control: Control,
) -> Result<axum::Json<Box<CallSummary>>, ApiError> {
    let by = acting_as(caller)?;
    let reply = state.engine.call(id, CallCommand::Control { by, control }).await?;
    done(reply).map(axum::Json)
}

/// Puts the customer on hold.
#[utoipa::path(post, path = "/calls/{id}/hold", tag = "calls", params(("id" = String, Path)), responses((status = 200, body = CallSummary)))]
pub(super) async fn hold(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<CallId>,
) -> Result<axum::Json<Box<CallSummary>>, ApiError> {
    control(&state, &caller, id, Control::Hold).await
}

/// Takes the customer back.
#[utoipa::path(post, path = "/calls/{id}/resume", tag = "calls", params(("id" = String, Path)), responses((status = 200, body = CallSummary)))]
pub(super) async fn resume(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<CallId>,
) -> Result<axum::Json<Box<CallSummary>>, ApiError> {
    control(&state, &caller, id, Control::Resume).await
}

/// Ends the call.
#[utoipa::path(post, path = "/calls/{id}/hangup", tag = "calls", params(("id" = String, Path)), responses((status = 200, body = CallSummary)))]
pub(super) async fn hangup(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<CallId>,
) -> Result<axum::Json<Box<CallSummary>>, ApiError> {
    control(&state, &caller, id, Control::Hangup).await
}

/// What a call was about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DispositionRequest {
    /// The chosen disposition.
    #[schema(value_type = Option<String>)]
    disposition_id: Option<DispositionId>,
    /// A free note.
    note: Option<Box<str>>,
}

/// Notes what the call was about.
#[utoipa::path(post, path = "/calls/{id}/disposition", tag = "calls", params(("id" = String, Path)), request_body = DispositionRequest, responses((status = 200, body = CallSummary)))]
pub(super) async fn dispose(
    State(state): State<EdgeState>,
    caller: Caller,
    Path(id): Path<CallId>,
    Json(DispositionRequest { disposition_id, note }): Json<DispositionRequest>,
) -> Result<axum::Json<Box<CallSummary>>, ApiError> {
    check_disposition(&state, disposition_id)?;
    if note.as_ref().is_some_and(|note| note.len() > LONGEST_NOTE) {
        return Err(ApiError::new(Code::Validation).at("/note", "must not be longer than 4000 bytes"));
    }
    control(&state, &caller, id, Control::Dispose { disposition_id, note }).await
}

/// Whether a disposition exists.
///
/// # Errors
/// When it does not.
pub(super) fn check_disposition(state: &EdgeState, id: Option<DispositionId>) -> Result<(), ApiError> {
    match id {
        Some(id) if !state.engine.directory().dispositions.contains_key(&id) => {
            Err(ApiError::new(Code::Validation).at("/disposition_id", "there is no such disposition"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The activity of this name, as it is set up.
///
/// # Errors
/// When there is none.
pub(super) fn activity(
    state: &EdgeState,
    name: &str,
    reason: Option<Box<str>>,
) -> Result<Activity, ApiError> {
    let directory = state.engine.directory();
    let known = directory.activities.get(name);
    let known =
        known.ok_or_else(|| ApiError::new(Code::Validation).at("/activity", "there is no such activity"))?;
    Ok(Activity { name: known.name.as_str().into(), available: known.available, reason })
}
