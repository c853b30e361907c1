//! What every store does that several nodes can share.

use std::sync::Arc;
use std::time::Duration;

use eml::domain::id::CallId;
use eml::domain::node::{NodeRef, NodeStatus, Role};
use eml::domain::time::Millis;
use eml::store::journal::AppendOutcome;
use eml::store::members::{Change, ClusterSecret, Members, NewNode};
use eml::store::records::{RecordKind, StoredRecord};
use eml::store::{StoreError, Stores};
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

use crate::samples::{append, at};

macro_rules! on_every_shared_store {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(eml::store::open("memory:").await.unwrap()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(schema) = crate::samples::Schema::fresh().await else { return };
                super::$behaviour(schema.open().await).await;
                schema.remove().await;
            })*
        }
    };
}

on_every_shared_store! {
    a_run_is_seen_with_all_it_said_of_itself
    a_later_run_takes_the_place_of_the_one_before
    of_two_runs_that_begin_at_once_one_lives
    who_renews_is_not_dead_and_who_is_dead_does_not_renew
    only_a_lease_that_is_over_lets_a_node_be_declared_dead_by_it
    two_who_claim_everything_share_it_without_overlap_or_rest
    nobody_is_robbed_while_it_lives_and_everything_is_free_when_it_is_over
    a_draining_node_writes_and_renews_but_gets_nothing
    who_is_over_neither_takes_nor_gives
    only_own_shards_are_given_and_only_to_the_living
    no_shard_is_lost_when_its_receiver_dies_meanwhile
    what_is_released_is_free_for_anybody
    nothing_is_stored_once_its_node_was_declared_dead
    changes_are_told_and_renewals_are_not
    all_nodes_have_the_same_secret
    a_heart_renews_as_the_node_does
}

const LONG: Millis = Millis::from_secs(60);
/// A lease that is over soon.
const SHORT: Millis = Millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
/// No shards.
const NONE: [u16; 0] = [];
const STORED: AppendOutcome = AppendOutcome::Stored;

pub(crate) fn node(name: &str) -> NewNode {
    NewNode {
        node: name.into(),
        address: format!("{name}:7946"),
        public_url: format!("https://{name}.example"),
        roles: vec![Role::Edge, Role::Communication],
        version: "0.2.0".into(),
    }
}

pub(crate) fn members(stores: &Stores) -> Arc<dyn Members> {
    stores.members.clone().expect("several nodes can share it")
}

async fn registered(members: &Arc<dyn Members>, name: &str) -> NodeRef {
    members.register(&node(name), LONG).await.unwrap()
}

/// Shards by who owns them.
async fn owned_by(members: &Arc<dyn Members>, owner: Option<&NodeRef>) -> Vec<u16> {
    let view = members.view().await.unwrap();
    assert_eq!(view.owners.len(), 256);
    (0..256).filter(|shard| view.owners[usize::from(*shard)].as_ref() == owner).collect()
}

fn is_fenced<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(error @ StoreError::Fenced(_)) if !error.is_transient())
}

fn all() -> Vec<u16> {
    (0..256).collect()
}

async fn a_run_is_seen_with_all_it_said_of_itself(stores: Stores) {
    let members = members(&stores);
    let empty = members.view().await.unwrap();
    assert_eq!((empty.nodes.len(), empty.owners), (0, vec![None; 256]));
    let (b, a) = (registered(&members, "b").await, registered(&members, "a").await);
    members.claim(&b, &[3, 200]).await.unwrap();
    let view = members.view().await.unwrap();
    assert_eq!(view.nodes.iter().map(|row| row.at.clone()).collect::<Vec<_>>(), [a, b.clone()], "by name");
    let (row, said) = (&view.nodes[1], node("b"));
    assert_eq!(
        (&row.address, &row.public_url, &row.version),
        (&said.address, &said.public_url, &said.version)
    );
    assert_eq!((&row.roles, row.status), (&said.roles, NodeStatus::Alive));
    assert_eq!(row.lease_until, row.started_at + LONG);
    assert!(row.started_at <= view.now && view.now.since(row.started_at) < LONG, "{view:?}");
    assert_eq!(owned_by(&members, Some(&b)).await, [3, 200]);
    assert!(view.living(&b).is_some());
}

