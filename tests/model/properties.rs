//! What must hold in every state, and what must occur in some for the check to mean anything.

use stateright::Property;

use crate::cluster::Cluster;
use crate::state::{Breach, NODES, Orphan, SHARDS, State};

pub(crate) const FENCE: &str = "no write of a fenced run is accepted";
pub(crate) const FACTS: &str = "no fact that was accepted is ever lost or replaced";
pub(crate) const ONE_WRITER: &str = "no shard runs on two living runs";
pub(crate) const ONE_ACTOR: &str = "no shard runs on two nodes that believe in their lease";
pub(crate) const SETTLES: &str = "when faults stop, every shard comes to run where it belongs";

pub(crate) fn all(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let mut all = vec![
        Property::always(FENCE, |_, state: &State| state.breach != Some(Breach::FencedWrite)),
        Property::always(FACTS, |_, state: &State| state.breach != Some(Breach::Overwritten)),
        Property::always(ONE_WRITER, |_, state: &State| {
            runs_once(state, |node| state.is_living(state.run(node)))
        }),
        Property::always(SETTLES, Cluster::settles),
    ];
    if cluster.budget.lies == 0 {
        // A machine that refuses connections although the process lives makes others declare it dead
        // before its lease is over. Then only the fence holds, which is what it is for.
        all.push(Property::always(ONE_ACTOR, |_, state: &State| {
            runs_once(state, |node| state.members[node].is_held)
        }));
    }
    if let Some(only) = cluster.only {
        all.retain(|property| property.name == only);
    } else {
        all.extend(occurrences(cluster));
    }
    all
}

fn occurrences(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let mut all = vec![
        Property::sometimes(
            "a shard is taken over from a node that was declared dead",
            |_, state: &State| (0..SHARDS).any(|shard| state.members[2].runs[shard].is_some()),
        ),
        Property::sometimes("a transfer is under way", |_, state: &State| {
            state.members.iter().any(|member| member.limbo.iter().any(Option::is_some))
        }),
    ];
    if cluster.budget.crashes > 0 {
        all.push(Property::sometimes("a shard comes home to a later run", |_, state: &State| {
            state.owners[0]
                .is_some_and(|run| run.node == 0 && run.number > 1 && state.members[0].runs[0] == Some(1))
        }));
    }
    if cluster.budget.pauses > 0 {
        all.push(Property::sometimes(
            "a frozen run was replaced while its request was on the wire",
            |_, state: &State| {
                (0..NODES).any(|node| {
                    let member = state.members[node];
                    member.write.is_some_and(|write| {
                        let owner = state.owners[usize::from(write.shard)];
                        !member.is_held && owner.is_some_and(|owner| owner.index() != node)
                    })
                })
            },
        ));
    }
    if cluster.budget.losses > 0 {
        all.push(Property::sometimes(
            "a write of a living run is late while the shard runs elsewhere",
            |_, state: &State| {
                state.orphans.iter().any(|orphan| match orphan {
                    Orphan::Write(run, write) => {
                        let shard = usize::from(write.shard);
                        let is_moved = state.owners[shard].is_some_and(|owner| owner != *run);
                        state.is_living(*run) && is_moved && state.lengths[shard] == write.seq
                    }
                    Orphan::Errand(..) => false,
                })
            },
        ));
    }
    all
}

/// Whether each shard runs on at most one of the chosen nodes.
fn runs_once(state: &State, is_chosen: impl Fn(usize) -> bool) -> bool {
    (0..SHARDS).all(|shard| {
        let runs = |node: &usize| state.members[*node].runs[shard].is_some() && is_chosen(*node);
        (0..NODES).filter(runs).count() <= 1
    })
}
