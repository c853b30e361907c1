//! One connection while it lasts: its channels for publishing, and what was declared on it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::errors::step;
use super::topology;
use crate::store::bus::WorkQueue;
use crate::store::error::StoreError;

/// Batches that are published at a time; more wait. A channel costs the broker a few processes.
const LANES: usize = 16;

/// One connection to the broker.
pub(super) struct Session {
    connection: Connection,
    /// Channels for publishing that nobody uses just now.
    idle: Mutex<Vec<Channel>>,
    lanes: Semaphore,
    /// Queues that are known to be there.
    declared: Mutex<HashSet<String>>,
    /// Held by the one who looks at dead jobs.
    looking: AsyncMutex<()>,
    lost: CancellationToken,
}

impl Session {
    /// Declares the exchanges; everything else is declared when it is needed.
    pub(super) async fn open(connection: Connection) -> Result<Self, StoreError> {
        let channel = step(connection.create_channel()).await?;
        topology::declare_exchanges(&channel).await?;
        Ok(Self {
            connection,
            idle: Mutex::default(),
            lanes: Semaphore::new(LANES),
            declared: Mutex::default(),
            looking: AsyncMutex::default(),
            lost: CancellationToken::new(),
        })
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A channel of one's own.
    pub(super) async fn channel(&self) -> Result<Channel, StoreError> {
        step(self.connection.create_channel()).await
    }

    /// A channel for publishing one batch.
    pub(super) async fn lane(&self) -> Result<Lane<'_>, StoreError> {
        if self.connection.status().blocked() {
            return Err(StoreError::Unavailable("broker is short of memory or disk".to_owned()));
        }
        let closed = |_| StoreError::Unavailable("bus is closed".to_owned());
        let permit = self.lanes.acquire().await.map_err(closed)?;
        let idle = locked(&self.idle).pop().filter(|channel| channel.status().connected());
        let channel = if let Some(channel) = idle { channel } else { self.confirming().await? };
        Ok(Lane { channel, session: self, _permit: permit })
    }

    /// A channel on which the broker confirms what is published.
    async fn confirming(&self) -> Result<Channel, StoreError> {
        let channel = self.channel().await?;
        step(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Makes sure that a queue is there, with all that belongs to it.
    pub(super) async fn ensure(&self, queue: &WorkQueue) -> Result<(), StoreError> {
        let names = topology::names(queue);
        if names.iter().all(|name| locked(&self.declared).contains(name)) {
            return Ok(());
        }
        topology::declare_queue(&self.channel().await?, queue).await?;
        locked(&self.declared).extend(names);
        Ok(())
    }

    /// Forgets that a queue is there, since a message did not get into it.
    pub(super) fn forget(&self, queue: &WorkQueue) {
        let mut declared = locked(&self.declared);
        for name in topology::names(queue) {
            declared.remove(&name);
        }
    }

    /// Waits until nobody else looks at dead jobs.
    pub(super) async fn look(&self) -> AsyncMutexGuard<'_, ()> {
        self.looking.lock().await
    }

    /// Asks the broker for something that must be there.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let name = topology::EVENTS_EXCHANGE.into();
        step(channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default())).await
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Tells everybody who waits for something on this connection that it is gone.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    /// Waits until the connection is gone.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(super) async fn close(&self) {
        self.lose();
        if let Err(error) = step(self.connection.close(200, "closed".into())).await {
            tracing::debug!(%error, "the connection to the broker did not end in peace");
        }
    }
}

/// A channel that confirms what is published, for one batch. It is used again only when it is given
/// back; one on which something went wrong is closed with its unknown rest.
pub(super) struct Lane<'a> {
    channel: Channel,
    session: &'a Session,
    _permit: SemaphorePermit<'a>,
}

impl Lane<'_> {
    pub(super) const fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn give_back(self) {
        locked(&self.session.idle).push(self.channel.clone());
    }
}

/// A panic elsewhere leaves no half-made change behind: each is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
