//! What every journal product does.

use std::collections::HashSet;

use eml::domain::id::{AgentId, CallId, CommandId, FactId};
use eml::domain::placement::shard_of;
use eml::domain::record::{EntityKind, EntityRef, Summary};
use eml::store::journal::{Append, AppendOutcome};
use eml::store::{StoreError, Stores};

use crate::samples::{append, append_summary, at, call, fact, name, on_every_product};

const STORED: AppendOutcome = AppendOutcome::Stored;

on_every_product! {
    facts_come_back_as_they_were_and_in_order
    facts_are_read_in_parts
    appends_of_one_entity_chain_within_a_batch
    a_conflict_leaves_the_rest_of_the_batch_stored
    an_append_behind_a_conflict_of_its_entity_conflicts_too
    two_writers_of_one_entity_never_both_succeed
    a_fact_is_never_stored_twice_and_the_rest_of_the_batch_is
    positions_grow_and_pages_join_without_gap
    only_facts_of_the_chosen_shards_are_told_and_pages_of_them_join
    a_cursor_only_moves_forward_and_each_reader_has_its_own
    cursors_of_all_shards_move_at_once
    a_name_leads_to_the_entity_that_had_it_first
    only_entities_with_work_are_open
    open_entities_of_chosen_shards_are_told_apart
    facts_of_many_entities_come_in_order_of_entity_and_number
    the_command_that_led_to_a_fact_is_kept_with_it
    ten_thousand_facts_fit_in_one_batch
    a_batch_with_a_gap_is_refused_whole
    a_summary_of_something_else_is_refused
    an_empty_batch_changes_nothing
}

async fn facts_come_back_as_they_were_and_in_order(stores: Stores) {
    let id = CallId::fresh();
    let sent = append(id, 0, 3);
    assert_eq!(stores.journal.append(vec![sent.clone()]).await.unwrap(), [STORED]);
    let found = stores.journal.facts(id.into(), 0, 10).await.unwrap();
    assert_eq!(found.len(), 3);
    for (found, sent) in found.iter().zip(&sent.facts) {
        assert_eq!((found.id, found.entity, found.seq, found.at), (sent.id, sent.entity, sent.seq, sent.at));
        assert_eq!((&found.kind, found.body.get()), (&sent.kind, sent.body.get()));
    }
    assert!(stores.journal.facts(CallId::fresh().into(), 0, 10).await.unwrap().is_empty());
}

async fn facts_are_read_in_parts(stores: Stores) {
    let id = CallId::fresh();
    stores.journal.append(vec![append(id, 0, 5)]).await.unwrap();
    for (after_seq, limit, want) in [(0, 2, vec![1, 2]), (2, 2, vec![3, 4]), (4, 2, vec![5]), (5, 2, vec![])]
    {
        assert_eq!(seqs(&stores, id.into(), after_seq, limit).await, want, "after {after_seq}");
    }
}

async fn appends_of_one_entity_chain_within_a_batch(stores: Stores) {
    let (id, other) = (CallId::fresh(), CallId::fresh());
    let mut ended = call(id, at(0));
    ended.state = "ended".into();
    let batch = vec![append(id, 0, 2), append(other, 0, 1), append(id, 2, 1), append_summary(3, ended)];
    assert_eq!(stores.journal.append(batch).await.unwrap(), [STORED; 4]);
    assert_eq!(seqs(&stores, id.into(), 0, 10).await, [1, 2, 3, 4]);
    let newest = stores.history.call(id).await.unwrap().unwrap();
    assert_eq!(&*newest.state, "ended", "the last summary of the batch stands");
    assert_eq!(stores.journal.append(vec![append(id, 4, 1)]).await.unwrap(), [STORED]);
}

async fn a_conflict_leaves_the_rest_of_the_batch_stored(stores: Stores) {
    let (first, second, third) = (CallId::fresh(), CallId::fresh(), CallId::fresh());
    stores.journal.append(vec![append(second, 0, 2)]).await.unwrap();
    let mut late = call(second, at(0));
    late.state = "ended".into();
    let mut late = append_summary(1, late);
    late.refs.push(name("CAlate"));
    let outcomes = stores.journal.append(vec![append(first, 0, 1), late, append(third, 0, 1)]).await.unwrap();
    assert_eq!(outcomes, [STORED, AppendOutcome::Conflict { found_seq: 2 }, STORED]);
    for (id, want) in [(first, 1), (second, 2), (third, 1)] {
        assert_eq!(seqs(&stores, id.into(), 0, 10).await.len(), want);
    }
    assert_eq!(&*stores.history.call(second).await.unwrap().unwrap().state, "queued");
    assert_eq!(stores.journal.resolve(&name("CAlate")).await.unwrap(), None);
}

