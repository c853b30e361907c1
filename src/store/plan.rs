//! Which appends of a batch may be stored: the rule that every journal product follows.

use std::collections::HashMap;

use super::error::StoreError;
use super::journal::{Append, AppendOutcome};
use crate::domain::record::{EntityKind, EntityRef, Summary};

/// The last fact numbers of the entities of a batch, as they are while the batch is stored.
#[derive(Debug, Default)]
pub(super) struct Heads(HashMap<EntityRef, u64>);

impl Heads {
    /// Notes the last number the store holds for an entity; entities not noted are new.
    pub(super) fn note(&mut self, entity: EntityRef, seq: u64) {
        self.0.insert(entity, seq);
    }

    /// The last number of an entity, 0 when it is new.
    pub(super) fn seq(&self, entity: EntityRef) -> u64 {
        self.0.get(&entity).copied().unwrap_or_default()
    }

    /// What becomes of an append that comes next.
    pub(super) fn outcome(&self, append: &Append) -> AppendOutcome {
        let found_seq = self.seq(append.entity);
        if found_seq == append.after_seq {
            AppendOutcome::Stored
        } else {
            AppendOutcome::Conflict { found_seq }
        }
    }

    /// Moves the head of the entity behind the facts of a stored append.
    pub(super) fn advance(&mut self, append: &Append) {
        self.note(append.entity, append.after_seq.saturating_add(append.facts.len() as u64));
    }
}

/// Refuses a batch that no writer of ours may send: gaps in the numbers, or facts, a summary or a
/// state of another entity.
pub(super) fn check(batch: &[Append]) -> Result<(), StoreError> {
    for append in batch {
        let entity = append.entity;
        for (fact, seq) in append.facts.iter().zip(append.after_seq.saturating_add(1)..) {
            if fact.entity != entity || fact.seq != seq {
                return Err(refusal(entity, "its facts must follow each other without gaps"));
            }
        }
        let fits = match (&append.summary, entity.kind) {
            (Summary::Call(call), EntityKind::Call) => call.id.uuid() == entity.id,
            (Summary::Agent { .. }, EntityKind::Agent) => true,
            (Summary::Unchanged { .. }, EntityKind::Call | EntityKind::Agent) => append.after_seq > 0,
            (Summary::Call(_), EntityKind::Agent) | (Summary::Agent { .. }, EntityKind::Call) => false,
        };
        if !fits {
            return Err(refusal(entity, "its summary belongs to something else"));
        }
    }
    Ok(())
}

fn refusal(entity: EntityRef, why: &str) -> StoreError {
    StoreError::Refused(format!("append to {entity}: {why}"))
}
