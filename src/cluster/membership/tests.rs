//! One test for each rule of the membership; `simulation` runs many machines against one table.

use uuid::Uuid;

use super::*;
use crate::domain::node::{NodeRow, Role};
use crate::domain::placement::{SHARDS, owner_of, placement};
use crate::domain::time::{Millis, Timestamp};

mod simulation;

const SETTINGS: MembershipSettings = MembershipSettings {
    beat: Duration::from_millis(250),
    lease: Duration::from_millis(1200),
    margin: Duration::from_millis(150),
    retry: Duration::from_millis(20),
};

/// The store's clock has nothing to do with ours.
const STORE_ZERO: i64 = 1_790_000_000_000;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn store_time(millis: u64) -> Timestamp {
    Timestamp::from_millis(STORE_ZERO) + Millis(millis)
}

fn node(name: &str, run: u128) -> NodeRef {
    NodeRef { node: name.into(), incarnation: Uuid::from_u128(run) }
}

fn row(at: NodeRef, status: NodeStatus, lease_until: Timestamp) -> NodeRow {
    NodeRow {
        at,
        address: String::new(),
        public_url: String::new(),
        roles: vec![Role::Communication],
        version: String::new(),
        status,
        started_at: Timestamp::default(),
        lease_until,
    }
}

/// Nodes `a`, `b`, ... alive, with their leases good for 1 s more, and every shard where it belongs.
fn settled(names: &[&str], now: u64) -> ClusterView {
    let mut view = ClusterView::empty(store_time(now));
    view.nodes =
        names.iter().map(|name| row(node(name, 1), NodeStatus::Alive, store_time(now + 1000))).collect();
    view.owners = placement(&view.nodes);
    view
}

fn set_status(view: &mut ClusterView, name: &str, status: NodeStatus) {
    for row in view.nodes.iter_mut().filter(|row| &*row.at.node == name) {
        row.status = status;
    }
}

fn expire(view: &mut ClusterView, name: &str) {
    let now = view.now;
    for row in view.nodes.iter_mut().filter(|row| &*row.at.node == name) {
        row.lease_until = now - Millis(1);
    }
}

fn owned(view: &ClusterView, name: &str) -> Vec<u16> {
    (0..SHARDS)
        .filter(|shard| view.owners[usize::from(*shard)].as_ref().is_some_and(|owner| &*owner.node == name))
        .collect()
}

fn good(sent_at: u64) -> Beat {
    Beat { sent_at: at(sent_at), took: at(2), outcome: BeatOutcome::Renewed }
}

/// Node `a` whose renewals have gone well from 0 until `now`.
fn steady(now: u64) -> Membership {
    let mut machine = Membership::new(node("a", 1), SETTINGS);
    for sent_at in (0..=now).step_by(250) {
        assert_eq!(machine.beat(good(sent_at), at(sent_at + 2)), []);
    }
    machine
}

/// The same with a view that asks nothing of it.
fn content(names: &[&str], now: u64) -> (Membership, ClusterView) {
    let mut machine = steady(now);
    let view = settled(names, now);
    assert_eq!(machine.view(view.clone(), at(now), at(now)), []);
    (machine, view)
}

fn declare(name: &str, only_expired: bool) -> Action {
    Action::DeclareDead { node: node(name, 1), only_expired }
}

