//! What clients may ask over a socket. Every command is idempotent: doing it twice does it once.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::auth::{self, Caller};
use super::super::calls::acting_as;
use super::super::calls::{self, StartCall};
use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::protocol::ClientFrame;
use crate::domain::agent::{AgentCommand, AgentReply};
use crate::domain::call::{CallCommand, CallReply, Control};
use crate::domain::id::{AgentId, CallId, DispositionId, OfferId};
use crate::domain::time::Millis;

/// What a command leads to on the connection itself.
pub(super) enum Done {
    /// An answer.
    Answer(Value),
    /// The client wants to hear of these topics from now on.
    Subscribed(Vec<String>),
    /// The client has everything up to here.
    Acknowledged,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferArguments {
    offer_id: OfferId,
    #[serde(default)]
    reason: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallArguments {
    call_id: CallId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DispositionArguments {
    call_id: CallId,
    #[serde(default)]
    disposition_id: Option<DispositionId>,
    #[serde(default)]
    note: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendArguments {
    call_id: CallId,
    by_ms: Millis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivityArguments {
    activity: String,
    #[serde(default)]
    reason: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicArguments {
    topics: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckArguments {
    #[serde(rename = "sequence")]
    _sequence: u64,
}

fn arguments<T: DeserializeOwned>(data: Value) -> Result<T, ApiError> {
    let data = if data.is_null() { json!({}) } else { data };
    serde_path_to_error::deserialize(data).map_err(|error| {
        ApiError::new(Code::Validation).detail(format!("data.{}: {}", error.path(), error.inner()))
    })
}

/// Carries out one command.
///
/// # Errors
/// As over HTTP.
pub(super) async fn carry_out(
    state: &EdgeState,
    caller: &Caller,
    frame: ClientFrame,
) -> Result<Done, ApiError> {
    let ClientFrame { id, kind, data } = frame;
    match auth::command(&kind) {
        Some(permission) if caller.may(permission) => {}
        Some(_) => return Err(ApiError::new(Code::Forbidden)),
        None => return Err(unknown(&kind)),
    }
    match kind.as_str() {
        "offer.accept" => {
            let OfferArguments { offer_id, .. } = arguments(data)?;
            agent(state, caller, AgentCommand::Accept { offer_id }).await
        }
        "offer.reject" => {
            let OfferArguments { offer_id, reason } = arguments(data)?;
            agent(state, caller, AgentCommand::Reject { offer_id, reason }).await
        }
        "agent.set_activity" => {
            let ActivityArguments { activity, reason } = arguments(data)?;
            let activity = calls::activity(state, &activity, reason)?;
            agent(state, caller, AgentCommand::SetActivity(activity)).await
        }
        "wrap_up.complete" => {
            let CallArguments { call_id } = arguments(data)?;
            agent(state, caller, AgentCommand::CompleteWrapUp { call_id }).await
        }
        "wrap_up.extend" => {
            let ExtendArguments { call_id, by_ms } = arguments(data)?;
            agent(state, caller, AgentCommand::ExtendWrapUp { call_id, by: by_ms }).await
        }
        "call.start" => {
            let request: StartCall = arguments(data)?;
            // The same command on another connection must not start a second call.
            let call_id = CallId::derived("socket", &format!("{}/{id}", caller.user_id));
            let row = calls::start(state, caller, call_id, request).await?;
            Ok(Done::Answer(serde_json::to_value(row).unwrap_or_default()))
        }
        "call.hold" | "call.resume" | "call.hangup" => {
            let CallArguments { call_id } = arguments(data)?;
            let control = match kind.as_str() {
                "call.hold" => Control::Hold,
                "call.resume" => Control::Resume,
                _ => Control::Hangup,
            };
            call(state, caller, call_id, control).await
        }
        "call.disposition" => {
            let DispositionArguments { call_id, disposition_id, note } = arguments(data)?;
            calls::check_disposition(state, disposition_id)?;
            call(state, caller, call_id, Control::Dispose { disposition_id, note }).await
        }
        "subscribe" => {
            let TopicArguments { topics } = arguments(data)?;
            Ok(Done::Subscribed(topics))
        }
        "ack" => {
            let AckArguments { .. } = arguments(data)?;
            Ok(Done::Acknowledged)
        }
        other => Err(unknown(other)),
    }
}

fn unknown(kind: &str) -> ApiError {
    ApiError::new(Code::NotFound).detail(format!("there is no command `{kind}`"))
}

fn own_agent(caller: &Caller) -> Result<AgentId, ApiError> {
    caller
        .agent_id
        .ok_or_else(|| ApiError::new(Code::Forbidden).detail("only agents have offers and activities"))
}

async fn agent(state: &EdgeState, caller: &Caller, command: AgentCommand) -> Result<Done, ApiError> {
    let answer = state.engine.agent(own_agent(caller)?, command).await?;
    Ok(Done::Answer(match answer {
        AgentReply::Done(snapshot) => {
            json!({ "sequence": snapshot.sequence, "routing_status": snapshot.routing_status })
        }
        AgentReply::Reserved { deadline } => json!({ "deadline": deadline }),
    }))
}

async fn call(state: &EdgeState, caller: &Caller, id: CallId, control: Control) -> Result<Done, ApiError> {
    let by = acting_as(caller)?;
    let answer = state.engine.call(id, CallCommand::Control { by, control }).await?;
    Ok(Done::Answer(match answer {
        CallReply::Done(row) => json!({ "call_id": row.id, "state": row.state }),
        CallReply::Document(_) => json!({ "call_id": id }),
    }))
}
