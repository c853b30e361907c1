//! What is asked to set something up; what is left out gets the configured default.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::By;
use super::super::auth::passwords::Password;
use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::super::users::{self, Newcomer};
use crate::domain::address::Address;
use crate::domain::directory::{ActivityRecord, Agent, Disposition, Number, Queue, QueueOverflow, Skill};
use crate::domain::id::{ActivityId, AgentId, DispositionId, NumberId, QueueId, SkillId, UserId};
use crate::domain::identity::{Login, RoleName};
use crate::domain::queue::Strategy;
use crate::domain::time::Millis;

/// A new queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewQueue {
    /// Unique name.
    name: String,
    /// How agents are chosen; `longest_idle` when absent.
    #[serde(default)]
    strategy: Strategy,
    /// Priority of its calls; higher goes first.
    #[serde(default)]
    priority: i32,
    /// Least proficiency (1 to 5) per skill.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u8>)]
    skills: BTreeMap<SkillId, u8>,
    /// After each of these spans of waiting, one level less is asked.
    #[serde(default)]
    #[schema(value_type = Vec<u64>)]
    relax_after_ms: Vec<Millis>,
    /// How long an offer rings.
    #[schema(value_type = Option<u64>)]
    ring_timeout_ms: Option<Millis>,
    /// How long a call may wait.
    #[schema(value_type = Option<u64>)]
    max_wait_ms: Option<Millis>,
    /// How many calls may wait; 0 = no limit.
    #[serde(default)]
    max_waiting: u32,
    /// What happens at either limit; hang up when absent.
    overflow: Option<QueueOverflow>,
    /// How long after-call work may take.
    #[schema(value_type = Option<u64>)]
    wrap_up_ms: Option<Millis>,
}

impl NewQueue {
    #[expect(clippy::unused_async, reason = "all kinds are built alike, and some must wait")]
    pub(super) async fn build(self, state: &EdgeState, _: &By) -> Result<Queue, ApiError> {
        let settings = &state.settings;
        Ok(Queue {
            id: QueueId::fresh(),
            name: self.name,
            strategy: self.strategy,
            priority: self.priority,
            skills: self.skills,
            relax_after_ms: self.relax_after_ms,
            ring_timeout_ms: self.ring_timeout_ms.unwrap_or(settings.default_ring),
            max_wait_ms: self.max_wait_ms.unwrap_or(settings.default_max_wait),
            max_waiting: self.max_waiting,
            overflow: self.overflow.unwrap_or(QueueOverflow::Hangup),
            wrap_up_ms: self.wrap_up_ms.unwrap_or(settings.default_wrap_up),
        })
    }
}

/// A new agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAgent {
    /// Unique name.
    name: String,
    /// Where the agent's phone is: `+E.164`, `client:NAME` or `sip:ADDRESS`.
    address: String,
    /// The user who signs in as this agent.
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// Makes a user of role `agent` for it, together with `password`.
    #[schema(value_type = Option<String>)]
    login: Option<Login>,
    /// That user's password.
    password: Option<Password>,
    /// The queues it serves.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    queue_ids: Vec<QueueId>,
    /// Proficiency from 1 to 5 per skill.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u8>)]
    skills: BTreeMap<SkillId, u8>,
    /// Voice calls at a time; 1 when absent.
    voice_capacity: Option<u8>,
}

impl NewAgent {
    pub(super) async fn build(self, state: &EdgeState, by: &By) -> Result<Agent, ApiError> {
        let address = Address::dialable(&self.address).map_err(|_| {
            ApiError::new(Code::NumberNotE164).at("/address", "must be +E.164, client:NAME or sip:ADDRESS")
        })?;
        let user_id = match (self.login, self.password, self.user_id) {
            (Some(login), Some(password), None) => {
                let name = self.name.parse().ok();
                let roles = [RoleName::agent()].into();
                let newcomer = Newcomer { login, password, name, email: None, roles };
                Some(users::make(state, by, newcomer).await?.id)
            }
            (None, None, user_id) => user_id,
            (Some(_), _, _) | (None, Some(_), _) => {
                return Err(ApiError::new(Code::Validation)
                    .at("/login", "login and password go together, and without user_id"));
            }
        };
        Ok(Agent {
            id: AgentId::fresh(),
            user_id,
            name: self.name,
            address,
            queue_ids: self.queue_ids,
            skills: self.skills,
            voice_capacity: self.voice_capacity.unwrap_or(1),
        })
    }
}

/// A new skill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSkill {
    /// Unique name.
    name: String,
}

impl NewSkill {
    #[expect(clippy::unused_async, reason = "all kinds are built alike, and some must wait")]
    pub(super) async fn build(self, _: &EdgeState, _: &By) -> Result<Skill, ApiError> {
        Ok(Skill { id: SkillId::fresh(), name: self.name })
    }
}

/// A new inbound number.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNumber {
    /// The number or SIP address that is called; also accepted as `number`.
    #[serde(alias = "number")]
    address: String,
    /// The queue it leads to.
    #[schema(value_type = String)]
    queue_id: QueueId,
    /// The provider section that serves it; any when absent.
    provider: Option<String>,
}

impl NewNumber {
    #[expect(clippy::unused_async, reason = "all kinds are built alike, and some must wait")]
    pub(super) async fn build(self, state: &EdgeState, _: &By) -> Result<Number, ApiError> {
        if let Some(named) = self.provider.as_ref().filter(|named| !state.settings.providers.contains(named))
        {
            return Err(
                ApiError::new(Code::NoProvider).at("/provider", format!("there is no provider `{named}`"))
            );
        }
        let address = Address::reported(&self.address);
        Ok(Number { id: NumberId::fresh(), address, queue_id: self.queue_id, provider: self.provider })
    }
}

/// A new activity.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewActivity {
    /// Unique name.
    name: String,
    /// Whether offers may come.
    available: bool,
}

impl NewActivity {
    #[expect(clippy::unused_async, reason = "all kinds are built alike, and some must wait")]
    pub(super) async fn build(self, _: &EdgeState, _: &By) -> Result<ActivityRecord, ApiError> {
        Ok(ActivityRecord { id: ActivityId::fresh(), name: self.name, available: self.available })
    }
}

/// A new disposition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDisposition {
    /// Unique name.
    name: String,
}

impl NewDisposition {
    #[expect(clippy::unused_async, reason = "all kinds are built alike, and some must wait")]
    pub(super) async fn build(self, _: &EdgeState, _: &By) -> Result<Disposition, ApiError> {
        Ok(Disposition { id: DispositionId::fresh(), name: self.name })
    }
}