#[test]
fn shards_that_nobody_living_owns_are_claimed_where_they_belong() {
    let other = Some(node("b", 1));
    for (why, owner, status, is_claimed) in [
        ("nobody owns it", None, NodeStatus::Alive, true),
        ("a living node owns it", other.clone(), NodeStatus::Alive, false),
        ("a draining node hands it over by itself", other.clone(), NodeStatus::Draining, false),
        ("its owner is dead", other.clone(), NodeStatus::Dead, true),
        ("its owner has left", other, NodeStatus::Left, true),
        ("an earlier run of its owner has it", Some(node("b", 0)), NodeStatus::Alive, true),
        ("an earlier run of this node has it", Some(node("a", 0)), NodeStatus::Alive, true),
    ] {
        let mut view = settled(&["a", "b"], 2000);
        let mine = owned(&view, "a");
        let theirs = owned(&view, "b");
        set_status(&mut view, "b", status);
        view.owners[usize::from(mine[0])] = owner;
        let actions = steady(2000).view(view, at(2000), at(2000));
        let claimed: Vec<u16> = actions
            .iter()
            .flat_map(|action| {
                let Action::Claim(shards) = action else { panic!("{why}: {action:?}") };
                shards.clone()
            })
            .filter(|shard| !theirs.contains(shard))
            .collect();
        assert_eq!(claimed, if is_claimed { vec![mine[0]] } else { vec![] }, "{why}");
    }
}

#[test]
fn only_one_claim_is_under_way() {
    let mut machine = steady(2000);
    let mut view = settled(&["a"], 2000);
    view.owners[..20].fill(None);
    let [Action::Claim(asked)] = &machine.view(view.clone(), at(2000), at(2000))[..] else { panic!() };
    assert_eq!(*asked, (0..20).collect::<Vec<u16>>());
    view.owners[..30].fill(None);
    assert_eq!(machine.view(view.clone(), at(2001), at(2001)), []);
    assert_eq!(machine.tick(at(2002)), []);
    let done = Outcome::Claimed(Some(asked.clone()));
    assert_eq!(machine.done(done, at(2003)), [Action::Claim((20..30).collect())]);
}

#[test]
fn what_a_claim_did_not_give_waits_for_a_new_view() {
    for got in [None, Some(vec![])] {
        let mut machine = steady(2000);
        let mut view = settled(&["a"], 2000);
        view.owners[7] = None;
        assert_eq!(machine.view(view.clone(), at(2000), at(2000)), [Action::Claim(vec![7])]);
        assert_eq!(machine.done(Outcome::Claimed(got), at(2005)), []);
        assert!(!machine.runs().contains(&7));
        assert_eq!(machine.tick(at(2030)), []);
        assert_eq!(machine.next_look(), Some(at(2025)));
        assert_eq!(machine.view(view.clone(), at(2024), at(2024)), [], "it was asked for too early");
        assert_eq!(machine.view(view, at(2025), at(2026)), [Action::Claim(vec![7])]);
    }
}

#[test]
fn a_new_node_is_handed_its_shards_in_chunks() {
    let (mut machine, before) = content(&["a", "b"], 2000);
    let mut view = settled(&["a", "b", "c"], 2000);
    let goes: Vec<u16> = owned(&before, "a").into_iter().filter(|s| owned(&view, "c").contains(s)).collect();
    assert!(goes.len() > 2 * CHUNK);
    view.owners = before.owners;
    let hand = |shards: &[u16]| Action::Hand { to: node("c", 1), shards: shards.to_vec() };
    assert_eq!(machine.view(view, at(2001), at(2001)), [hand(&goes[..CHUNK])]);
    assert_eq!(machine.tick(at(2002)), []);
    assert!(goes[..CHUNK].iter().all(|shard| !machine.runs().contains(shard)));
    assert!(goes[CHUNK..].iter().all(|shard| machine.runs().contains(shard)));
    let done = Outcome::Handed { to: node("c", 1), moved: Some(goes[..CHUNK].to_vec()) };
    assert_eq!(machine.done(done, at(2003)), [hand(&goes[CHUNK..2 * CHUNK])]);
}

#[test]
fn no_more_than_a_chunk_is_under_way_to_all_nodes_together() {
    let (mut machine, before) = content(&["a"], 2000);
    let mut view = settled(&["a", "b", "c", "d"], 2000);
    view.owners = before.owners;
    let parcels = machine.view(view, at(2001), at(2001));
    let sizes = parcels.iter().map(|action| {
        let Action::Hand { shards, .. } = action else { panic!("{action:?}") };
        shards.len()
    });
    assert_eq!((parcels.len(), sizes.sum::<usize>()), (3, CHUNK));
}