async fn a_later_run_takes_the_place_of_the_one_before(stores: Stores) {
    let members = members(&stores);
    let first = registered(&members, "a").await;
    let before = stores.fenced(&first);
    let id = CallId::fresh();
    assert_eq!(before.journal.append(vec![append(id, 0, 1)]).await.unwrap(), [STORED]);
    assert_eq!(members.claim(&first, &[7]).await.unwrap(), [7]);
    let second = members.register(&NewNode { version: "0.3.0".into(), ..node("a") }, LONG).await.unwrap();
    assert_ne!(first, second);
    assert!(is_fenced(&before.journal.append(vec![append(id, 1, 1)]).await));
    assert!(!members.renew(&first, LONG).await.unwrap());
    assert!(!members.declare_dead(&first, false).await.unwrap(), "another run lives");
    members.leave(&first).await.unwrap();
    assert!(!members.set_draining(&first).await.unwrap());
    let view = members.view().await.unwrap();
    assert_eq!(view.nodes.len(), 1, "of each node the last run");
    assert_eq!((&view.nodes[0].at, &*view.nodes[0].version), (&second, "0.3.0"));
    assert_eq!(view.nodes[0].status, NodeStatus::Alive);
    assert_eq!(members.claim(&second, &all()).await.unwrap(), all(), "what the older run had, too");
    let after = stores.fenced(&second);
    assert_eq!(after.journal.append(vec![append(id, 1, 1)]).await.unwrap(), [STORED]);
}

async fn of_two_runs_that_begin_at_once_one_lives(stores: Stores) {
    let members = members(&stores);
    for _ in 0..10 {
        let (one, two) = (members.clone(), members.clone());
        let one = tokio::spawn(async move { registered(&one, "a").await });
        let two = tokio::spawn(async move { registered(&two, "a").await });
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let living = (members.renew(&one, LONG).await.unwrap(), members.renew(&two, LONG).await.unwrap());
        assert!(living.0 != living.1, "{living:?}");
    }
}

async fn who_renews_is_not_dead_and_who_is_dead_does_not_renew(stores: Stores) {
    let members = members(&stores);
    let a = members.register(&node("a"), SHORT).await.unwrap();
    let before = members.view().await.unwrap().nodes[0].lease_until;
    assert!(members.renew(&a, LONG).await.unwrap());
    let view = members.view().await.unwrap();
    assert!(view.nodes[0].lease_until > before + SHORT, "{view:?}");
    assert!(view.nodes[0].lease_until <= view.now + LONG, "{view:?}");
    assert!(members.declare_dead(&a, false).await.unwrap(), "whatever its lease is");
    assert!(members.declare_dead(&a, true).await.unwrap(), "it is dead already");
    assert!(!members.renew(&a, LONG).await.unwrap());
    assert!(!members.set_draining(&a).await.unwrap());
    members.leave(&a).await.unwrap();
    let row = &members.view().await.unwrap().nodes[0];
    assert_eq!((row.status, row.lease_until), (NodeStatus::Dead, view.nodes[0].lease_until), "for good");
}

async fn only_a_lease_that_is_over_lets_a_node_be_declared_dead_by_it(stores: Stores) {
    let members = members(&stores);
    let (brief, steady) =
        (members.register(&node("a"), SHORT).await.unwrap(), registered(&members, "b").await);
    assert!(!members.declare_dead(&brief, true).await.unwrap(), "not over yet");
    sleep(SHORT.duration() + Duration::from_millis(50)).await;
    assert!(members.renew(&brief, SHORT).await.unwrap(), "late, but nobody declared it dead");
    assert!(!members.declare_dead(&brief, true).await.unwrap());
    sleep(SHORT.duration() + Duration::from_millis(50)).await;
    assert!(members.declare_dead(&brief, true).await.unwrap());
    assert!(!members.declare_dead(&steady, true).await.unwrap());
    assert!(members.renew(&steady, LONG).await.unwrap());
    let unknown = NodeRef { node: "c".into(), incarnation: uuid::Uuid::now_v7() };
    assert!(!members.declare_dead(&unknown, false).await.unwrap());
}