async fn an_append_behind_a_conflict_of_its_entity_conflicts_too(stores: Stores) {
    let id = CallId::fresh();
    let outcomes = stores.journal.append(vec![append(id, 7, 1), append(id, 8, 1), append(id, 0, 1)]).await;
    let conflict = AppendOutcome::Conflict { found_seq: 0 };
    assert_eq!(outcomes.unwrap(), [conflict, conflict, STORED]);
}

async fn two_writers_of_one_entity_never_both_succeed(stores: Stores) {
    let id = CallId::fresh();
    for after_seq in 0..20 {
        let one = tokio::spawn(store_one(stores.clone(), append(id, after_seq, 1)));
        let two = tokio::spawn(store_one(stores.clone(), append(id, after_seq, 1)));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let lost = AppendOutcome::Conflict { found_seq: after_seq + 1 };
        assert!([(STORED, lost), (lost, STORED)].contains(&(one, two)), "{one:?} {two:?}");
    }
    assert_eq!(seqs(&stores, id.into(), 0, 100).await, (1..=20).collect::<Vec<_>>());
}

async fn store_one(stores: Stores, append: Append) -> AppendOutcome {
    stores.journal.append(vec![append]).await.unwrap()[0]
}

async fn a_fact_is_never_stored_twice_and_the_rest_of_the_batch_is(stores: Stores) {
    let (first, second, third) = (CallId::fresh(), CallId::fresh(), CallId::fresh());
    let known = FactId::fresh();
    let with_known = |id| {
        let mut append = append(id, 0, 2);
        append.facts[1].id = known;
        append
    };
    stores.journal.append(vec![with_known(first)]).await.unwrap();
    let outcomes = stores.journal.append(vec![with_known(second), append(third, 0, 1), append(second, 0, 1)]);
    assert_eq!(outcomes.await.unwrap(), [AppendOutcome::Conflict { found_seq: 0 }, STORED, STORED]);
    assert_eq!(seqs(&stores, second.into(), 0, 10).await, [1]);
    assert_eq!(stores.journal.read_after(0, &[], 10).await.unwrap().len(), 4);
}

