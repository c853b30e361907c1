//! The table and the journal, as far as they decide: each request is one transaction.

use crate::cluster::{Cluster, Seeded};
use crate::state::{Breach, Errand, Orphan, Run, SHARDS, Shards, State, Status, Write, has};

impl Cluster {
    /// The table.
    pub(crate) fn carry_out(&self, state: &mut State, run: Run, errand: Errand) {
        let is_living = state.is_living(run);
        match errand {
            Errand::Declare(of) => self.declare(state, of),
            Errand::Claim(shards) if is_living => {
                let is_forced = self.is(Seeded::ClaimFromLiving);
                let free =
                    |owner: Option<Run>| !owner.is_some_and(|owner| state.is_living(owner)) || is_forced;
                let got: Vec<usize> =
                    (0..SHARDS).filter(|shard| has(shards, *shard) && free(state.owners[*shard])).collect();
                for shard in got {
                    state.owners[shard] = Some(run);
                }
            }
            Errand::Hand { to, shards } if is_living => {
                let may = state.is_alive(to) || (self.is(Seeded::HandToDraining) && state.is_living(to));
                give(state, run, shards, Some(to).filter(|_| may).or(Some(run)));
            }
            Errand::Release(shards) => give(state, run, shards, None),
            Errand::Leave if is_living => state.rows[run.index()].status = Status::Left,
            Errand::Claim(_) | Errand::Hand { .. } | Errand::Leave => {}
        }
    }

    pub(crate) fn declare(&self, state: &mut State, of: Run) {
        let row = &mut state.rows[of.index()];
        let is_living = row.number == of.number && row.status.word().may_write();
        if is_living && (row.is_expired || self.is(Seeded::DeclareUnchecked)) {
            row.status = Status::Dead;
        }
    }

    /// The journal; false when the writer is told that it is fenced.
    pub(crate) fn append(&self, state: &mut State, run: Run, write: Write) -> bool {
        let is_living = state.is_living(run);
        if !is_living && !self.is(Seeded::SkipFence) {
            return false;
        }
        let length = &mut state.lengths[usize::from(write.shard)];
        let is_new = write.seq == *length;
        if is_new {
            *length += 1;
        } else if self.is(Seeded::AllowRepeats) {
            state.breach = Some(Breach::Overwritten);
        }
        if !is_living && (is_new || self.is(Seeded::AllowRepeats)) {
            state.breach = Some(Breach::FencedWrite);
        }
        true
    }

    /// Whether a late request can never change anything any more, so that it need not be remembered.
    /// The dead stay dead and streams only grow.
    pub(crate) fn is_spent(state: &State, orphan: Orphan) -> bool {
        match orphan {
            Orphan::Errand(_, Errand::Declare(of)) => !state.is_living(of),
            Orphan::Errand(run, _) => !state.is_living(run),
            Orphan::Write(run, write) => {
                !state.is_living(run) || write.seq < state.lengths[usize::from(write.shard)]
            }
        }
    }
}

/// Gives own shards away.
fn give(state: &mut State, from: Run, shards: Shards, to: Option<Run>) {
    for shard in (0..SHARDS).filter(|shard| has(shards, *shard)) {
        if state.owners[shard] == Some(from) {
            state.owners[shard] = to;
        }
    }
}
