//! The relay: brings facts from the journal to the bus and to the archive.
//!
//! Supervised by the root, one actor per destination. It reads behind its cursor, delivers, and
//! moves the cursor; whatever fails in between is delivered again, so each destination gets every
//! fact at least once and drops what it has by the fact's id. Nothing waits for a relay: a
//! destination that is down for an hour costs nothing but lag, and no memory, since what was not
//! delivered stays in the journal.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use super::engine::Engine;
use crate::domain::backoff::Backoff;
use crate::domain::event::Event;
use crate::domain::id::CallId;
use crate::domain::record::EntityKind;
use crate::domain::time::Millis;
use crate::store::archive::{ArchiveBatch, payload_of};
use crate::store::journal::Positioned;
use crate::store::{StoreError, Stores};

/// Facts that one delivery carries.
const PAGE: usize = 2_000;
/// How often the journal is looked at when nobody says that something was stored.
const LOOK: Duration = Duration::from_secs(1);
/// How long delivered facts may stay unmarked: so much is delivered again after a crash. Marking
/// each delivery would cost a commit each.
const MARK_AFTER: Duration = Duration::from_secs(1);
/// Facts after which delivered ones are marked at the latest.
const MARK_EVERY: usize = 20_000;
/// How long one delivery may take: a server that is frozen says nothing.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before a delivery that failed is tried again.
const AGAIN: Backoff = Backoff { first: Millis(100), factor: 2, longest: Millis(2_000) };

/// Where a relay brings facts.
#[async_trait]
pub(super) trait Destination: Send + Sync + 'static {
    /// Its name, under which its cursor is kept.
    fn name(&self) -> &'static str;

    /// Whether anybody there would take a fact now. What happens while nobody would is not brought
    /// later.
    fn listens(&self) -> bool;

    /// Brings facts, in their order.
    ///
    /// # Errors
    /// When it is not certain that all arrived; all of them are brought again then.
    async fn deliver(&self, facts: &[Positioned]) -> Result<(), StoreError>;
}

/// The bus as a destination: each fact is an event.
pub(super) struct ToBus {
    /// The stores.
    pub(super) stores: Stores,
    /// Name of the node, as the source of its events.
    pub(super) node: String,
}

#[async_trait]
impl Destination for ToBus {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn listens(&self) -> bool {
        self.stores.bus.has_listeners()
    }

    async fn deliver(&self, facts: &[Positioned]) -> Result<(), StoreError> {
        let events: Vec<_> = facts.iter().map(|fact| Event::of(&fact.record, &self.node)).collect();
        self.stores.bus.publish(&events).await
    }
}

/// The archive as a destination: facts, what providers sent, and calls once they are over.
pub(super) struct ToArchive {
    /// The stores.
    pub(super) stores: Stores,
}

#[async_trait]
impl Destination for ToArchive {
    fn name(&self) -> &'static str {
        "archive"
    }

    fn listens(&self) -> bool {
        true
    }

    async fn deliver(&self, facts: &[Positioned]) -> Result<(), StoreError> {
        let mut touched: Vec<_> = facts
            .iter()
            .map(|fact| fact.record.entity)
            .filter(|entity| entity.kind == EntityKind::Call)
            .collect();
        touched.sort_unstable();
        touched.dedup();
        let mut batch = ArchiveBatch {
            facts: facts.iter().map(|fact| fact.record.clone()).collect(),
            payloads: facts.iter().filter_map(|fact| payload_of(&fact.record)).collect(),
            calls: Vec::new(),
        };
        for entity in touched {
            // The summary as it is now may know more than these facts; the newest stands anyway.
            let call = self.stores.history.call(CallId::from_uuid(entity.id)).await?;
            batch.calls.extend(call.filter(|call| !call.is_open));
        }
        self.stores.archive.store(&batch).await
    }
}

/// The actor.
pub(super) struct Relay;

/// What it is started with.
pub(super) struct Args {
    pub(super) engine: Engine,
    pub(super) destination: Arc<dyn Destination>,
}

/// Its only message: take the next page.
pub(super) struct NextPage;

/// What it holds.
pub(super) struct State {
    engine: Engine,
    destination: Arc<dyn Destination>,
    /// The shards whose facts this node brings: those that it owns.
    shards: Vec<u16>,
    /// Behind which position each shard is read; a shard that is missing is read from the start.
    cursors: HashMap<u16, u64>,
    /// Where reading goes on: no shard has facts to deliver at or before it.
    position: u64,
    /// Facts delivered since the cursors were stored, and when that was.
    unmarked: usize,
    marked_at: Instant,
    failures: usize,
}

