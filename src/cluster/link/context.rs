//! What all parts of one node's transport share.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::complaints::Complaints;
use super::counters::LinkCounters;
use super::settings::LinkSettings;
use super::transport::Inbound;
use crate::domain::node::NodeRef;

/// Whether a run of a node lives, by the last view of the node table. It is asked on the connection's
/// task and must not block.
pub type Living = Arc<dyn Fn(&NodeRef) -> bool + Send + Sync>;

/// Refusals that a receiver may leave unread.
const REFUSALS: usize = 64;

/// One node's transport, apart from its connections.
pub(super) struct Context {
    pub(super) me: NodeRef,
    pub(super) settings: LinkSettings,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) living: Living,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) complaints: Complaints,
    /// Ends everything.
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
    /// Peers may be set from a thread that has another runtime, or none.
    runtime: Handle,
    listeners: Mutex<Vec<mpsc::Sender<NodeRef>>>,
}

impl Context {
    /// Must be called on the runtime that the connections are to run on.
    pub(super) fn new(
        me: NodeRef,
        settings: LinkSettings,
        inbound: Arc<dyn Inbound>,
        living: Living,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            settings,
            inbound,
            living,
            counters: Arc::default(),
            complaints: Complaints::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            listeners: Mutex::default(),
        })
    }

    /// Starts a task that the end of the transport waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Ends all tasks and waits for them.
    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A receiver of the peers that refuse connections after one broke.
    pub(super) fn refused(&self) -> mpsc::Receiver<NodeRef> {
        let (sender, receiver) = mpsc::channel(REFUSALS);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Tells the receivers that this peer refuses connections. Who does not keep up misses it: it comes
    /// again with the next try.
    pub(super) fn tell_refused(&self, peer: &NodeRef) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener| {
            !matches!(listener.try_send(peer.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }
}
