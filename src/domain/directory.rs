//! The call centre as it is set up: who works here, which queues, numbers, skills and activities.
//!
//! Plain documents, kept by the store and held in memory as one immutable snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Deserializer, Serialize};

use super::address::Address;
use super::call::{Overflow, Routing};
use super::id::{ActivityId, AgentId, DispositionId, NumberId, QueueId, SkillId, UserId};
use super::identity::{Email, PermissionSet, RoleName};
use super::queue::Strategy;
use super::time::Millis;

/// What a role may do, where that is not what comes with the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// Its name.
    pub name: RoleName,
    /// What it may do.
    pub permissions: PermissionSet,
}

/// A person or program that can sign in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique, lower case.
    pub login: String,
    /// Shown to others.
    pub name: String,
    /// Its e-mail address; no two users have the same.
    #[serde(default)]
    pub email: Option<Email>,
    /// Whether somebody has vouched for the address being its own: who made or invited it. Only then may
    /// the address alone tell who somebody is.
    #[serde(default)]
    pub email_verified: bool,
    /// What it is.
    #[serde(alias = "role", deserialize_with = "one_or_more")]
    pub roles: BTreeSet<RoleName>,
    /// Grows when its roles, password or second factor change or it is disabled: tokens of before are
    /// refused then.
    #[serde(default)]
    pub epoch: u64,
    /// How its password is kept; empty when it has none.
    pub password_hash: String,
    /// Whether it may sign in.
    pub enabled: bool,
}

impl User {
    /// Whether it may set everything up.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role.as_str() == RoleName::ADMIN)
    }
}

/// Reads roles as they are written, and the single one of before.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<RoleName>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(RoleName),
        More(BTreeSet<RoleName>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(role) => [role].into(),
        Written::More(roles) => roles,
    })
}

/// A person who takes calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id; also that of its session.
    pub id: AgentId,
    /// The user who signs in as this agent.
    pub user_id: Option<UserId>,
    /// Unique name.
    pub name: String,
    /// Where the agent's phone is.
    pub address: Address,
    /// The queues it serves.
    pub queue_ids: Vec<QueueId>,
    /// Proficiency from 1 to 5 per skill.
    pub skills: BTreeMap<SkillId, u8>,
    /// Voice calls at a time.
    pub voice_capacity: u8,
}

/// A place where calls wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// Unique name.
    pub name: String,
    /// How agents are chosen.
    pub strategy: Strategy,
    /// Priority of its calls.
    pub priority: i32,
    /// Least proficiency per skill that its calls ask for.
    pub skills: BTreeMap<SkillId, u8>,
    /// After each of these spans of waiting, one level less is asked; empty = never.
    pub relax_after_ms: Vec<Millis>,
    /// How long an offer rings.
    pub ring_timeout_ms: Millis,
    /// How long a call may wait.
    pub max_wait_ms: Millis,
    /// How many calls may wait; 0 = no limit.
    pub max_waiting: u32,
    /// What happens at either limit.
    pub overflow: QueueOverflow,
    /// How long after-call work may take.
    pub wrap_up_ms: Millis,
}

/// What a queue does with calls it cannot keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum QueueOverflow {
    /// Say so and hang up.
    Hangup,
    /// Take a message.
    Voicemail,
    /// Send them to another queue.
    Queue {
        /// That queue.
        #[schema(value_type = String)]
        queue_id: QueueId,
    },
}

/// A skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Skill {
    /// Its id.
    pub id: SkillId,
    /// Unique name.
    pub name: String,
}

/// An inbound number and where it leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// Its id.
    pub id: NumberId,
    /// The number or SIP address that is called, unique.
    pub address: Address,
    /// The queue it leads to.
    pub queue_id: QueueId,
    /// Name of the provider section that serves it; any when absent.
    pub provider: Option<String>,
}

/// An activity that agents can be in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityRecord {
    /// Its id.
    pub id: ActivityId,
    /// Unique name.
    pub name: String,
    /// Whether offers may come.
    pub available: bool,
}

/// What a call can have been about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disposition {
    /// Its id.
    pub id: DispositionId,
    /// Unique name.
    pub name: String,
}

