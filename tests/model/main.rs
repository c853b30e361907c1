//! A model of lease, fence, claim and handover, checked over all its states.
//!
//! Three nodes, two shards with one entity each. Processes crash and start again as a later run, freeze and
//! wake up late, are cut off, drain; requests are lost or arrive after anything else; leases run out whenever
//! their holder does not believe in them any more, without any clock. What a node does about what it sees is
//! decided by the code that ships ([`eml::cluster::plan`], [`eml::domain::placement`]).
//!
//! Each seeded fault breaks one rule and must be found.

#![expect(clippy::unwrap_used, reason = "test code")]

mod calm;
mod cluster;
mod properties;
mod state;
mod store;

use std::time::Instant;

use stateright::{Checker, Model};

use cluster::{Cluster, Seeded};
use properties::{FACTS, FENCE, ONE_ACTOR, ONE_WRITER, SETTLES};
use state::Budget;

const NO_FAULTS: Budget = Budget { crashes: 0, pauses: 0, losses: 0, drains: 0, lies: 0 };

/// Checks every state, and that none was left out.
fn check(budget: Budget, facts: [u8; 2], at_least: usize) {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cluster = Cluster::new(budget, facts);
    let checker = cluster.checker().threads(threads).spawn_bfs().join();
    println!(
        "{budget:?}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    assert!(checker.is_done(), "the check did not come to its end");
    checker.assert_properties();
    assert!(checker.unique_state_count() >= at_least, "the model has lost states");
}

/// Checks until what must be found is found.
fn find(seeded: Seeded, budget: Budget, expected: &'static str) {
    let checker = Cluster::broken(budget, seeded, expected).checker().spawn_bfs().join();
    let path = checker.discovery(expected).unwrap_or_else(|| panic!("{seeded:?} was not found"));
    println!("{seeded:?} after {} states: {:?}", checker.unique_state_count(), path.into_actions());
}

#[test]
fn placement_of_the_model_is_as_its_comments_say() {
    for shard in 0..2_u16 {
        let mut rows = state::State::settled(NO_FAULTS).rows;
        for turn in 0..3 {
            let seen = state::Seen { rows, owners: [None; 2] };
            let view = seen.view();
            let owner = eml::domain::placement::owner_of(shard, &view.nodes).map(state::Run::from).unwrap();
            assert_eq!(owner.index(), (usize::from(shard) + turn) % 3);
            rows[owner.index()].status = state::Status::Dead;
        }
    }
}

#[test]
fn crashes_freezes_and_late_requests_break_no_promise() {
    // The entity of the other shard would only repeat what that of this one does.
    check(Budget { crashes: 2, pauses: 1, losses: 1, ..NO_FAULTS }, [1, 0], 500_000);
}

#[test]
fn a_drain_breaks_no_promise() {
    check(Budget { crashes: 1, losses: 1, drains: 1, ..NO_FAULTS }, [1, 1], 100_000);
}

#[test]
fn a_refusal_by_a_living_machine_breaks_no_promise() {
    check(Budget { crashes: 1, losses: 1, lies: 1, ..NO_FAULTS }, [2, 0], 50_000);
}

#[test]
fn a_fence_that_is_not_looked_at_is_found() {
    find(Seeded::SkipFence, Budget { crashes: 1, ..NO_FAULTS }, FENCE);
}

#[test]
fn a_journal_that_takes_a_number_twice_is_found() {
    find(Seeded::AllowRepeats, Budget { crashes: 1, losses: 1, ..NO_FAULTS }, FACTS);
}

#[test]
fn a_claim_that_does_not_wait_for_the_owners_death_is_found() {
    find(Seeded::ClaimFromLiving, Budget { crashes: 1, ..NO_FAULTS }, ONE_WRITER);
}

#[test]
fn a_lease_that_is_kept_after_its_end_is_found() {
    find(Seeded::KeepLease, Budget { pauses: 1, ..NO_FAULTS }, ONE_ACTOR);
}

#[test]
fn a_declaration_that_does_not_check_the_lease_again_is_found() {
    find(Seeded::DeclareUnchecked, Budget { pauses: 1, ..NO_FAULTS }, ONE_ACTOR);
}

#[test]
fn a_handover_of_shards_that_run_is_found() {
    find(Seeded::HandRunning, Budget { crashes: 1, ..NO_FAULTS }, ONE_WRITER);
}

#[test]
fn a_shard_taken_back_while_its_transfer_is_open_is_found() {
    find(Seeded::TakeBack, Budget { crashes: 1, losses: 1, ..NO_FAULTS }, ONE_WRITER);
}

#[test]
fn a_transfer_to_a_node_that_drains_is_found() {
    find(Seeded::HandToDraining, Budget { crashes: 1, losses: 1, drains: 1, ..NO_FAULTS }, ONE_WRITER);
}

#[test]
fn nobody_looking_at_leases_is_found() {
    find(Seeded::NeverJudge, Budget { crashes: 1, ..NO_FAULTS }, SETTLES);
}
