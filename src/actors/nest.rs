//! The children of one kind in one shard: finding, starting, restarting, putting aside, parking.

use std::collections::HashMap;

use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime};

use super::engine::Engine;
use super::entity::{Args, EntityActor, EntityMessage, Host};
use super::error::AskError;
use super::shard::ShardRef;
use crate::domain::record::EntityRef;
use crate::domain::restart::{FailureHistory, RestartPolicy, Verdict};
use crate::domain::time::{Millis, Timestamp};

/// How long an actor whose thing is over stays for late news.
const LINGER: Millis = Millis::from_secs(2);

struct Child<H: Host> {
    actor: ActorRef<EntityMessage<H>>,
    sent: u64,
    last_used: Timestamp,
    is_final: bool,
}

/// The children of one kind.
pub(super) struct Nest<H: Host> {
    children: HashMap<EntityRef, Child<H>>,
    failures: HashMap<EntityRef, FailureHistory>,
    aside: HashMap<EntityRef, Timestamp>,
    policy: RestartPolicy,
}

/// What a nest wants its shard to do after a failure.
pub(super) enum AfterFailure {
    /// The actor was not one of this nest.
    NotMine,
    /// Start the entity again at this time.
    StartAt(EntityRef, Timestamp),
}

impl<H: Host> Default for Nest<H> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            failures: HashMap::new(),
            aside: HashMap::new(),
            policy: RestartPolicy::default(),
        }
    }
}

impl<H: Host> Nest<H> {
    /// Hands a message to an entity; starts it if it is not in memory.
    pub(super) async fn deliver(
        &mut self,
        id: EntityRef,
        message: EntityMessage<H>,
        shard: (&ShardRef, ActorCell),
        engine: &Engine,
    ) {
        let now = engine.clock().now();
        if self.aside.get(&id).is_some_and(|until| *until > now) {
            refuse(message);
            return;
        }
        if self.aside.remove(&id).is_some() {
            engine.metrics().actor_released(kind_word(id));
        }
        if !self.children.contains_key(&id) && !self.start(id, shard, engine, now).await {
            return;
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.sent += 1;
            if !matches!(message, EntityMessage::MayPark) {
                child.last_used = now;
                child.is_final = false;
            }
            if child.actor.cast(message).is_err() {
                tracing::debug!(entity = %id, "message met a stopped actor");
            }
        }
    }

    async fn start(
        &mut self,
        id: EntityRef,
        (shard, cell): (&ShardRef, ActorCell),
        engine: &Engine,
        now: Timestamp,
    ) -> bool {
        let args = Args { id, shard: shard.clone(), engine: engine.clone() };
        match ActorRuntime::spawn_linked(None, EntityActor::<H>::default(), args, cell).await {
            Ok((actor, _)) => {
                engine.metrics().actor_started(kind_word(id));
                self.children.insert(id, Child { actor, sent: 0, last_used: now, is_final: false });
                true
            }
            Err(error) => {
                tracing::error!(entity = %id, %error, "actor did not start");
                let at = self.record_failure(id, engine, now);
                shard.note(super::shard::Bookkeeping::Arm { id, at: Some(at) });
                false
            }
        }
    }

    /// A child failed. Its siblings never notice.
    pub(super) fn failed(&mut self, actor: ActorId, engine: &Engine) -> AfterFailure {
        let found = self.children.iter().find(|(_, child)| child.actor.get_id() == actor).map(|(id, _)| *id);
        let Some(id) = found else { return AfterFailure::NotMine };
        self.children.remove(&id);
        engine.metrics().actor_stopped(kind_word(id));
        let now = engine.clock().now();
        AfterFailure::StartAt(id, self.record_failure(id, engine, now))
    }

    fn record_failure(&mut self, id: EntityRef, engine: &Engine, now: Timestamp) -> Timestamp {
        engine.metrics().actor_restarted(kind_word(id));
        match self.failures.entry(id).or_default().record(&self.policy, now) {
            Verdict::Restart(delay) => now + delay,
            Verdict::Quarantine(until) => {
                tracing::error!(entity = %id, %until, "actor fails again and again and is put aside");
                engine.metrics().actor_quarantined(kind_word(id));
                self.aside.insert(id, until);
                until
            }
        }
    }

    /// Whether a child with this actor is here, for an end that was no failure.
    pub(super) fn ended(&mut self, actor: ActorId, engine: &Engine) {
        let before = self.children.len();
        let mut gone = None;
        self.children.retain(|id, child| {
            let stays = child.actor.get_id() != actor;
            if !stays {
                gone = Some(*id);
            }
            stays
        });
        if let (true, Some(id)) = (self.children.len() < before, gone) {
            engine.metrics().actor_stopped(kind_word(id));
        }
    }

    /// Asks children that were not used for a while whether they may leave memory.
    pub(super) fn sweep(&mut self, now: Timestamp, idle: Millis) {
        self.failures.retain(|id, _| self.children.contains_key(id) || self.aside.contains_key(id));
        for child in self.children.values_mut() {
            let limit = if child.is_final { LINGER } else { idle };
            if now.since(child.last_used) >= limit {
                child.sent += 1;
                let _ = child.actor.cast(EntityMessage::MayPark);
            }
        }
    }

    /// A child may leave memory; it does if nothing was sent to it since it said so.
    pub(super) fn park(&mut self, id: EntityRef, actor: ActorId, handled: u64, engine: &Engine) {
        let Some(child) = self.children.get(&id) else { return };
        if child.actor.get_id() == actor && child.sent == handled {
            child.actor.stop(None);
            self.children.remove(&id);
            engine.metrics().actor_stopped(kind_word(id));
        }
    }

    /// Lets all children finish what they have, and end.
    pub(super) fn dismiss(&mut self) {
        for child in self.children.values_mut() {
            child.sent += 1;
            let _ = child.actor.cast(EntityMessage::Leave);
        }
    }

    /// Sends something to every child in memory.
    pub(super) fn tell_all(&mut self, message: impl Fn() -> EntityMessage<H>) {
        for child in self.children.values_mut() {
            child.sent += 1;
            let _ = child.actor.cast(message());
        }
    }

    /// Notes that a child's thing is over, so that it need not stay long.
    pub(super) fn set_final(&mut self, id: EntityRef) {
        if let Some(child) = self.children.get_mut(&id) {
            child.is_final = true;
        }
    }

    /// Children in memory.
    pub(super) fn len(&self) -> usize {
        self.children.len()
    }
}

fn refuse<H: Host>(message: EntityMessage<H>) {
    match message {
        EntityMessage::Ask { reply, .. } => {
            let _ = reply.send(Err(AskError::Quarantined));
        }
        EntityMessage::Tell { .. }
        | EntityMessage::Wake
        | EntityMessage::Resume(_)
        | EntityMessage::Leave
        | EntityMessage::Side(_)
        | EntityMessage::MayPark => {}
    }
}

fn kind_word(id: EntityRef) -> &'static str {
    match id.kind {
        crate::domain::record::EntityKind::Call => "call",
        crate::domain::record::EntityKind::Agent => "agent",
    }
}
