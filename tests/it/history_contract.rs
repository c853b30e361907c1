//! What every history product does.

use eml::domain::address::Address;
use eml::domain::call::Direction;
use eml::domain::id::{AgentId, CallId, QueueId};
use eml::domain::record::CallSummary;
use eml::store::Stores;
use eml::store::history::{CallCursor, CallFilter};

use crate::samples::{append_summary, at, call, on_every_product};

on_every_product! {
    a_summary_comes_back_as_it_was
    a_summary_is_replaced_with_every_append
    each_filter_keeps_the_calls_that_match
    filters_are_joined_by_and
    pages_join_without_gap_or_double_even_when_calls_start_together
}

async fn a_summary_comes_back_as_it_was(stores: Stores) {
    for is_open in [true, false] {
        let sent = CallSummary { is_open, ..call(CallId::fresh(), at(5)) };
        put(&stores, [sent.clone()]).await;
        assert_eq!(stores.history.call(sent.id).await.unwrap(), Some(sent));
    }
    assert_eq!(stores.history.call(CallId::fresh()).await.unwrap(), None);
}

async fn a_summary_is_replaced_with_every_append(stores: Stores) {
    let first = call(CallId::fresh(), at(5));
    put(&stores, [first.clone()]).await;
    let second = CallSummary {
        is_open: false,
        state: "ended".into(),
        status: "completed".into(),
        queue_id: Some(QueueId::fresh()),
        agent_id: Some(AgentId::fresh()),
        direction: Direction::Outbound,
        from: Address::reported("client:ana"),
        to: Address::reported("anonymous"),
        started_at: at(3),
        ..first.clone()
    };
    stores.journal.append(vec![append_summary(1, second.clone())]).await.unwrap();
    assert_eq!(
        stores.history.calls(&CallFilter::default(), None, false, 10).await.unwrap(),
        std::slice::from_ref(&second)
    );
    let filter = CallFilter {
        open: Some(false),
        status: vec!["completed".into()],
        queue: second.queue_id.into_iter().collect(),
        agent: second.agent_id.into_iter().collect(),
        direction: Some(Direction::Outbound),
        from: Some("client:ana".into()),
        to: Some("anonymous".into()),
        number: Some("anonymous".into()),
        started_after: Some(at(3)),
        started_before: Some(at(4)),
    };
    assert_eq!(stores.history.calls(&filter, None, false, 10).await.unwrap(), [second]);
}

/// Four calls that differ in everything that filters look at; the first started first.
fn four_calls(queues: [QueueId; 2], agent: AgentId) -> [CallSummary; 4] {
    let base = |start| call(CallId::fresh(), at(start));
    [
        CallSummary { queue_id: Some(queues[0]), agent_id: Some(agent), ..base(10) },
        CallSummary { queue_id: Some(queues[1]), from: Address::reported("+12025550199"), ..base(20) },
        CallSummary {
            direction: Direction::Outbound,
            from: Address::reported("+12025550100"),
            to: Address::reported("+12025550199"),
            ..base(30)
        },
        CallSummary { is_open: false, state: "ended".into(), status: "completed".into(), ..base(40) },
    ]
}

async fn each_filter_keeps_the_calls_that_match(stores: Stores) {
    let (queues, agent) = ([QueueId::fresh(), QueueId::fresh()], AgentId::fresh());
    let calls = four_calls(queues, agent);
    put(&stores, calls.clone()).await;
    let any = CallFilter::default;
    for (why, filter, want) in [
        ("all, newest first", any(), vec![3, 2, 1, 0]),
        ("open", CallFilter { open: Some(true), ..any() }, vec![2, 1, 0]),
        ("over", CallFilter { open: Some(false), ..any() }, vec![3]),
        ("by status", CallFilter { status: vec!["completed".into()], ..any() }, vec![3]),
        ("by state", CallFilter { status: vec!["queued".into()], ..any() }, vec![2, 1, 0]),
        (
            "any of",
            CallFilter { status: vec!["ended".into(), "in_progress".into()], ..any() },
            vec![3, 2, 1, 0],
        ),
        ("no such word", CallFilter { status: vec!["busy".into()], ..any() }, vec![]),
        ("one queue", CallFilter { queue: vec![queues[1]], ..any() }, vec![1]),
        ("two queues", CallFilter { queue: queues.to_vec(), ..any() }, vec![1, 0]),
        ("agent", CallFilter { agent: vec![agent], ..any() }, vec![0]),
        ("nobody's", CallFilter { agent: vec![AgentId::fresh()], ..any() }, vec![]),
        ("inbound", CallFilter { direction: Some(Direction::Inbound), ..any() }, vec![3, 1, 0]),
        ("from", CallFilter { from: Some("+12025550199".into()), ..any() }, vec![1]),
        ("to", CallFilter { to: Some("+12025550199".into()), ..any() }, vec![2]),
        ("either side", CallFilter { number: Some("+12025550199".into()), ..any() }, vec![2, 1]),
        ("since", CallFilter { started_after: Some(at(20)), ..any() }, vec![3, 2, 1]),
        ("until", CallFilter { started_before: Some(at(20)), ..any() }, vec![0]),
        ("quotes are text", CallFilter { from: Some("' OR 1 --".into()), ..any() }, vec![]),
    ] {
        let want: Vec<_> = want.into_iter().map(|i: usize| calls[i].id).collect();
        assert_eq!(ids(&stores, &filter).await, want, "{why}");
        assert_eq!(stores.history.count(&filter).await.unwrap(), want.len() as u64, "{why}");
    }
}

async fn filters_are_joined_by_and(stores: Stores) {
    let (queues, agent) = ([QueueId::fresh(), QueueId::fresh()], AgentId::fresh());
    let calls = four_calls(queues, agent);
    put(&stores, calls.clone()).await;
    let mut filter =
        CallFilter { number: Some("+12025550199".into()), open: Some(true), ..CallFilter::default() };
    assert_eq!(ids(&stores, &filter).await, [calls[2].id, calls[1].id]);
    filter.direction = Some(Direction::Inbound);
    assert_eq!(ids(&stores, &filter).await, [calls[1].id]);
    filter.queue = vec![queues[0]];
    assert!(ids(&stores, &filter).await.is_empty());
}

async fn pages_join_without_gap_or_double_even_when_calls_start_together(stores: Stores) {
    let calls: Vec<_> = (0..25).map(|i| call(CallId::fresh(), at(i / 5))).collect();
    put(&stores, calls.clone()).await;
    let mut places: Vec<_> = calls.iter().map(|call| (call.started_at, call.id)).collect();
    places.sort();
    for ascending in [true, false] {
        let mut seen = Vec::new();
        loop {
            let after = seen.last().map(|(started_at, id)| CallCursor { started_at: *started_at, id: *id });
            let page = stores.history.calls(&CallFilter::default(), after, ascending, 4).await.unwrap();
            seen.extend(page.iter().map(|call| (call.started_at, call.id)));
            if page.len() < 4 {
                break;
            }
        }
        assert_eq!(seen, places, "ascending: {ascending}");
        places.reverse();
    }
}

async fn put(stores: &Stores, calls: impl IntoIterator<Item = CallSummary>) {
    let batch = calls.into_iter().map(|call| append_summary(0, call)).collect();
    stores.journal.append(batch).await.unwrap();
}

async fn ids(stores: &Stores, filter: &CallFilter) -> Vec<CallId> {
    let found = stores.history.calls(filter, None, false, 100).await.unwrap();
    found.iter().map(|call| call.id).collect()
}