async fn positions_grow_and_pages_join_without_gap(stores: Stores) {
    assert_eq!(stores.journal.last_position().await.unwrap(), 0);
    let ids = [CallId::fresh(), CallId::fresh(), CallId::fresh()];
    for round in 0..4 {
        let batch = ids.map(|id| append(id, round * 3, 3)).to_vec();
        stores.journal.append(batch).await.unwrap();
    }
    let (mut seen, mut position) = (HashSet::new(), 0);
    loop {
        let page = stores.journal.read_after(position, &[], 7).await.unwrap();
        for item in &page {
            assert!(item.position > position, "positions grow");
            position = item.position;
            assert!(seen.insert((item.record.entity, item.record.seq)), "nothing is told twice");
        }
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(seen.len(), 36);
    assert_eq!(stores.journal.last_position().await.unwrap(), position);
}

async fn only_facts_of_the_chosen_shards_are_told_and_pages_of_them_join(stores: Stores) {
    let ids: Vec<_> = (0..60).map(|_| CallId::fresh()).collect();
    for after_seq in 0..3 {
        let batch = ids.iter().map(|id| append(*id, after_seq, 1)).collect();
        stores.journal.append(batch).await.unwrap();
    }
    let all = stores.journal.read_after(0, &[], 1_000).await.unwrap();
    assert_eq!(all.len(), 180);
    assert!(all.iter().all(|fact| fact.shard == shard_of(fact.record.entity)));
    let chosen = [shard_of(ids[7].into()), shard_of(ids[23].into())];
    let want: Vec<_> =
        all.iter().filter(|fact| chosen.contains(&fact.shard)).map(|fact| fact.position).collect();
    for limit in [1, 2, 5, 1_000] {
        let mut found = Vec::new();
        loop {
            let position = found.last().copied().unwrap_or_default();
            let page = stores.journal.read_after(position, &chosen, limit).await.unwrap();
            found.extend(page.iter().map(|fact| fact.position));
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(found, want, "in pages of {limit}");
    }
    let unused = (0..256).find(|shard| all.iter().all(|fact| fact.shard != *shard)).unwrap();
    assert!(stores.journal.read_after(0, &[unused], 10).await.unwrap().is_empty());
}

async fn a_cursor_only_moves_forward_and_each_reader_has_its_own(stores: Stores) {
    let journal = &stores.journal;
    assert_eq!(journal.cursors("bus").await.unwrap(), []);
    journal.move_cursors("bus", &[]).await.unwrap();
    journal.move_cursors("bus", &[(9, 40), (255, 7), (0, 1)]).await.unwrap();
    journal.move_cursors("archive", &[(9, 2)]).await.unwrap();
    assert_eq!(journal.cursors("bus").await.unwrap(), [(0, 1), (9, 40), (255, 7)]);
    journal.move_cursors("bus", &[(255, 8), (9, 39), (3, 5)]).await.unwrap();
    assert_eq!(journal.cursors("bus").await.unwrap(), [(0, 1), (3, 5), (9, 40), (255, 8)]);
    journal.move_cursors("bus", &[(3, 6), (3, 9), (3, 7)]).await.unwrap();
    assert_eq!(journal.cursors("bus").await.unwrap()[1], (3, 9), "the furthest of several counts");
    assert_eq!(journal.cursors("archive").await.unwrap(), [(9, 2)]);
}

async fn cursors_of_all_shards_move_at_once(stores: Stores) {
    let cursors: Vec<_> = (0..256).map(|shard| (shard, 1_000 + u64::from(shard))).collect();
    stores.journal.move_cursors("bus", &cursors).await.unwrap();
    assert_eq!(stores.journal.cursors("bus").await.unwrap(), cursors);
}

async fn a_name_leads_to_the_entity_that_had_it_first(stores: Stores) {
    let (first, second) = (CallId::fresh(), CallId::fresh());
    let named = |id, after_seq, names: &[&str]| {
        let refs = names.iter().map(|reference| name(reference)).collect();
        Append { refs, ..append(id, after_seq, 1) }
    };
    stores.journal.append(vec![named(first, 0, &["CA1"]), named(second, 0, &["CA1", "CF2"])]).await.unwrap();
    stores.journal.append(vec![named(second, 1, &["CA1", "CF2", "CA3"])]).await.unwrap();
    for (reference, want) in
        [("CA1", Some(first)), ("CF2", Some(second)), ("CA3", Some(second)), ("CA4", None)]
    {
        let found = stores.journal.resolve(&name(reference)).await.unwrap();
        assert_eq!(found, want.map(EntityRef::from), "{reference}");
    }
}

async fn only_entities_with_work_are_open(stores: Stores) {
    let (waiting, over) = (CallId::fresh(), CallId::fresh());
    let (busy, idle) = (EntityRef::from(AgentId::fresh()), EntityRef::from(AgentId::fresh()));
    let session = |entity, open| Append {
        entity,
        after_seq: 0,
        facts: vec![fact(entity, 1)],
        summary: Summary::Agent { open },
        refs: Vec::new(),
    };
    let batch = vec![append(waiting, 0, 1), append(over, 0, 1), session(busy, true), session(idle, false)];
    stores.journal.append(batch).await.unwrap();
    let mut closed = call(over, at(0));
    closed.is_open = false;
    stores.journal.append(vec![append_summary(1, closed)]).await.unwrap();
    assert_eq!(
        stores.journal.open_entities(EntityKind::Call, &[]).await.unwrap(),
        [EntityRef::from(waiting)]
    );
    assert_eq!(stores.journal.open_entities(EntityKind::Agent, &[]).await.unwrap(), [busy]);
}

async fn open_entities_of_chosen_shards_are_told_apart(stores: Stores) {
    let ids: Vec<_> = (0..300).map(|_| CallId::fresh()).collect();
    stores.journal.append(ids.iter().map(|id| append(*id, 0, 1)).collect()).await.unwrap();
    let mut closed = call(ids[0], at(0));
    closed.is_open = false;
    stores.journal.append(vec![append_summary(1, closed)]).await.unwrap();
    let chosen = [shard_of(ids[0].into()), shard_of(ids[1].into()), shard_of(ids[2].into())];
    let want: HashSet<EntityRef> = ids[1..]
        .iter()
        .map(|id| EntityRef::from(*id))
        .filter(|entity| chosen.contains(&shard_of(*entity)))
        .collect();
    let found = stores.journal.open_entities(EntityKind::Call, &chosen).await.unwrap();
    assert_eq!(found.len(), want.len(), "each once");
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), want);
    let every: Vec<_> = (0..256).collect();
    assert_eq!(stores.journal.open_entities(EntityKind::Call, &every).await.unwrap().len(), 299);
    assert!(stores.journal.open_entities(EntityKind::Agent, &every).await.unwrap().is_empty());
}