#[test]
fn a_node_that_does_not_renew_is_handed_nothing() {
    let (mut machine, before) = content(&["a"], 500);
    let mut view = settled(&["a", "b"], 500);
    view.owners = before.owners;
    expire(&mut view, "b");
    assert_eq!(machine.view(view, at(501), at(501)), []);
}

/// Node `a` while the end of its transfer of shards to `b` is unknown; those shards, and a view of it.
fn in_limbo() -> (Membership, ClusterView, Vec<u16>) {
    let (mut machine, before) = content(&["a"], 2000);
    let mut view = settled(&["a", "b"], 2000);
    view.owners = before.owners;
    let [Action::Hand { to, shards }] = &machine.view(view.clone(), at(2000), at(2000))[..] else { panic!() };
    assert_eq!(machine.done(Outcome::Handed { to: to.clone(), moved: None }, at(2300)), []);
    assert!(shards.iter().all(|shard| !machine.runs().contains(shard)));
    (machine, view, shards.clone())
}

#[test]
fn a_transfer_with_unknown_end_is_tried_again_and_its_shards_stay_stopped() {
    let (mut machine, mut view, shards) = in_limbo();
    assert_eq!(machine.tick(at(2330)), []);
    // They belong here again, but the transfer may still arrive.
    view.nodes[1].roles.clear();
    let again = machine.view(view.clone(), at(2330), at(2330));
    assert_eq!(again, [Action::Hand { to: node("b", 1), shards: shards.clone() }]);
    assert!(shards.iter().all(|shard| !machine.runs().contains(shard)));
    machine.done(Outcome::Handed { to: node("b", 1), moved: Some(shards[1..].to_vec()) }, at(2340));
    assert!(shards.iter().all(|shard| !machine.runs().contains(shard)), "perhaps the first try moved one");
    set_status(&mut view, "b", NodeStatus::Draining);
    machine.view(view, at(2360), at(2360));
    assert!(machine.runs().contains(&shards[0]), "it cannot be moved there any more");
}

#[test]
fn a_transfer_with_unknown_end_is_over_when_the_view_shows_it_or_nobody_can_receive_it() {
    let (mut machine, mut view, shards) = in_limbo();
    for shard in &shards {
        view.owners[usize::from(*shard)] = Some(node("b", 1));
    }
    assert_ne!(machine.view(view, at(2330), at(2330)), [], "the next chunk goes");
    assert!(shards.iter().all(|shard| !machine.runs().contains(shard)));
    for status in [NodeStatus::Draining, NodeStatus::Dead, NodeStatus::Left] {
        let (mut machine, mut view, shards) = in_limbo();
        set_status(&mut view, "b", status);
        assert_eq!(machine.view(view, at(2330), at(2330)), []);
        assert!(shards.iter().all(|shard| machine.runs().contains(shard)));
    }
}

#[test]
fn a_node_that_drains_hands_everything_over_and_leaves() {
    for by_row in [false, true] {
        let (mut machine, mut view) = content(&["a", "b"], 2000);
        let mut open = owned(&view, "a");
        let mut actions = if by_row {
            set_status(&mut view, "a", NodeStatus::Draining);
            machine.view(view, at(2001), at(2001))
        } else {
            machine.drain(at(2001))
        };
        assert!(machine.is_draining());
        while let [Action::Hand { to, shards }] = &actions[..] {
            assert_eq!(*to, node("b", 1));
            open.retain(|shard| !shards.contains(shard));
            let done = Outcome::Handed { to: to.clone(), moved: Some(shards.clone()) };
            actions = machine.done(done, at(2002));
        }
        assert_eq!((open, actions), (vec![], vec![Action::Leave]));
        assert_eq!(machine.tick(at(2003)), []);
        assert_eq!(machine.done(Outcome::Left { is_done: false }, at(2004)), []);
        assert_eq!(machine.tick(at(2024)), [Action::Leave]);
        assert_eq!(machine.done(Outcome::Left { is_done: true }, at(2030)), [Action::End(EndReason::Left)]);
        assert_eq!((machine.tick(at(2040)), machine.next_look()), (vec![], None));
    }
}

