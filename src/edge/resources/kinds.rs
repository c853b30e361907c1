//! What is special about each kind of thing that is set up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::resource::{Acts, Resource, acts};
use crate::domain::address::Address;
use crate::domain::directory::{
    ActivityRecord, Agent, Directory, Disposition, Number, Queue, QueueOverflow, Skill,
};
use crate::domain::id::{QueueId, SkillId};
use crate::store::records::RecordKind;

/// Longest name, in characters.
const LONGEST_NAME: usize = 100;

pub(super) struct Queues;
pub(super) struct Agents;
pub(super) struct Skills;
pub(super) struct Numbers;
pub(super) struct Activities;
pub(super) struct Dispositions;

fn check_name(name: &str) -> Result<(), ApiError> {
    let length = name.trim().chars().count();
    if (1..=LONGEST_NAME).contains(&length) {
        return Ok(());
    }
    Err(ApiError::new(Code::Validation).at("/name", "must be 1 to 100 characters"))
}

fn check_skills(skills: &BTreeMap<SkillId, u8>, directory: &Directory) -> Result<(), ApiError> {
    for (skill, level) in skills {
        if !directory.skills.contains_key(skill) {
            return Err(
                ApiError::new(Code::Validation).at(format!("/skills/{skill}"), "there is no such skill")
            );
        }
        if !(1..=5).contains(level) {
            return Err(ApiError::new(Code::Validation).at(format!("/skills/{skill}"), "must be 1 to 5"));
        }
    }
    Ok(())
}

fn check_queue(queue_id: QueueId, pointer: &str, directory: &Directory) -> Result<(), ApiError> {
    if directory.queues.contains_key(&queue_id) {
        return Ok(());
    }
    Err(ApiError::new(Code::QueueNotFound).at(pointer, "there is no such queue"))
}

impl Resource for Queues {
    const KIND: RecordKind = RecordKind::Queue;
    const PATH: &'static str = "queues";
    const ACTS: Acts = acts!("queue");
    type Document = Queue;

    fn id(queue: &Queue) -> Uuid {
        queue.id.uuid()
    }

    fn shown_id(queue: &Queue) -> String {
        queue.id.to_string()
    }

    fn key(queue: &Queue) -> String {
        queue.name.clone()
    }

    fn check(queue: &Queue, directory: &Directory) -> Result<(), ApiError> {
        check_name(&queue.name)?;
        check_skills(&queue.skills, directory)?;
        for (pointer, span) in
            [("/ring_timeout_ms", queue.ring_timeout_ms), ("/max_wait_ms", queue.max_wait_ms)]
        {
            if span.0 < 1_000 {
                return Err(ApiError::new(Code::Validation).at(pointer, "must be at least 1000"));
            }
        }
        if !queue.relax_after_ms.is_sorted() {
            return Err(ApiError::new(Code::Validation).at("/relax_after_ms", "must grow"));
        }
        match &queue.overflow {
            QueueOverflow::Queue { queue_id } if *queue_id == queue.id => {
                Err(ApiError::new(Code::Validation).at("/overflow/queue_id", "must be another queue"))
            }
            QueueOverflow::Queue { queue_id } => check_queue(*queue_id, "/overflow/queue_id", directory),
            QueueOverflow::Hangup | QueueOverflow::Voicemail => Ok(()),
        }
    }

    fn used_by(queue: &Queue, directory: &Directory) -> Option<String> {
        let agent = directory.agents.values().find(|agent| agent.queue_ids.contains(&queue.id));
        let number = directory.numbers.values().find(|number| number.queue_id == queue.id);
        let leads_to = |other: &&Queue| other.overflow == QueueOverflow::Queue { queue_id: queue.id };
        let other = directory.queues.values().find(leads_to);
        agent
            .map(|agent| format!("agent {}", agent.name))
            .or_else(|| number.map(|number| format!("number {}", number.address)))
            .or_else(|| other.map(|other| format!("queue {}", other.name)))
    }
}

impl Resource for Agents {
    const KIND: RecordKind = RecordKind::Agent;
    const PATH: &'static str = "agents";
    const ACTS: Acts = acts!("agent");
    type Document = Agent;

    fn id(agent: &Agent) -> Uuid {
        agent.id.uuid()
    }

    fn shown_id(agent: &Agent) -> String {
        agent.id.to_string()
    }

    fn key(agent: &Agent) -> String {
        agent.name.clone()
    }

    fn check(agent: &Agent, directory: &Directory) -> Result<(), ApiError> {
        check_name(&agent.name)?;
        check_skills(&agent.skills, directory)?;
        for (i, queue_id) in agent.queue_ids.iter().enumerate() {
            check_queue(*queue_id, &format!("/queue_ids/{i}"), directory)?;
        }
        if matches!(agent.address, Address::Word(_)) {
            return Err(ApiError::new(Code::NumberNotE164)
                .at("/address", "must be +E.164, client:NAME or sip:ADDRESS"));
        }
        if !(1..=10).contains(&agent.voice_capacity) {
            return Err(ApiError::new(Code::Validation).at("/voice_capacity", "must be 1 to 10"));
        }
        Ok(())
    }

