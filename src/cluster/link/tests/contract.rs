//! What every transport promises. Each sentence is tried over TLS and over the simulated network.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::rig::{LONG, Node, Rig, SECOND, at, eventually, raw};
use crate::cluster::link::{LARGEST_BODY, LinkError, LinkRefusal, LinkSettings, Peer};
use crate::domain::node::NodeRef;

macro_rules! contract {
    ($($sentence:ident),* $(,)?) => {
        mod over_tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::$sentence(super::Rig::tls()).await;
            })*
        }
        mod simulated {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::$sentence(super::Rig::simulated()).await;
            })*
        }
    };
}

contract!(
    a_question_is_answered_and_its_sender_is_known,
    news_arrive_in_order,
    a_question_waits_for_a_place_until_its_deadline,
    a_question_ends_with_its_deadline,
    a_peer_that_answers_too_much_says_so,
    a_question_that_makes_the_peer_panic_is_refused,
    what_is_too_large_is_refused_and_the_connection_stays,
    who_is_no_peer_gets_nothing,
    a_killed_peer_answers_at_once_that_it_is_gone,
    a_peer_that_was_never_reached_is_not_told_as_refused,
    a_frozen_peer_is_given_up_and_comes_back,
    what_waits_for_a_frozen_peer_is_bounded,
    a_peer_that_starts_again_is_connected_again,
    a_peer_that_is_none_any_more_is_cut_off_both_ways,
    a_run_that_the_view_does_not_know_is_not_let_in,
    two_nodes_that_flood_each_other_both_get_their_answers,
    the_end_answers_all_who_wait,
    peers_may_be_set_from_any_thread,
    nothing_is_left_when_all_is_answered,
);

async fn ask(node: &Node, to: &NodeRef, body: &str, deadline: Duration) -> Result<String, LinkError> {
    node.transport().ask(to, raw(body), deadline).await.map(|answer| answer.get().to_owned())
}

