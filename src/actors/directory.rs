//! Reading the call centre's set-up from its records.

use serde::de::DeserializeOwned;

use crate::domain::directory::{
    ActivityRecord, Agent, Directory, Disposition, Number, Queue, RoleRecord, Skill,
};
use crate::store::StoreError;
use crate::store::records::{RecordKind, Records};

/// Reads everything.
///
/// # Errors
/// When the store cannot be read, or holds what this version does not understand.
pub(super) async fn read(records: &dyn Records) -> Result<Directory, StoreError> {
    let agents: Vec<Agent> = all(records, RecordKind::Agent).await?;
    let queues: Vec<Queue> = all(records, RecordKind::Queue).await?;
    let skills: Vec<Skill> = all(records, RecordKind::Skill).await?;
    let numbers: Vec<Number> = all(records, RecordKind::Number).await?;
    let activities: Vec<ActivityRecord> = all(records, RecordKind::Activity).await?;
    let dispositions: Vec<Disposition> = all(records, RecordKind::Disposition).await?;
    let roles: Vec<RoleRecord> = all(records, RecordKind::Role).await?;
    Ok(Directory {
        agents: agents.into_iter().map(|agent| (agent.id, agent)).collect(),
        queues: queues.into_iter().map(|queue| (queue.id, queue)).collect(),
        skills: skills.into_iter().map(|skill| (skill.id, skill)).collect(),
        numbers: numbers.into_iter().map(|number| (number.address.clone(), number)).collect(),
        activities: activities.into_iter().map(|activity| (activity.name.clone(), activity)).collect(),
        dispositions: dispositions.into_iter().map(|disposition| (disposition.id, disposition)).collect(),
        roles: roles.into_iter().map(|role| (role.name, role.permissions)).collect(),
    })
}

async fn all<T: DeserializeOwned>(records: &dyn Records, kind: RecordKind) -> Result<Vec<T>, StoreError> {
    let stored = records.all(kind).await?;
    stored
        .into_iter()
        .map(|record| {
            serde_json::from_value(record.body).map_err(|_| StoreError::Corrupt {
                table: "records",
                column: "body",
                id: record.id.to_string(),
            })
        })
        .collect()
}