async fn two_who_claim_everything_share_it_without_overlap_or_rest(stores: Stores) {
    let members = members(&stores);
    let (a, b) = (registered(&members, "a").await, registered(&members, "b").await);
    for round in 0..8 {
        let claim = |claimer: NodeRef, parts: usize, is_reversed: bool| {
            let members = members.clone();
            tokio::spawn(async move {
                let mut shards = all();
                if is_reversed {
                    shards.reverse();
                }
                let mut taken = Vec::new();
                for part in shards.chunks(256 / parts) {
                    taken.extend(members.claim(&claimer, part).await.unwrap());
                }
                taken.sort_unstable();
                taken
            })
        };
        let parts = 1 << round;
        let (one, two) = (claim(a.clone(), parts, false), claim(b.clone(), parts, true));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        assert_eq!(owned_by(&members, Some(&a)).await, one);
        assert_eq!(owned_by(&members, Some(&b)).await, two);
        let mut both = [one, two].concat();
        both.sort_unstable();
        assert_eq!(both, all(), "in {parts} parts");
        members.release(&a, &all()).await.unwrap();
        members.release(&b, &all()).await.unwrap();
    }
}

async fn nobody_is_robbed_while_it_lives_and_everything_is_free_when_it_is_over(stores: Stores) {
    let members = members(&stores);
    let b = registered(&members, "b").await;
    for end in ["dead", "left", "restarted"] {
        let a = members.register(&node("a"), Millis(0)).await.unwrap();
        assert_eq!(members.claim(&a, &[1, 2, 3]).await.unwrap(), [1, 2, 3]);
        assert_eq!(members.claim(&a, &[1, 2, 3, 4]).await.unwrap(), [4], "what it has it does not get again");
        assert_eq!(
            members.claim(&b, &[2, 3, 4, 5, 5]).await.unwrap(),
            [5],
            "its lease is over, but it lives"
        );
        assert!(members.set_draining(&a).await.unwrap());
        assert_eq!(members.claim(&b, &[2, 3]).await.unwrap(), NONE, "draining is living");
        match end {
            "dead" => assert!(members.declare_dead(&a, true).await.unwrap()),
            "left" => members.leave(&a).await.unwrap(),
            _ => drop(registered(&members, "a").await),
        }
        assert_eq!(owned_by(&members, Some(&a)).await, [1, 2, 3, 4], "until somebody claims");
        assert_eq!(members.claim(&b, &[4, 2, 1, 300]).await.unwrap(), [1, 2, 4], "{end}");
        assert_eq!(owned_by(&members, Some(&b)).await, [1, 2, 4, 5]);
        members.claim(&b, &all()).await.unwrap();
        members.release(&b, &all()).await.unwrap();
    }
}

async fn a_draining_node_writes_and_renews_but_gets_nothing(stores: Stores) {
    let members = members(&stores);
    let (a, b) = (registered(&members, "a").await, registered(&members, "b").await);
    members.claim(&a, &[1, 2]).await.unwrap();
    members.claim(&b, &[3]).await.unwrap();
    assert!(members.set_draining(&a).await.unwrap());
    assert!(members.set_draining(&a).await.unwrap(), "again");
    assert_eq!(members.view().await.unwrap().nodes[0].status, NodeStatus::Draining);
    let journal = stores.fenced(&a).journal;
    assert_eq!(journal.append(vec![append(CallId::fresh(), 0, 2)]).await.unwrap(), [STORED]);
    assert!(members.renew(&a, LONG).await.unwrap());
    assert_eq!(members.claim(&a, &all()).await.unwrap(), NONE);
    assert_eq!(members.transfer(&b, &a, &[3]).await.unwrap(), NONE);
    assert_eq!(members.transfer(&a, &b, &[2, 1]).await.unwrap(), [1, 2], "it gives");
    members.leave(&a).await.unwrap();
    assert_eq!(members.view().await.unwrap().nodes[0].status, NodeStatus::Left);
    assert!(is_fenced(&journal.append(vec![append(CallId::fresh(), 0, 1)]).await));
    assert!(members.declare_dead(&a, true).await.unwrap(), "it is over");
    assert_eq!(members.view().await.unwrap().nodes[0].status, NodeStatus::Left, "and stays what it is");
}