#[test]
fn the_last_node_releases_everything_and_leaves() {
    let (mut machine, view) = content(&["a"], 2000);
    let all: Vec<u16> = (0..SHARDS).collect();
    assert_eq!(machine.drain(at(2001)), [Action::Release(all.clone())]);
    assert_eq!((machine.runs().len(), machine.tick(at(2002))), (0, vec![]));
    // Unknown whether it was done: nothing starts again, and it is tried once more.
    assert_eq!(machine.done(Outcome::Released { is_done: false }, at(2003)), []);
    assert_eq!(machine.view(view, at(2023), at(2023)), [Action::Release(all)]);
    assert_eq!(machine.runs().len(), 0);
    assert_eq!(machine.done(Outcome::Released { is_done: true }, at(2030)), [Action::Leave]);
}

#[test]
fn a_node_that_drains_waits_for_one_that_may_still_renew() {
    let (mut machine, mut view) = content(&["a", "b"], 500);
    expire(&mut view, "b");
    assert_eq!(machine.view(view, at(501), at(501)), []);
    assert_eq!(machine.drain(at(502)), [], "it may not judge yet, and hands nothing to the dead");
}

#[test]
fn a_peer_whose_machine_refuses_is_declared_dead_at_once_and_taken_over() {
    let (mut machine, view) = content(&["a", "b"], 250);
    assert_eq!(machine.refused(node("b", 1), at(300)), [declare("b", false)]);
    assert_eq!(machine.refused(node("b", 1), at(301)), [], "under way");
    let done = Outcome::Declared { node: node("b", 1), is_dead: Some(true) };
    assert_eq!(machine.done(done, at(305)), [Action::Claim(owned(&view, "b"))]);
    // A view from before the declaration brings nobody back to life.
    assert_eq!(machine.view(view, at(304), at(306)), []);
    assert_eq!(machine.refused(node("b", 1), at(307)), []);
}

#[test]
fn a_peer_that_is_not_in_the_living_view_is_not_declared_dead() {
    let (mut machine, mut view) = content(&["a", "b"], 250);
    assert_eq!(machine.refused(node("b", 0), at(260)), [], "an earlier run");
    assert_eq!(machine.refused(node("x", 1), at(260)), [], "a stranger");
    set_status(&mut view, "b", NodeStatus::Left);
    machine.view(view, at(270), at(270));
    assert_eq!(machine.refused(node("b", 1), at(280)), []);
}

#[test]
fn a_declaration_that_failed_is_tried_again_after_a_new_view() {
    let (mut machine, view) = content(&["a", "b"], 250);
    machine.refused(node("b", 1), at(300));
    let failed = Outcome::Declared { node: node("b", 1), is_dead: None };
    assert_eq!(machine.done(failed, at(310)), []);
    assert_eq!((machine.tick(at(330)), machine.next_look()), (vec![], Some(at(330))));
    assert_eq!(machine.view(view.clone(), at(330), at(331)), [declare("b", false)]);
    let refused = Outcome::Declared { node: node("b", 1), is_dead: Some(false) };
    assert_eq!(machine.done(refused, at(340)), []);
    assert_eq!(machine.view(view, at(340), at(341)), [], "others were faster, or it lives");
}

#[test]
fn a_node_whose_lease_has_ended_is_declared_dead_only_as_expired() {
    let (mut machine, mut view) = content(&["a", "b"], 2000);
    expire(&mut view, "b");
    assert_eq!(machine.view(view.clone(), at(2010), at(2010)), [declare("b", true)]);
    assert_eq!(machine.view(view, at(2011), at(2011)), []);
    let done = Outcome::Declared { node: node("b", 1), is_dead: Some(true) };
    assert!(matches!(machine.done(done, at(2012))[..], [Action::Claim(_)]));
}