impl Actor for Relay {
    type Msg = NextPage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, me: ActorRef<NextPage>, args: Args) -> Result<State, ActorProcessingErr> {
        me.cast(NextPage)?;
        Ok(State {
            engine: args.engine,
            destination: args.destination,
            shards: Vec::new(),
            cursors: HashMap::new(),
            position: 0,
            unmarked: 0,
            marked_at: Instant::now(),
            failures: 0,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<NextPage>,
        _next: NextPage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let mut commits = state.engine.writer().commits();
        match state.relay_page().await {
            Ok(0) => state.rest(&mut commits).await,
            Ok(_) => {}
            Err(error) => state.wait(&error).await,
        }
        me.cast(NextPage)?;
        Ok(())
    }
}

impl State {
    /// Brings one page; answers how many facts it read.
    async fn relay_page(&mut self) -> Result<usize, StoreError> {
        // A node that may not act any more leaves the rest to whoever took over.
        if self.engine.may_act().await.is_err() {
            return Ok(0);
        }
        let shards = self.engine.owned_shards();
        if self.cursors.is_empty() || self.shards != shards {
            self.shards = shards;
            self.load().await?;
        }
        if self.shards.is_empty() {
            return Ok(0);
        }
        if !self.destination.listens() {
            return self.pass_over().await;
        }
        let journal = self.engine.stores().journal.clone();
        let mut page = journal.read_after(self.position, &self.shards, PAGE).await?;
        let Some(last) = page.last().map(|fact| fact.position) else {
            self.mark_if_due().await?;
            return Ok(0);
        };
        let read = page.len();
        page.retain(|fact| self.cursors.get(&fact.shard).is_none_or(|cursor| fact.position > *cursor));
        if !page.is_empty() {
            let delivery = tokio::time::timeout(DELIVERY_TIMEOUT, self.destination.deliver(&page)).await;
            delivery.map_err(|_| StoreError::Unavailable("it does not answer".to_owned()))??;
            self.delivered(&page);
        }
        self.position = last;
        self.failures = 0;
        self.mark_if_due().await?;
        Ok(read)
    }

    /// Where the last relay of this destination was.
    async fn load(&mut self) -> Result<(), StoreError> {
        let cursors = self.engine.stores().journal.cursors(self.destination.name()).await?;
        self.cursors = cursors.into_iter().collect();
        let of_shard = |shard| self.cursors.get(shard).copied().unwrap_or_default();
        self.position = self.shards.iter().map(of_shard).min().unwrap_or_default();
        self.unmarked = 0;
        Ok(())
    }

    /// Until something is stored that somebody would take, or it is time to look anyway: while
    /// nobody listens a commit costs the relay no reading.
    async fn rest(&self, commits: &mut watch::Receiver<u64>) {
        let something_to_bring = async {
            while commits.changed().await.is_ok() {
                if self.destination.listens() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LOOK, something_to_bring).await;
    }

    /// Nobody listens: what was stored until now will never be brought.
    async fn pass_over(&mut self) -> Result<usize, StoreError> {
        let last = self.engine.stores().journal.last_position().await?;
        if last > self.position {
            self.position = last;
            self.unmarked += 1;
            for shard in &self.shards {
                self.cursors.insert(*shard, last);
            }
        }
        self.mark_if_due().await?;
        Ok(0)
    }

    fn delivered(&mut self, page: &[Positioned]) {
        for fact in page {
            self.cursors.insert(fact.shard, fact.position);
        }
        self.unmarked += page.len();
        let now = self.engine.clock().now();
        let lags = page.iter().map(|fact| now.since(fact.record.at));
        self.engine.metrics().relayed(self.destination.name(), page.len(), lags.max().unwrap_or_default());
    }

    /// Stores the cursors now and then.
    async fn mark_if_due(&mut self) -> Result<(), StoreError> {
        let is_due = self.unmarked >= MARK_EVERY || self.marked_at.elapsed() >= MARK_AFTER;
        if self.unmarked == 0 || !is_due {
            return Ok(());
        }
        // Behind the page that was read last there is nothing left of any of our shards.
        let cursors: Vec<_> = self.shards.iter().map(|shard| (*shard, self.position)).collect();
        self.engine.stores().journal.move_cursors(self.destination.name(), &cursors).await?;
        self.cursors = cursors.into_iter().collect();
        self.unmarked = 0;
        self.marked_at = Instant::now();
        Ok(())
    }

    async fn wait(&mut self, error: &StoreError) {
        let name = self.destination.name();
        if self.failures == 0 {
            tracing::warn!(destination = name, %error, "facts are not relayed; they wait in the journal");
        }
        self.engine.metrics().relay_failed(name);
        tokio::time::sleep(AGAIN.delay(self.failures).duration()).await;
        self.failures += 1;
    }
}
