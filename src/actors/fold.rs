//! An entity as its facts make it: the machine, its place in the journal, and what it was asked last.

use std::collections::VecDeque;

use super::entity::Host;
use crate::domain::id::CommandId;
use crate::domain::record::{EntityRef, FactRecord};
use crate::seeded::{self, Bug};
use crate::store::StoreError;

/// Questions that an entity remembers: far more than are ever under way for one at a time.
const REMEMBERED: usize = 8;

/// State is the fold of its facts.
pub(super) struct Fold<H> {
    pub(super) machine: H,
    pub(super) seq: u64,
    pub(super) inbox: Inbox,
}

impl<H: Host> Fold<H> {
    pub(super) fn of(id: EntityRef) -> Self {
        Self { machine: H::vacant(id), seq: 0, inbox: Inbox::default() }
    }

    /// Takes facts in that follow those before.
    pub(super) fn take(&mut self, facts: Vec<FactRecord>) -> Result<(), StoreError> {
        for record in facts {
            let fact = serde_json::from_str(record.body.get()).map_err(|_| StoreError::Corrupt {
                table: "facts",
                column: "body",
                id: record.id.to_string(),
            })?;
            self.machine.apply(&fact, record.at);
            self.seq = record.seq;
            self.inbox.note(record.cause);
        }
        Ok(())
    }
}

/// The last questions that led to facts; rebuilt from the journal, so that whoever takes the entity
/// over knows them too.
#[derive(Default)]
pub(super) struct Inbox(VecDeque<CommandId>);

impl Inbox {
    pub(super) fn knows(&self, cause: CommandId) -> bool {
        self.0.contains(&cause) && !seeded::has(Bug::ForgetInbox)
    }

    pub(super) fn note(&mut self, cause: Option<CommandId>) {
        let Some(cause) = cause.filter(|cause| self.0.back() != Some(cause)) else { return };
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(cause);
    }
}