#[test]
fn who_cannot_renew_well_itself_judges_nobody() {
    let failed = |sent_at, took| Beat { sent_at: at(sent_at), took: at(took), outcome: BeatOutcome::Failed };
    let slow = |sent_at, took| Beat { took: at(took), ..good(sent_at) };
    let cases: [(&str, &[Beat], u64, bool); 10] = [
        ("all is well", &[], 2100, true),
        ("its renewal took half a lease", &[slow(2000, 600)], 2610, true),
        ("its renewal took longer than half a lease", &[slow(2000, 601)], 2610, false),
        ("less than a lease after a slow one", &[slow(2000, 601), good(2601), good(3200)], 3800, false),
        ("a lease after a slow one", &[slow(2000, 601), good(2601), good(3200), good(3700)], 3803, true),
        ("a renewal failed", &[failed(2000, 5)], 2010, false),
        ("less than a lease after a failure", &[failed(2000, 5), good(2250), good(3000)], 3451, false),
        ("a lease after a failure", &[failed(2000, 5), good(2250), good(3000)], 3452, true),
        ("it slept longer than a lease", &[good(4000)], 4010, false),
        ("its renewal does not come back", &[], 2603, false),
    ];
    for (why, beats, now, may) in cases {
        let mut machine = steady(1750);
        for beat in beats {
            machine.beat(*beat, beat.sent_at + beat.took);
        }
        let mut view = settled(&["a", "b"], now);
        expire(&mut view, "b");
        let actions = machine.view(view, at(now), at(now));
        assert_eq!(actions, if may { vec![declare("b", true)] } else { vec![] }, "{why}");
    }
}

#[test]
fn a_node_that_has_just_started_judges_nobody_by_lease_but_a_refusal_counts() {
    let mut machine = steady(500);
    let mut view = settled(&["a", "b"], 600);
    expire(&mut view, "b");
    assert_eq!(machine.view(view, at(600), at(600)), []);
    assert_eq!(machine.refused(node("b", 1), at(601)), [declare("b", false)]);
}

#[test]
fn nothing_is_done_without_the_own_lease() {
    let mut idle = Membership::new(node("a", 1), SETTINGS);
    let mut view = settled(&["a", "b"], 2000);
    let lost = owned(&view, "a")[0];
    view.owners[usize::from(lost)] = None;
    assert_eq!(idle.view(view.clone(), at(0), at(0)), [], "it has not renewed yet");
    assert_eq!(idle.beat(good(1), at(3)), [Action::Claim(vec![lost])]);

    let (mut machine, _) = content(&["a", "b"], 1750);
    assert_eq!(machine.view(view.clone(), at(2799), at(2800)), [], "suspended");
    assert_eq!(machine.refused(node("b", 1), at(2801)), []);
    assert_eq!(machine.drain(at(2802)), []);
    assert_eq!(machine.tick(at(2803)), []);
}

#[test]
fn a_suspended_node_takes_its_work_up_when_it_renews() {
    let (mut machine, mut view) = content(&["a", "b"], 1750);
    let lost = owned(&view, "a")[0];
    view.owners[usize::from(lost)] = None;
    assert_eq!(machine.view(view, at(2800), at(2800)), []);
    assert_eq!(machine.beat(good(2900), at(2902)), [Action::Claim(vec![lost])]);
}