async fn facts_of_many_entities_come_in_order_of_entity_and_number(stores: Stores) {
    let mut entities: Vec<_> = (0..700).map(|_| EntityRef::from(CallId::fresh())).collect();
    let session = EntityRef::from(AgentId::fresh());
    for after_seq in [0, 2] {
        let calls = entities.iter().map(|entity| append(CallId::from_uuid(entity.id), after_seq, 2));
        stores.journal.append(calls.collect()).await.unwrap();
    }
    let summary = Summary::Agent { open: true };
    let facts = vec![fact(session, 1)];
    let of_session = Append { entity: session, after_seq: 0, facts, summary, refs: Vec::new() };
    stores.journal.append(vec![of_session]).await.unwrap();
    entities.truncate(600);
    entities.reverse();
    let mut asked = [entities.clone(), vec![CallId::fresh().into(), session]].concat();
    asked.push(entities[5]);
    let found = stores.journal.facts_of(&asked).await.unwrap();
    let found: Vec<_> = found.iter().map(|fact| (fact.entity, fact.seq)).collect();
    entities.sort_unstable();
    let mut want: Vec<_> = entities.iter().flat_map(|entity| (1..=4).map(|seq| (*entity, seq))).collect();
    want.push((session, 1));
    want.sort_unstable();
    assert!(found == want, "{} facts found, {} wanted", found.len(), want.len());
    assert!(stores.journal.facts_of(&[]).await.unwrap().is_empty());
}

async fn the_command_that_led_to_a_fact_is_kept_with_it(stores: Stores) {
    let (id, command) = (CallId::fresh(), CommandId::fresh());
    let mut sent = append(id, 0, 3);
    sent.facts[1].cause = Some(command);
    stores.journal.append(vec![sent]).await.unwrap();
    let want = [None, Some(command), None];
    let causes =
        |facts: &[eml::domain::record::FactRecord]| facts.iter().map(|fact| fact.cause).collect::<Vec<_>>();
    assert_eq!(causes(&stores.journal.facts(id.into(), 0, 10).await.unwrap()), want);
    assert_eq!(causes(&stores.journal.facts_of(&[id.into()]).await.unwrap()), want);
    let all = stores.journal.read_after(0, &[], 10).await.unwrap();
    assert_eq!(all.iter().map(|fact| fact.record.cause).collect::<Vec<_>>(), want);
}

async fn ten_thousand_facts_fit_in_one_batch(stores: Stores) {
    let ids: Vec<_> = (0..1_000).map(|_| CallId::fresh()).collect();
    let batch: Vec<_> = ids.iter().map(|id| append(*id, 0, 10)).collect();
    let outcomes = stores.journal.append(batch).await.unwrap();
    assert_eq!(outcomes, vec![STORED; 1_000]);
    assert_eq!(stores.journal.read_after(0, &[], 20_000).await.unwrap().len(), 10_000);
    assert_eq!(stores.journal.open_entities(EntityKind::Call, &[]).await.unwrap().len(), 1_000);
    for id in ids.iter().step_by(97) {
        assert_eq!(seqs(&stores, (*id).into(), 0, 20).await, (1..=10).collect::<Vec<_>>());
    }
}

async fn a_batch_with_a_gap_is_refused_whole(stores: Stores) {
    let (good, bad) = (CallId::fresh(), CallId::fresh());
    let mut gap = append(bad, 0, 3);
    gap.facts.remove(1);
    let refused = stores.journal.append(vec![append(good, 0, 1), gap]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(stores.journal.last_position().await.unwrap(), 0);
}

async fn a_summary_of_something_else_is_refused(stores: Stores) {
    let id = CallId::fresh();
    let foreign = Summary::Call(Box::new(call(CallId::fresh(), at(0))));
    for summary in [foreign, Summary::Agent { open: true }] {
        let refused = stores.journal.append(vec![Append { summary, ..append(id, 0, 1) }]).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
}

async fn an_empty_batch_changes_nothing(stores: Stores) {
    assert!(stores.journal.append(Vec::new()).await.unwrap().is_empty());
    stores.journal.ping().await.unwrap();
    assert_eq!(stores.journal.last_position().await.unwrap(), 0);
}

async fn seqs(stores: &Stores, entity: EntityRef, after_seq: u64, limit: usize) -> Vec<u64> {
    let facts = stores.journal.facts(entity, after_seq, limit).await.unwrap();
    facts.iter().map(|fact| fact.seq).collect()
}
