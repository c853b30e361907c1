//! Noting acts in the audit trail before their answer goes out.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::origin::Origin;
use crate::domain::identity::{Actor, AuditEntry};
use crate::domain::time::Clock;
use crate::store::audit::AuditLog;

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
    /// What else is known.
    pub details: Map<String, Value>,
}

/// Where acts are noted.
pub struct Trail {
    audit: Arc<dyn AuditLog>,
    node: String,
}

impl Trail {
    /// A node's way to the audit trail.
    #[must_use]
    pub fn new(audit: Arc<dyn AuditLog>, node: String) -> Self {
        Self { audit, node }
    }

    /// Notes an act; answers when that is durable.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn note(&self, act: Act<'_>) -> Result<(), ApiError> {
        let Act { what, actor, subject, origin, details } = act;
        let entry = AuditEntry {
            at: Clock.now(),
            what: what.to_owned(),
            actor,
            subject,
            ip: origin.map(|origin| origin.ip),
            request_id: origin.map(|origin| origin.request_id.clone()),
            node: self.node.clone(),
            details,
        };
        self.audit.append_audit(vec![entry]).await?;
        Ok(())
    }
}