#[test]
fn a_run_that_may_not_write_any_more_is_over() {
    let refused = Beat { outcome: BeatOutcome::Refused, ..good(2000) };
    let (mut machine, view) = content(&["a", "b"], 1750);
    assert_eq!(machine.beat(refused, at(2002)), [Action::End(EndReason::Fenced)]);
    assert_eq!(machine.view(view.clone(), at(2003), at(2003)), []);
    assert!(machine.runs().is_empty());

    for status in [NodeStatus::Dead, NodeStatus::Left] {
        let (mut machine, _) = content(&["a", "b"], 1750);
        let mut gone = view.clone();
        set_status(&mut gone, "a", status);
        // It need not hold the lease to know.
        assert_eq!(machine.view(gone, at(9000), at(9000)), [Action::End(EndReason::Fenced)]);
    }
    let mut later = view;
    later.nodes[0].at = node("a", 2);
    let (mut machine, _) = content(&["a", "b"], 1750);
    assert_eq!(machine.view(later, at(2000), at(2000)), [Action::End(EndReason::Fenced)]);
}

#[test]
fn a_node_without_the_role_claims_nothing() {
    let mut view = settled(&["a"], 2000);
    view.nodes[0].roles = vec![Role::Edge, Role::Reports];
    view.owners.fill(None);
    assert_eq!(steady(2000).view(view, at(2000), at(2000)), []);
}

#[test]
fn a_view_from_before_an_own_change_does_not_undo_it() {
    let (mut machine, before) = content(&["a"], 2000);
    let mut view = settled(&["a", "b"], 2000);
    view.owners = before.owners;
    let [Action::Hand { to, shards }] = &machine.view(view.clone(), at(2001), at(2001))[..] else { panic!() };
    let done = Outcome::Handed { to: to.clone(), moved: Some(shards.clone()) };
    machine.done(done, at(2010));
    machine.view(view.clone(), at(2009), at(2011));
    assert!(shards.iter().all(|shard| !machine.runs().contains(shard)));
    // One that was asked for later is believed.
    machine.view(view.clone(), at(2011), at(2012));
    assert!(shards.iter().all(|shard| machine.runs().contains(shard)));
    view.owners.fill(None);
    machine.view(view, at(2008), at(2013));
    assert!(shards.iter().all(|shard| machine.runs().contains(shard)), "older than the last");
}

#[test]
fn the_view_is_read_again_when_the_next_lease_ends() {
    let (mut machine, mut view) = content(&["a", "b", "c"], 2000);
    view.nodes[1].lease_until = view.now + Millis(300);
    machine.view(view.clone(), at(2000), at(2010));
    assert_eq!(machine.next_look(), Some(at(2312)));
    machine.view_failed(at(2312));
    assert_eq!(machine.next_look(), Some(at(2332)), "a pause after a failure");
    // Its end is being dealt with: only the other nodes matter.
    expire(&mut view, "b");
    machine.view(view.clone(), at(2340), at(2340));
    assert_eq!(machine.next_look(), Some(at(2590)));
    // Nobody else: announcements are enough, but may be lost.
    let mut alone = settled(&["a"], 2400);
    alone.owners.fill(Some(node("a", 1)));
    machine.view(alone, at(2400), at(2400));
    assert_eq!(machine.next_look(), Some(at(3600)));
    assert_eq!(Membership::new(node("a", 1), SETTINGS).next_look(), Some(at(0)));
}

#[test]
fn a_lease_that_ended_while_judging_is_forbidden_is_looked_at_when_it_is_not() {
    let mut machine = steady(1000);
    let mut view = settled(&["a", "b"], 1100);
    expire(&mut view, "b");
    assert_eq!(machine.view(view.clone(), at(1100), at(1100)), []);
    assert_eq!(machine.next_look(), Some(at(1202)));
    assert_eq!(machine.view(view, at(1202), at(1202)), [declare("b", true)]);
}

#[test]
fn every_wanted_owner_comes_from_the_placement() {
    let (mut machine, before) = content(&["a"], 2000);
    let mut view = settled(&["a", "b", "c"], 2000);
    view.owners = before.owners;
    for action in machine.view(view.clone(), at(2001), at(2001)) {
        let Action::Hand { to, shards } = action else { panic!("{action:?}") };
        assert!(shards.iter().all(|shard| owner_of(*shard, &view.nodes) == Some(&to)));
    }
}