/// Everything of the above, as one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Agents by id.
    pub agents: HashMap<AgentId, Agent>,
    /// Queues by id.
    pub queues: HashMap<QueueId, Queue>,
    /// Skills by id.
    pub skills: HashMap<SkillId, Skill>,
    /// Numbers by what is called.
    pub numbers: HashMap<Address, Number>,
    /// Activities by name.
    pub activities: HashMap<String, ActivityRecord>,
    /// Dispositions by id.
    pub dispositions: HashMap<DispositionId, Disposition>,
    /// What roles may do that are not as they come with the program.
    pub roles: HashMap<RoleName, PermissionSet>,
}

/// Queues an overflow may lead through; a circle ends here.
const OVERFLOW_DEPTH: usize = 4;

impl Directory {
    /// Where a called number leads, with everything the call must know about its queue.
    #[must_use]
    pub fn routing_for(&self, called: &Address) -> Option<Routing> {
        let number = self.numbers.get(called)?;
        self.routing_to(number.queue_id)
    }

    /// What a call must know about a queue.
    #[must_use]
    pub fn routing_to(&self, queue_id: QueueId) -> Option<Routing> {
        self.routing_within(queue_id, OVERFLOW_DEPTH)
    }

    fn routing_within(&self, queue_id: QueueId, depth: usize) -> Option<Routing> {
        let queue = self.queues.get(&queue_id)?;
        let overflow = match &queue.overflow {
            QueueOverflow::Hangup => Overflow::Hangup,
            QueueOverflow::Voicemail => Overflow::Voicemail,
            QueueOverflow::Queue { queue_id } => match depth.checked_sub(1) {
                Some(depth) => self
                    .routing_within(*queue_id, depth)
                    .map_or(Overflow::Hangup, |next| Overflow::Queue(Box::new(next))),
                None => Overflow::Hangup,
            },
        };
        Some(Routing {
            queue_id,
            queue_name: queue.name.as_str().into(),
            priority: queue.priority,
            skills: queue.skills.clone(),
            ring: queue.ring_timeout_ms,
            max_wait: queue.max_wait_ms,
            overflow,
            wrap_up: queue.wrap_up_ms,
        })
    }

    /// What somebody of these roles may do. An admin may do everything, whatever is stored.
    #[must_use]
    pub fn permissions_of<'a>(&self, roles: impl IntoIterator<Item = &'a RoleName>) -> PermissionSet {
        let of = |role: &RoleName| match self.roles.get(role) {
            Some(stored) if role.as_str() != RoleName::ADMIN => *stored,
            Some(_) | None => role.built_in(),
        };
        roles.into_iter().map(of).fold(PermissionSet::NONE, PermissionSet::union)
    }

    /// The agent whose phone is at this address.
    #[must_use]
    pub fn agent_at(&self, address: &Address) -> Option<&Agent> {
        self.agents.values().find(|agent| agent.address == *address)
    }

    /// The agent that a user signs in as.
    #[must_use]
    pub fn agent_of(&self, user: UserId) -> Option<&Agent> {
        self.agents.values().find(|agent| agent.user_id == Some(user))
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Permission;
    use super::*;

    fn role(name: &str) -> RoleName {
        name.parse().unwrap()
    }

    #[test]
    fn a_user_of_before_has_the_one_role_it_had() {
        let body = |roles: &str| {
            format!(
                r#"{{"id":"usr_01h455vb4pex5vsknk084sn02q","login":"ann","name":"Ann",{roles},"password_hash":"","enabled":true}}"#
            )
        };
        let before: User = serde_json::from_str(&body(r#""role":"supervisor""#)).unwrap();
        let now: User = serde_json::from_str(&body(r#""roles":["supervisor"]"#)).unwrap();
        assert_eq!(before, now);
        assert_eq!((before.roles, before.epoch), ([role("supervisor")].into(), 0));
    }

    #[test]
    fn stored_roles_count_before_those_of_the_program_except_for_admins() {
        let mut directory = Directory::default();
        let only_reads: PermissionSet = [Permission::CallsRead].into_iter().collect();
        for name in ["admin", "agent", "night-shift"] {
            directory.roles.insert(role(name), only_reads);
        }
        for (name, want) in [
            ("admin", PermissionSet::all()),
            ("agent", only_reads),
            ("night-shift", only_reads),
            ("supervisor", role("supervisor").built_in()),
            ("nobody", PermissionSet::NONE),
        ] {
            assert_eq!(directory.permissions_of(&[role(name)]), want, "{name}");
        }
        let both = directory.permissions_of(&[role("agent"), role("supervisor")]);
        assert_eq!(both, role("supervisor").built_in().union(only_reads));
    }
}
