//! Noting acts in the audit trail before their answer goes out.
//!
//! A task of its own brings them to the store, as many as wait at a time in one commit: many sign-ins at
//! once cost little more than one.

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::super::error::{ApiError, Code};
use super::origin::Origin;
use crate::actors::Engine;
use crate::domain::identity::{Actor, AuditEntry};
use crate::store::StoreError;

/// Acts that may wait for the store; who comes then waits for a place.
const WAITING: usize = 1_024;
/// Acts of one commit.
const TOGETHER: usize = 256;

/// Something that was done.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// What, as an event type.
    pub what: &'static str,
    /// Who did it.
    pub actor: Actor,
    /// What it was done to, as an id with its prefix.
    pub subject: Option<String>,
    /// Where it came from; absent when from the host itself.
    pub origin: Option<&'a Origin>,
    /// What else is known; no password, token or code.
    pub details: Map<String, Value>,
}

/// An act on its way, and who waits for it.
struct Waiting {
    entry: AuditEntry,
    stored: oneshot::Sender<Result<(), StoreError>>,
}

/// Where acts are noted.
pub struct Trail {
    engine: Engine,
    way: mpsc::Sender<Waiting>,
}

impl Trail {
    /// A node's way to the audit trail. Needs a tokio runtime; ends when nobody has it any more.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let (way, waiting) = mpsc::channel(WAITING);
        engine.tracker().spawn(keep(engine.clone(), waiting));
        Self { engine, way }
    }

    /// Notes an act; answers when that is durable. It is noted also when nobody waits for the answer.
    ///
    /// # Errors
    /// When the store does not take it: then the act must not be answered as done.
    pub async fn note(&self, act: Act<'_>) -> Result<(), ApiError> {
        let Act { what, actor, subject, origin, details } = act;
        let entry = AuditEntry {
            at: self.engine.clock().now(),
            what: what.to_owned(),
            actor,
            subject,
            ip: origin.map(|origin| origin.ip),
            request_id: origin.map(|origin| origin.request_id.clone()),
            node: self.engine.settings().node.clone(),
            details,
        };
        let (stored, outcome) = oneshot::channel();
        let gone = || ApiError::new(Code::StoreUnavailable);
        self.way.send(Waiting { entry, stored }).await.map_err(|_| gone())?;
        Ok(outcome.await.map_err(|_| gone())??)
    }
}

/// Brings acts to the store, in order of their coming.
async fn keep(engine: Engine, mut waiting: mpsc::Receiver<Waiting>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut together, TOGETHER).await > 0 {
        let (entries, waiters): (Vec<_>, Vec<_>) =
            together.drain(..).map(|Waiting { entry, stored }| (entry, stored)).unzip();
        let stored = engine.stores().audit.append_audit(entries).await.map(drop);
        match &stored {
            Ok(()) => engine.has_noted(),
            Err(error) => {
                tracing::warn!(%error, acts = waiters.len(), "acts cannot be noted and are refused");
            }
        }
        for waiter in waiters {
            // Who does not wait any more has gone away.
            let _ = waiter.send(stored.clone());
        }
    }
}
