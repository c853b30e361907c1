//! The announcer: tells the bus of the audit trail's entries, each once and in their order.
//!
//! Supervised by the root. One node does it for all: the one that owns shard 0. Its place is kept in the
//! store, so whoever owns the shard next goes on there. An entry that was told and not yet marked is told
//! again; who receives it drops it by its id. Nothing waits for it.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::engine::Engine;
use crate::domain::backoff::Backoff;
use crate::domain::event::Event;
use crate::domain::identity::{AuditEntry, Sealed};
use crate::domain::time::Millis;
use crate::store::StoreError;

/// The name under which its place is kept.
pub(super) const READER: &str = "audit";
/// The shard whose owner tells of entries, and under which the place is kept.
const SHARD: u16 = 0;
/// Entries that are told at a time.
const PAGE: usize = 500;
/// How often the trail is looked at when nobody says that something was noted: by another node, or by a
/// command on the host.
const LOOK: Duration = Duration::from_secs(1);
/// How long the bus may take: a server that is frozen says nothing.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before entries that could not be told are told again.
const AGAIN: Backoff = Backoff { first: Millis(100), factor: 2, longest: Millis(2_000) };

/// The actor.
pub(super) struct Announcer;

/// Its only message: tell of what comes next.
pub(super) struct TellNext;

/// What it holds.
pub(super) struct State {
    engine: Engine,
    /// Number of the last entry that was told; absent while another node tells.
    told: Option<u64>,
    /// The same as it is stored.
    marked: u64,
    failures: usize,
}

impl Actor for Announcer {
    type Msg = TellNext;
    type State = State;
    type Arguments = Engine;

    async fn pre_start(&self, me: ActorRef<TellNext>, engine: Engine) -> Result<State, ActorProcessingErr> {
        me.cast(TellNext)?;
        Ok(State { engine, told: None, marked: 0, failures: 0 })
    }

    async fn handle(
        &self,
        me: ActorRef<TellNext>,
        _next: TellNext,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match state.tell_page().await {
            Ok(told) => {
                state.failures = 0;
                if told == 0 {
                    state.rest().await;
                }
            }
            Err(error) => state.wait(&error).await,
        }
        me.cast(TellNext)?;
        Ok(())
    }
}

impl State {
    /// Tells of one page; answers how many entries it read.
    async fn tell_page(&mut self) -> Result<usize, StoreError> {
        // A node that is being stopped says nothing more: whoever opens its store next goes on from the mark.
        let is_ours = !self.engine.is_draining() && self.engine.owns(SHARD);
        if !is_ours || self.engine.may_act().await.is_err() {
            self.told = None;
            return Ok(0);
        }
        let told = match self.told {
            Some(number) => number,
            None => self.load().await?,
        };
        let bus = self.engine.stores().bus.clone();
        if !bus.has_listeners() {
            return self.pass_over(told).await;
        }
        let (page, last) = self.page(told).await?;
        let events: Vec<_> = page.iter().filter_map(event).collect();
        if !events.is_empty() {
            let delivery = tokio::time::timeout(DELIVERY_TIMEOUT, bus.publish(&events)).await;
            delivery.map_err(|_| StoreError::Unavailable("the bus does not answer".to_owned()))??;
            self.engine.metrics().relayed(READER, events.len(), self.lag(&page));
        }
        self.told = Some(last);
        self.mark(last).await?;
        Ok(usize::try_from(last.saturating_sub(told)).unwrap_or(usize::MAX))
    }

    /// Where the last announcer was.
    async fn load(&mut self) -> Result<u64, StoreError> {
        let cursors = self.engine.stores().journal.cursors(READER).await?;
        let place = cursors.iter().find(|(shard, _)| *shard == SHARD);
        self.marked = place.map(|(_, number)| *number).unwrap_or_default();
        self.told = Some(self.marked);
        Ok(self.marked)
    }