async fn who_is_over_neither_takes_nor_gives(stores: Stores) {
    let members = members(&stores);
    let (a, b) = (registered(&members, "a").await, registered(&members, "b").await);
    members.claim(&a, &[1, 2]).await.unwrap();
    members.declare_dead(&a, false).await.unwrap();
    assert!(is_fenced(&members.claim(&a, &[5]).await));
    assert!(is_fenced(&members.transfer(&a, &b, &[1]).await));
    assert_eq!(owned_by(&members, None).await.len(), 254);
    members.release(&a, &[2]).await.unwrap();
    assert_eq!(owned_by(&members, Some(&a)).await, [1], "giving up does no harm");
}

async fn only_own_shards_are_given_and_only_to_the_living(stores: Stores) {
    let members = members(&stores);
    let (a, b, c) =
        (registered(&members, "a").await, registered(&members, "b").await, registered(&members, "c").await);
    members.claim(&a, &[1, 2, 3]).await.unwrap();
    members.claim(&b, &[4]).await.unwrap();
    assert_eq!(members.transfer(&a, &b, &[9, 4, 3, 2]).await.unwrap(), [2, 3]);
    assert_eq!(members.transfer(&a, &b, &[2, 3]).await.unwrap(), NONE, "they are given already");
    members.declare_dead(&c, false).await.unwrap();
    assert_eq!(members.transfer(&a, &c, &[1]).await.unwrap(), NONE, "nobody gives to the dead");
    let restarted = registered(&members, "c").await;
    assert_eq!(members.transfer(&a, &c, &[1]).await.unwrap(), NONE, "nor to an older run");
    assert_eq!(owned_by(&members, Some(&a)).await, [1]);
    assert_eq!(members.transfer(&a, &restarted, &[1]).await.unwrap(), [1]);
    assert_eq!(owned_by(&members, Some(&b)).await, [2, 3, 4]);
}

async fn no_shard_is_lost_when_its_receiver_dies_meanwhile(stores: Stores) {
    let members = members(&stores);
    let (a, c) = (registered(&members, "a").await, registered(&members, "c").await);
    for _ in 0..20 {
        let b = registered(&members, "b").await;
        members.claim(&a, &all()).await.unwrap();
        let (giver, killer) = (members.clone(), members.clone());
        let (from, to, dying) = (a.clone(), b.clone(), b.clone());
        let given = tokio::spawn(async move { giver.transfer(&from, &to, &all()).await.unwrap() });
        let death = tokio::spawn(async move { killer.declare_dead(&dying, false).await.unwrap() });
        let given = given.await.unwrap();
        assert!(death.await.unwrap());
        assert!([0, 256].contains(&given.len()), "all or none: {given:?}");
        assert_eq!(members.claim(&c, &all()).await.unwrap(), given, "free is what the dead one got");
        members.release(&c, &all()).await.unwrap();
        members.release(&a, &all()).await.unwrap();
    }
}

async fn what_is_released_is_free_for_anybody(stores: Stores) {
    let members = members(&stores);
    let (a, b) = (registered(&members, "a").await, registered(&members, "b").await);
    members.claim(&a, &[1, 2, 3]).await.unwrap();
    members.release(&b, &[1, 2, 3]).await.unwrap();
    assert_eq!(owned_by(&members, Some(&a)).await, [1, 2, 3], "not another's to give up");
    members.release(&a, &[1, 3, 9]).await.unwrap();
    assert_eq!(owned_by(&members, Some(&a)).await, [2]);
    assert_eq!(members.claim(&b, &[1, 2, 3]).await.unwrap(), [1, 3]);
}

async fn nothing_is_stored_once_its_node_was_declared_dead(stores: Stores) {
    let members = members(&stores);
    for _ in 0..5 {
        let a = registered(&members, "a").await;
        let journal = stores.fenced(&a).journal;
        let (begun, mut is_begun) = tokio::sync::mpsc::channel(1);
        let writing = tokio::spawn(async move {
            let mut stored = 0;
            loop {
                match journal.append(vec![append(CallId::fresh(), 0, 1)]).await {
                    Ok(outcomes) => assert_eq!(outcomes, [STORED]),
                    refused => {
                        assert!(is_fenced(&refused), "{refused:?}");
                        return stored;
                    }
                }
                stored += 1;
                let _ = begun.try_send(());
            }
        });
        is_begun.recv().await.unwrap();
        let before = stores.journal.last_position().await.unwrap();
        assert!(members.declare_dead(&a, false).await.unwrap());
        let facts = stores.journal.read_after(0, &[], 100_000).await.unwrap().len();
        let stored = writing.await.unwrap();
        assert!(before > 0 && stored > 0);
        assert_eq!(stores.journal.read_after(0, &[], 100_000).await.unwrap().len(), facts);
    }
}

