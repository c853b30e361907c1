//! The sample call centre of the demo: made on first run, kept with its secrets in the data folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Failure, user};
use crate::actors::Engine;
use crate::domain::address::Address;
use crate::domain::directory::{Agent, Disposition, Number, Queue, QueueOverflow, Skill, User};
use crate::domain::id::{AgentId, DispositionId, NumberId, QueueId, SkillId, UserId};
use crate::domain::identity::RoleName;
use crate::domain::queue::Strategy;
use crate::domain::time::{Clock, Millis};
use crate::edge::users;
use crate::store::StoreError;
use crate::store::records::{RecordKind, Records, StoredRecord};

/// Name of the file with what the demo made.
pub(super) const SAMPLE_FILE: &str = "demo.json";
/// Numbers that lead into the sample queues, in the range reserved for fiction.
pub(super) const NUMBERS: [&str; 2] = ["+12025550100", "+12025550101"];
/// Names of the first agents; further ones are numbered.
const NAMES: [&str; 8] = ["ana", "ben", "cho", "dee", "eli", "fay", "gus", "hal"];

/// What the demo made, and the secrets that go with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The admin's login.
    pub login: String,
    /// The password of the admin and of every sample agent.
    pub password: String,
    /// The account at the loopback carrier.
    pub account_sid: String,
    /// That account's secret.
    pub auth_token: String,
    /// Where the carrier of the running demo listens.
    pub carrier: String,
    /// Where the API of the running demo is.
    pub api: String,
    /// The admin's user.
    pub admin_id: UserId,
    /// The agents.
    pub agents: Vec<SampleAgent>,
}

/// A sample agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SampleAgent {
    /// The agent.
    pub agent_id: AgentId,
    /// The user it signs in as.
    pub user_id: UserId,
    /// Its name and login.
    pub name: String,
}

impl Sample {
    /// What an earlier run made.
    ///
    /// # Errors
    /// When there was none, or its file cannot be read.
    pub fn read(data_dir: &Path) -> Result<Self, Failure> {
        let path = data_dir.join(SAMPLE_FILE);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::dependency(format!("{}: {error}; start `eml demo` first", path.display()))
        })?;
        serde_json::from_str(&text).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    }

    /// What an earlier run made, or fresh secrets.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read_or_new(data_dir: &Path) -> Result<Self, Failure> {
        if data_dir.join(SAMPLE_FILE).exists() {
            return Self::read(data_dir);
        }
        let secret = || hex::encode(rand::random::<[u8; 16]>());
        Ok(Self {
            login: "admin".to_owned(),
            password: secret()[..16].to_owned(),
            account_sid: format!("AC{}", secret()),
            auth_token: secret(),
            carrier: String::new(),
            api: String::new(),
            admin_id: UserId::fresh(),
            agents: Vec::new(),
        })
    }

    /// Keeps it where only this user can read it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, data_dir: &Path) -> Result<(), Failure> {
        let path = data_dir.join(SAMPLE_FILE);
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::failed(error.to_string()))?;
        file.write_all(text.as_bytes()).map_err(failed)
    }

    /// Makes what is not there yet: queues, numbers, an admin, and this many agents.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_up(&mut self, engine: &Engine, agents: usize, cost: u32) -> Result<(), Failure> {
        let records = &*engine.stores().records;
        let queues = records.all(RecordKind::Queue).await?;
        let is_new = records.by_id(RecordKind::User, self.admin_id.uuid()).await?.is_none();
        if is_new {
            let password = self.password.clone();
            let login = self.login.clone();
            let hashed = tokio::task::spawn_blocking(move || {
                user::sample_user(&login, &password, RoleName::admin(), cost)
            });
            let admin = hashed.await.map_err(|error| Failure::failed(error.to_string()))??;
            users::insert(records, &User { id: self.admin_id, ..admin }, Clock.now()).await?;
        }
        if queues.is_empty() {
            set_up_queues(records).await?;
        }
        self.set_up_agents(records, agents).await?;
        Ok(engine.reload_directory().await?)
    }

    async fn set_up_agents(&mut self, records: &dyn Records, count: usize) -> Result<(), Failure> {
        let admin = records.by_id(RecordKind::User, self.admin_id.uuid()).await?;
        let admin: Option<User> = admin.and_then(|record| serde_json::from_value(record.body).ok());
        let password_hash = admin.map(|admin| admin.password_hash).unwrap_or_default();
        let queues: Vec<Queue> = documents(records, RecordKind::Queue).await?;
        let skills: Vec<Skill> = documents(records, RecordKind::Skill).await?;
        for i in self.agents.len()..count {
            let name = NAMES.get(i).map_or_else(|| format!("agent-{:04}", i + 1), |name| (*name).to_owned());
            let login = name.clone();
            let user = User {
                id: UserId::fresh(),
                login,
                name: name.clone(),
                email: None,
                email_verified: false,
                roles: [RoleName::agent()].into(),
                epoch: 0,
                password_hash: password_hash.clone(),
                enabled: true,
            };
            let level = u8::try_from(i % 5).unwrap_or_default() + 1;
            let agent = Agent {
                id: AgentId::fresh(),
                user_id: Some(user.id),
                name: name.clone(),
                address: Address::Client(name.as_str().into()),
                queue_ids: queues.iter().map(|queue| queue.id).collect(),
                skills: skills.iter().map(|skill| (skill.id, level)).collect(),
                voice_capacity: 1,
            };
            users::insert(records, &user, Clock.now()).await?;
            keep(records, RecordKind::Agent, agent.id.uuid(), &name, &agent).await?;
            self.agents.push(SampleAgent { agent_id: agent.id, user_id: user.id, name });
        }
        Ok(())
    }
}