    /// The next entries, and up to which number they are. One that makes no sense is passed over and told
    /// to those who run the node: somebody was at the trail, which must not silence what comes behind.
    async fn page(&self, told: u64) -> Result<(Vec<Sealed>, u64), StoreError> {
        let audit = &self.engine.stores().audit;
        match audit.audit_after(told, PAGE).await {
            Err(StoreError::Corrupt { .. }) => {}
            page => return page.map(|page| last_of(page, told)),
        }
        match audit.audit_after(told, 1).await {
            Err(StoreError::Corrupt { .. }) => {
                let number = told.saturating_add(1);
                tracing::error!(audit.number = number, "an audit entry was changed; see `eml audit verify`");
                Ok((Vec::new(), number))
            }
            page => page.map(|page| last_of(page, told)),
        }
    }

    /// Nobody listens: what was noted until now will never be told.
    async fn pass_over(&mut self, told: u64) -> Result<usize, StoreError> {
        let end = self.engine.stores().audit.audit_end().await?.number.max(told);
        self.told = Some(end);
        self.mark(end).await?;
        Ok(0)
    }

    async fn mark(&mut self, number: u64) -> Result<(), StoreError> {
        if number > self.marked {
            self.engine.stores().journal.move_cursors(READER, &[(SHARD, number)]).await?;
            self.marked = number;
        }
        Ok(())
    }

    /// Until something is noted that somebody would take, or it is time to look anyway.
    async fn rest(&self) {
        let something_to_tell = async {
            loop {
                self.engine.audited().notified().await;
                if self.engine.stores().bus.has_listeners() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LOOK, something_to_tell).await;
    }

    fn lag(&self, page: &[Sealed]) -> Millis {
        let now = self.engine.clock().now();
        let oldest = page.first().and_then(|sealed| serde_json::from_str::<AuditEntry>(&sealed.body).ok());
        oldest.map(|entry| now.since(entry.at)).unwrap_or_default()
    }

    async fn wait(&mut self, error: &StoreError) {
        if self.failures == 0 {
            tracing::warn!(%error, "audit entries are not told; they wait in the store");
        }
        self.engine.metrics().relay_failed(READER);
        tokio::time::sleep(AGAIN.delay(self.failures).duration()).await;
        self.failures += 1;
    }
}

fn last_of(page: Vec<Sealed>, told: u64) -> (Vec<Sealed>, u64) {
    let last = page.last().map_or(told, |entry| entry.number);
    (page, last)
}

fn event(sealed: &Sealed) -> Option<Event> {
    let entry: AuditEntry = serde_json::from_str(&sealed.body).ok()?;
    Some(Event::of_entry(sealed.number, &entry))
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    use super::super::tests::engine;
    use super::*;
    use crate::domain::identity::Actor;
    use crate::domain::time::Timestamp;
    use crate::store::Stores;

    fn entry(what: &str) -> AuditEntry {
        AuditEntry {
            at: Timestamp::from_millis(0),
            what: what.to_owned(),
            actor: Actor::Host,
            subject: None,
            ip: None,
            request_id: None,
            node: "node-1".to_owned(),
            details: serde_json::Map::new(),
        }
    }

    async fn told(stores: &Stores) -> Vec<(u64, u64)> {
        let cursors = stores.journal.cursors(READER).await.unwrap();
        cursors.into_iter().map(|(shard, number)| (shard.into(), number)).collect()
    }

    #[tokio::test]
    async fn an_entry_that_was_changed_is_passed_over_and_those_behind_it_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("eml.db").display());
        let stores = crate::store::open(&url).await.unwrap();
        stores.audit.append_audit((1..=4).map(|i| entry(&format!("test.{i}"))).collect()).await.unwrap();
        let mut intruder = SqliteConnection::connect(&url).await.unwrap();
        let change = "DROP TRIGGER audit_is_not_changed; UPDATE audit SET what = 'x' WHERE number = 2";
        sqlx::raw_sql(change).execute(&mut intruder).await.unwrap();
        // An earlier announcer has told of the first.
        stores.journal.move_cursors(READER, &[(SHARD, 1)]).await.unwrap();
        let mut events = stores.bus.subscribe("*").await.unwrap();
        let _engine = engine(stores.clone()).await;
        for number in [3, 4] {
            let event = events.next().await.unwrap();
            assert_eq!((event.sequence, event.subject.as_str()), (number, "host"));
        }
        while told(&stores).await != [(0, 4)] {
            tokio::task::yield_now().await;
        }
    }
}