async fn next(changes: &mut Receiver<Change>) -> Change {
    timeout(PATIENCE, changes.recv()).await.expect("a change is told").unwrap()
}

async fn changes_are_told_and_renewals_are_not(stores: Stores) {
    let members = members(&stores);
    let mut changes = members.changes();
    assert_eq!(next(&mut changes).await, Change::Unknown, "first of all");
    let (a, b) = (registered(&members, "a").await, registered(&members, "b").await);
    assert_eq!([next(&mut changes).await, next(&mut changes).await], [Change::Nodes; 2]);
    members.claim(&a, &[1, 2, 3]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    members.transfer(&a, &b, &[1]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    members.release(&a, &[2]).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    members.set_draining(&a).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    members.leave(&a).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);

    let mut record = StoredRecord {
        id: uuid::Uuid::now_v7(),
        key: "sales".into(),
        body: serde_json::json!({}),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    };
    // Were a renewal told, its news would come before that of the record.
    assert!(members.renew(&b, LONG).await.unwrap());
    stores.records.insert(RecordKind::Skill, record.clone()).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Records);
    record.key = "support".into();
    assert_eq!(stores.records.update(RecordKind::Skill, record.clone()).await.unwrap(), 2);
    assert_eq!(next(&mut changes).await, Change::Records);
    assert!(stores.records.remove(RecordKind::Skill, record.id).await.unwrap());
    assert_eq!(next(&mut changes).await, Change::Records);
    // What changes nothing is not told.
    assert!(!stores.records.remove(RecordKind::Skill, record.id).await.unwrap());
    assert!(stores.records.update(RecordKind::Skill, record).await.is_err());
    members.declare_dead(&b, false).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Nodes);
    let mut late = members.changes();
    assert_eq!(next(&mut late).await, Change::Unknown, "whoever comes later reads everything, too");
}

async fn all_nodes_have_the_same_secret(stores: Stores) {
    let made = |name: &str| ClusterSecret {
        secret: format!("secret of {name}"),
        ca_cert_pem: format!("certificate of {name}"),
        ca_key_pem: format!("key of {name}"),
    };
    let asked = |name: &'static str| {
        let members = members(&stores);
        tokio::spawn(async move { members.cluster_secret(&|| made(name)).await.unwrap() })
    };
    let (one, two, three) = tokio::join!(asked("a"), asked("b"), asked("c"));
    let kept = one.unwrap();
    assert!(["a", "b", "c"].map(made).contains(&kept), "{kept:?}");
    assert_eq!((two.unwrap(), three.unwrap()), (kept.clone(), kept.clone()));
    let again = members(&stores).cluster_secret(&|| unreachable!("there is one")).await.unwrap();
    assert_eq!(again, kept);
    let shown = format!("{kept:?}");
    assert!(!shown.contains("secret of") && !shown.contains("key of"), "{shown}");
}

async fn a_heart_renews_as_the_node_does(stores: Stores) {
    let members = members(&stores);
    let a = members.register(&node("a"), SHORT).await.unwrap();
    let mut heart = members.heart();
    let own = a.clone();
    // As the program does it: on a thread with a runtime of its own.
    let renewals = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut renewals = Vec::new();
            for _ in 0..5 {
                renewals.push(heart.renew(&own, LONG, PATIENCE).await.unwrap());
            }
            renewals
        })
    });
    assert_eq!(renewals.join().unwrap(), [true; 5]);
    let view = members.view().await.unwrap();
    assert!(view.nodes[0].lease_until.since(view.now) > SHORT, "{view:?}");
    members.declare_dead(&a, false).await.unwrap();
    assert!(!members.heart().renew(&a, LONG, PATIENCE).await.unwrap());
}