async fn documents<T: serde::de::DeserializeOwned>(
    records: &dyn Records,
    kind: RecordKind,
) -> Result<Vec<T>, StoreError> {
    let stored = records.all(kind).await?;
    Ok(stored.into_iter().filter_map(|record| serde_json::from_value(record.body).ok()).collect())
}

async fn keep(
    records: &dyn Records,
    kind: RecordKind,
    id: uuid::Uuid,
    key: &str,
    document: &impl Serialize,
) -> Result<(), Failure> {
    let now = Clock.now();
    let body = serde_json::to_value(document).map_err(|error| Failure::failed(error.to_string()))?;
    let record = StoredRecord { id, key: key.to_owned(), body, version: 1, created_at: now, updated_at: now };
    Ok(records.insert(kind, record).await?)
}

/// Two queues with a number each, a skill and dispositions.
async fn set_up_queues(records: &dyn Records) -> Result<(), Failure> {
    let skill = Skill { id: SkillId::fresh(), name: "billing".to_owned() };
    keep(records, RecordKind::Skill, skill.id.uuid(), &skill.name, &skill).await?;
    for (i, (name, strategy)) in
        [("support", Strategy::LongestIdle), ("sales", Strategy::FewestCalls)].iter().enumerate()
    {
        let queue = Queue {
            id: QueueId::fresh(),
            name: (*name).to_owned(),
            strategy: *strategy,
            priority: 0,
            skills: std::collections::BTreeMap::new(),
            relax_after_ms: Vec::new(),
            ring_timeout_ms: Millis::from_secs(15),
            max_wait_ms: Millis::from_secs(1800),
            max_waiting: 0,
            overflow: QueueOverflow::Voicemail,
            wrap_up_ms: Millis::from_secs(30),
        };
        keep(records, RecordKind::Queue, queue.id.uuid(), name, &queue).await?;
        let number = Number {
            id: NumberId::fresh(),
            address: Address::reported(NUMBERS[i]),
            queue_id: queue.id,
            provider: None,
        };
        keep(records, RecordKind::Number, number.id.uuid(), NUMBERS[i], &number).await?;
    }
    for name in ["resolved", "follow-up", "wrong number"] {
        let disposition = Disposition { id: DispositionId::fresh(), name: name.to_owned() };
        keep(records, RecordKind::Disposition, disposition.id.uuid(), name, &disposition).await?;
    }
    Ok(())
}