/// A question that is under way when this returns.
async fn held(from: &Node, to: &Node) -> tokio::task::JoinHandle<Result<String, LinkError>> {
    let before = to.seen.asks.load(Ordering::SeqCst);
    let (transport, peer) = (from.transport(), to.at.clone());
    let task = tokio::spawn(async move {
        transport.ask(&peer, raw(r#"{"do":"hold"}"#), LONG).await.map(|answer| answer.get().to_owned())
    });
    eventually("the question arrives", || to.seen.asks.load(Ordering::SeqCst) > before).await;
    task
}

async fn a_question_is_answered_and_its_sender_is_known(rig: Rig) {
    let (a, b) = rig.pair().await;
    let expected = serde_json::to_string(&a.at).unwrap();
    assert_eq!(ask(&a, &b.at, r#"{"do":"who"}"#, LONG).await, Ok(expected));
    assert_eq!(ask(&b, &a.at, r#"{"x": [1, 2]}"#, LONG).await, Ok(r#"{"x": [1, 2]}"#.to_owned()));
    let refused = LinkError::Refused(LinkRefusal::Other("because".into()));
    assert_eq!(ask(&a, &b.at, r#"{"do":"no"}"#, LONG).await, Err(refused));
}

async fn news_arrive_in_order(rig: Rig) {
    let (a, b) = rig.pair().await;
    for i in 0..3_000 {
        a.transport().push(&b.at, raw(&i.to_string())).unwrap();
    }
    eventually("all news are there", || b.seen.pushed() == 3_000).await;
    let expected: Vec<_> = (0..3_000).map(|i| (a.at.clone(), i.to_string())).collect();
    assert_eq!(*b.seen.pushes.lock().unwrap(), expected);
    assert_eq!(b.seen.losses(&a.at), 0);
}

async fn a_question_waits_for_a_place_until_its_deadline(mut rig: Rig) {
    rig.settings = LinkSettings { window: 2, ..rig.settings };
    let (a, b) = rig.pair().await;
    let under_way = [held(&a, &b).await, held(&a, &b).await];
    let short = Duration::from_millis(50);
    assert_eq!(ask(&a, &b.at, "1", short).await, Err(LinkError::Full));
    let third = tokio::spawn({
        let (transport, peer) = (a.transport(), b.at.clone());
        async move { transport.ask(&peer, raw("3"), LONG).await.map(|answer| answer.get().to_owned()) }
    });
    b.seen.gate.add_permits(2);
    assert_eq!(third.await.unwrap(), Ok("3".to_owned()), "it got a place that became free");
    for task in under_way {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(a.count(|counters| &counters.full), 1);
}

async fn a_question_ends_with_its_deadline(rig: Rig) {
    let (a, b) = rig.pair().await;
    let started = Instant::now();
    let slow = ask(&a, &b.at, r#"{"do":"hold"}"#, Duration::from_millis(100)).await;
    assert_eq!(slow, Err(LinkError::Timeout));
    assert!(started.elapsed() >= Duration::from_millis(100));
    eventually("the peer stops to work on it", || b.count(|counters| &counters.answers_in_flight) == 0).await;
    b.seen.gate.add_permits(1);
    assert_eq!(ask(&a, &b.at, "2", LONG).await, Ok("2".to_owned()), "the connection goes on");
}

async fn a_peer_that_answers_too_much_says_so(mut rig: Rig) {
    rig.settings = LinkSettings { inbound_asks: 1, ..rig.settings };
    let (a, b) = rig.pair().await;
    let first = held(&a, &b).await;
    assert_eq!(ask(&a, &b.at, "2", LONG).await, Err(LinkError::Refused(LinkRefusal::Busy)));
    b.seen.gate.add_permits(1);
    assert!(first.await.unwrap().is_ok());
}

async fn a_question_that_makes_the_peer_panic_is_refused(rig: Rig) {
    let (a, b) = rig.pair().await;
    let refused = LinkError::Refused(LinkRefusal::Other("failed".into()));
    assert_eq!(ask(&a, &b.at, r#"{"do":"panic"}"#, LONG).await, Err(refused));
    assert_eq!(ask(&a, &b.at, "1", LONG).await, Ok("1".to_owned()));
}

async fn what_is_too_large_is_refused_and_the_connection_stays(rig: Rig) {
    let (a, b) = rig.pair().await;
    let fits = format!("\"{}\"", "x".repeat(LARGEST_BODY - 2));
    assert_eq!(ask(&a, &b.at, &fits, LONG).await.map(|answer| answer.len()), Ok(LARGEST_BODY));
    let large = format!("\"{}\"", "x".repeat(LARGEST_BODY - 1));
    let error = LinkError::TooLarge { bytes: LARGEST_BODY + 1, limit: LARGEST_BODY };
    assert_eq!(ask(&a, &b.at, &large, LONG).await, Err(error.clone()));
    assert_eq!(a.transport().push(&b.at, raw(&large)), Err(error));
    let question = format!(r#"{{"do":"large","bytes":{}}}"#, LARGEST_BODY + 1);
    let refused = LinkError::Refused(LinkRefusal::TooLarge);
    assert_eq!(ask(&a, &b.at, &question, LONG).await, Err(refused));
    assert_eq!(ask(&a, &b.at, "1", LONG).await, Ok("1".to_owned()));
    assert_eq!(a.count(|counters| &counters.reconnects), 0);
    assert_eq!(a.count(|counters| &counters.connects), 2, "one each way");
}

async fn who_is_no_peer_gets_nothing(rig: Rig) {
    let (a, b) = rig.pair().await;
    for stranger in [at("c"), at("b"), a.at.clone()] {
        let gone = LinkError::Gone { sure: true };
        assert_eq!(ask(&a, &stranger, "1", LONG).await, Err(gone.clone()));
        assert_eq!(a.transport().push(&stranger, raw("1")), Err(gone));
    }
    let own = Peer { at: a.at.clone(), address: a.address().into() };
    let nowhere = Peer { at: at("c"), address: "".into() };
    a.transport().set_peers(&[own, nowhere.clone(), b.peer_on_line()]);
    assert_eq!(ask(&a, &a.at, "1", LONG).await, Err(LinkError::Gone { sure: true }), "not itself");
    assert_eq!(ask(&a, &nowhere.at, "1", LONG).await, Err(LinkError::Gone { sure: true }));
}

async fn a_killed_peer_answers_at_once_that_it_is_gone(rig: Rig) {
    let (a, b) = (rig.start("a").await, rig.start("b").await);
    let mut refused = a.transport().refused();
    a.transport().set_peers(&[b.peer()]);
    eventually("connected", || a.is_up(&b.at)).await;
    let under_way = held(&a, &b).await;
    let killed = Instant::now();
    rig.kill(&b).await;
    assert_eq!(under_way.await.unwrap(), Err(LinkError::Gone { sure: false }));
    assert_eq!(timeout(LONG, refused.recv()).await.unwrap(), Some(b.at.clone()));
    assert!(killed.elapsed() < SECOND, "took {:?}", killed.elapsed());
    assert_eq!(ask(&a, &b.at, "1", LONG).await, Err(LinkError::Gone { sure: true }));
    assert_eq!(a.seen.losses(&b.at), 1);
}

async fn a_peer_that_was_never_reached_is_not_told_as_refused(rig: Rig) {
    let (a, b) = (rig.start("a").await, rig.start("b").await);
    rig.kill(&b).await;
    let mut refused = a.transport().refused();
    a.transport().set_peers(&[b.peer()]);
    eventually("refused", || a.count(|counters| &counters.refused) >= 3).await;
    assert!(refused.try_recv().is_err(), "it may just not have started yet");
}

async fn a_frozen_peer_is_given_up_and_comes_back(rig: Rig) {
    let (a, b) = rig.pair().await;
    let under_way = held(&a, &b).await;
    let mut refused = a.transport().refused();
    let frozen = Instant::now();
    rig.freeze(&a, &b);
    assert_eq!(under_way.await.unwrap(), Err(LinkError::Gone { sure: false }));
    let noticed = frozen.elapsed();
    let silent_after = rig.settings.silent_after;
    assert!(noticed >= silent_after / 2, "{noticed:?}: a pause is no silence");
    assert!(noticed <= silent_after + SECOND, "{noticed:?}");
    assert!(a.count(|counters| &counters.silent) >= 1);
    assert!(refused.try_recv().is_err(), "a frozen peer refuses nothing");
    rig.thaw(&a, &b);
    b.seen.gate.add_permits(1);
    eventually("connected again", || a.is_up(&b.at)).await;
    assert_eq!(ask(&a, &b.at, "1", LONG).await, Ok("1".to_owned()));
    assert!(a.count(|counters| &counters.reconnects) >= 1);
}

async fn what_waits_for_a_frozen_peer_is_bounded(rig: Rig) {
    let (a, b) = rig.pair().await;
    rig.freeze(&a, &b);
    let body = format!("\"{}\"", "x".repeat(10_000));
    let mut queued = 0_u64;
    let error = loop {
        match a.transport().push(&b.at, raw(&body)) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, LinkError::Full);
    let limit = rig.settings.queue_bytes as u64;
    let waiting = a.count(|counters| &counters.bytes_queued);
    assert!(waiting <= limit && waiting > limit * 9 / 10, "{waiting} of {limit}, {queued} pushed");
    eventually("given up", || !a.is_up(&b.at)).await;
    eventually("nothing is kept", || a.count(|counters| &counters.bytes_queued) == 0).await;
}

async fn a_peer_that_starts_again_is_connected_again(rig: Rig) {
    let (a, old) = (rig.start("a").await, rig.start("b").await);
    a.transport().set_peers(&[old.peer()]);
    eventually("connected", || a.is_up(&old.at)).await;
    rig.kill(&old).await;
    let new = rig.start_at(at("b"), &old.address()).await;
    a.transport().set_peers(&[new.peer()]);
    assert_eq!(ask(&a, &old.at, "1", LONG).await, Err(LinkError::Gone { sure: true }));
    eventually("connected again", || a.is_up(&new.at)).await;
    assert_eq!(ask(&a, &new.at, "1", LONG).await, Ok("1".to_owned()));
    assert_eq!(old.seen.asks.load(Ordering::SeqCst), 0);
}

async fn a_peer_that_is_none_any_more_is_cut_off_both_ways(rig: Rig) {
    let (a, b) = rig.pair().await;
    let under_way = held(&a, &b).await;
    // A later run of b took its place in the view.
    rig.view.lock().unwrap().insert("b".into(), at("b"));
    a.transport().set_peers(&[]);
    assert_eq!(under_way.await.unwrap(), Err(LinkError::Gone { sure: false }));
    eventually("b is cut off", || !b.is_up(&a.at)).await;
    assert!(ask(&b, &a.at, "1", Duration::from_millis(300)).await.is_err());
    assert_eq!(a.seen.asks.load(Ordering::SeqCst), 0);
    eventually("both losses are told", || a.seen.losses(&b.at) >= 2).await;
}

async fn a_run_that_the_view_does_not_know_is_not_let_in(rig: Rig) {
    let (a, b) = (rig.start("a").await, rig.start("b").await);
    rig.view.lock().unwrap().remove("b");
    b.transport().set_peers(&[a.peer()]);
    eventually("rejected", || b.count(|counters| &counters.rejected) >= 2).await;
    assert!(!b.is_up(&a.at));
    rig.view.lock().unwrap().insert("b".into(), b.at.clone());
    eventually("let in when the view knows it", || b.is_up(&a.at)).await;
}

async fn two_nodes_that_flood_each_other_both_get_their_answers(rig: Rig) {
    let (a, b) = rig.pair().await;
    let body: Arc<str> = format!("\"{}\"", "x".repeat(20_000)).into();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..512 {
        for (from, to) in [(&a, &b), (&b, &a)] {
            let (transport, peer, body) = (from.transport(), to.at.clone(), Arc::clone(&body));
            tasks.spawn(async move {
                transport.ask(&peer, raw(&body), LONG).await.map(|answer| answer.get().len())
            });
        }
    }
    while let Some(answered) = tasks.join_next().await {
        assert_eq!(answered.unwrap(), Ok(20_002));
    }
    assert_eq!(a.count(|counters| &counters.reconnects), 0);
}

async fn the_end_answers_all_who_wait(mut rig: Rig) {
    rig.settings = LinkSettings { window: 2, ..rig.settings };
    let (a, b) = rig.pair().await;
    let under_way = [held(&a, &b).await, held(&a, &b).await];
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let (transport, peer) = (a.transport(), b.at.clone());
        waiting.push(tokio::spawn(async move { transport.ask(&peer, raw("1"), LONG).await }));
    }
    eventually("all wait", || a.count(|counters| &counters.asks_in_flight) == 12).await;
    let ending = Instant::now();
    a.shutdown().await;
    for task in under_way {
        assert_eq!(task.await.unwrap(), Err(LinkError::Gone { sure: false }));
    }
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap_err(), LinkError::Gone { sure: true });
    }
    assert!(ending.elapsed() < 5 * SECOND);
    assert_eq!(ask(&a, &b.at, "1", LONG).await, Err(LinkError::Gone { sure: true }));
    b.shutdown().await;
}

async fn peers_may_be_set_from_any_thread(rig: Rig) {
    let (a, b) = (rig.start("a").await, rig.start("b").await);
    let (transport, peer) = (a.transport(), b.peer());
    std::thread::spawn(move || transport.set_peers(&[peer])).join().unwrap();
    eventually("connected", || a.is_up(&b.at)).await;
}

async fn nothing_is_left_when_all_is_answered(rig: Rig) {
    let (a, b) = rig.pair().await;
    for i in 0..100 {
        a.transport().push(&b.at, raw(&i.to_string())).unwrap();
        ask(&a, &b.at, "1", LONG).await.unwrap();
    }
    eventually("all gauges are back", || {
        [&a, &b].iter().all(|node| {
            let counters = node.counters();
            [&counters.asks_in_flight, &counters.answers_in_flight, &counters.bytes_queued]
                .iter()
                .all(|gauge| gauge.load(Ordering::Relaxed) == 0)
        })
    })
    .await;
    assert!(a.count(|counters| &counters.frames_out) >= 200);
    assert!(b.count(|counters| &counters.bytes_in) >= a.count(|counters| &counters.frames_out));
}