    fn used_by(_: &Agent, _: &Directory) -> Option<String> {
        None
    }

    fn view(agent: &Agent, state: &EdgeState) -> Value {
        let mut view = serde_json::to_value(agent).unwrap_or_default();
        let snapshot = state.engine.agent_snapshot(agent.id);
        let calls = snapshot.as_ref().map(|snapshot| {
            let engaged = snapshot.calls.iter().filter(|call| call.wrap_up_until.is_none());
            engaged.map(|call| call.call.id.to_string()).collect::<Vec<_>>()
        });
        view["activity"] = snapshot.as_ref().map_or(json!("offline"), |known| json!(known.activity.name));
        view["activity_reason"] = snapshot.as_ref().map_or(Value::Null, |known| json!(known.activity.reason));
        view["available"] = json!(snapshot.as_ref().is_some_and(|known| known.activity.available));
        view["connected"] = json!(snapshot.as_ref().is_some_and(|known| known.connected));
        view["routing_status"] =
            snapshot.as_ref().map_or(json!("off_queue"), |known| json!(known.routing_status));
        view["current_call_ids"] = json!(calls.unwrap_or_default());
        view
    }
}

impl Resource for Skills {
    const KIND: RecordKind = RecordKind::Skill;
    const PATH: &'static str = "skills";
    const ACTS: Acts = acts!("skill");
    type Document = Skill;

    fn id(skill: &Skill) -> Uuid {
        skill.id.uuid()
    }

    fn shown_id(skill: &Skill) -> String {
        skill.id.to_string()
    }

    fn key(skill: &Skill) -> String {
        skill.name.clone()
    }

    fn check(skill: &Skill, _: &Directory) -> Result<(), ApiError> {
        check_name(&skill.name)
    }

    fn used_by(skill: &Skill, directory: &Directory) -> Option<String> {
        let agent = directory.agents.values().find(|agent| agent.skills.contains_key(&skill.id));
        let queue = directory.queues.values().find(|queue| queue.skills.contains_key(&skill.id));
        agent
            .map(|agent| format!("agent {}", agent.name))
            .or_else(|| queue.map(|queue| format!("queue {}", queue.name)))
    }
}

impl Resource for Numbers {
    const KIND: RecordKind = RecordKind::Number;
    const PATH: &'static str = "numbers";
    const ACTS: Acts = acts!("number");
    type Document = Number;

    fn id(number: &Number) -> Uuid {
        number.id.uuid()
    }

    fn shown_id(number: &Number) -> String {
        number.id.to_string()
    }

    fn key(number: &Number) -> String {
        number.address.to_string()
    }

    fn check(number: &Number, directory: &Directory) -> Result<(), ApiError> {
        if !matches!(number.address, Address::Number(_) | Address::Sip(_)) {
            return Err(ApiError::new(Code::NumberNotE164).at("/address", "must be +E.164 or sip:ADDRESS"));
        }
        check_queue(number.queue_id, "/queue_id", directory)
    }

    fn used_by(_: &Number, _: &Directory) -> Option<String> {
        None
    }
}

impl Resource for Activities {
    const KIND: RecordKind = RecordKind::Activity;
    const PATH: &'static str = "activities";
    const ACTS: Acts = acts!("activity");
    type Document = ActivityRecord;

    fn id(activity: &ActivityRecord) -> Uuid {
        activity.id.uuid()
    }

    fn shown_id(activity: &ActivityRecord) -> String {
        activity.id.to_string()
    }

    fn key(activity: &ActivityRecord) -> String {
        activity.name.clone()
    }

    fn check(activity: &ActivityRecord, _: &Directory) -> Result<(), ApiError> {
        check_name(&activity.name)
    }

    fn used_by(_: &ActivityRecord, _: &Directory) -> Option<String> {
        None
    }
}

impl Resource for Dispositions {
    const KIND: RecordKind = RecordKind::Disposition;
    const PATH: &'static str = "dispositions";
    const ACTS: Acts = acts!("disposition");
    type Document = Disposition;

    fn id(disposition: &Disposition) -> Uuid {
        disposition.id.uuid()
    }

    fn shown_id(disposition: &Disposition) -> String {
        disposition.id.to_string()
    }

    fn key(disposition: &Disposition) -> String {
        disposition.name.clone()
    }

    fn check(disposition: &Disposition, _: &Directory) -> Result<(), ApiError> {
        check_name(&disposition.name)
    }

    fn used_by(_: &Disposition, _: &Directory) -> Option<String> {
        None
    }
}
