//! What becomes of a state when the faults stop: the one property that is about the future.

use std::hash::{DefaultHasher, Hash, Hasher};

use eml::domain::placement::owner_of;

use crate::cluster::{Cluster, Step};
use crate::state::{Member, NODES, Run, SHARDS, Seen, State};

impl Cluster {
    /// The next step when there are no more faults and nobody starts anything.
    fn calm(&self, state: &State) -> Option<State> {
        let nodes = || (0..NODES).filter(|node| state.members[*node].is_up);
        let held = || nodes().filter(|node| state.members[*node].is_held);
        let sent = nodes().find_map(|node| match state.members[node] {
            Member { errand: Some(_), .. } => Some(Step::Errand(node)),
            Member { write: Some(_), .. } => Some(Step::Fact(node)),
            _ => None,
        });
        let frozen = || nodes().find(|node| !state.members[*node].is_held).map(Step::Renew);
        let look = || {
            held().find_map(|node| {
                let mut steps = Vec::new();
                self.moves(state, node, &mut steps);
                steps.into_iter().find(|step| matches!(step, Step::Look(..) | Step::Declare { .. }))
            })
        };
        let expiring = |node: &usize| {
            !state.members[*node].is_up && state.is_living(state.run(*node)) && !state.rows[*node].is_expired
        };
        let expired = || (0..NODES).find(expiring).map(Step::Expire);
        Some(self.after(state, sent.or_else(frozen).or_else(look).or_else(expired)?))
    }

    /// Whether a state in calm comes to rest with every shard running where it belongs. Each state on the
    /// way is one of the model's own, so that each is looked at once.
    pub(crate) fn settles(&self, state: &State) -> bool {
        const LONGEST: usize = 100;
        let (mut path, mut current) = (Vec::new(), state.clone());
        loop {
            let mut hasher = DefaultHasher::new();
            current.hash(&mut hasher);
            let hash = hasher.finish();
            if self.settling.lock().unwrap().contains(&hash) {
                break;
            }
            path.push(hash);
            match self.calm(&current) {
                Some(next) if path.len() < LONGEST => current = next,
                Some(_) => return false,
                None if is_at_rest(&current) => break,
                None => return false,
            }
        }
        self.settling.lock().unwrap().extend(path);
        true
    }
}

/// Whether every shard runs where it belongs, unless no node is up.
fn is_at_rest(state: &State) -> bool {
    let view = Seen { rows: state.rows, owners: state.owners }.view();
    let is_placed = |shard: usize| {
        let wanted = owner_of(shard.try_into().unwrap(), &view.nodes).map(Run::from);
        wanted.is_some()
            && state.owners[shard] == wanted
            && wanted.is_some_and(|run| {
                state.members[run.index()].is_up && state.members[run.index()].runs[shard].is_some()
            })
    };
    (0..SHARDS).all(is_placed) || state.members.iter().all(|member| !member.is_up)
}
