//! What commands of identity need that act on the store itself, beside a node or without one.

use std::sync::Arc;

use serde_json::Map;

use super::Failure;
use crate::app;
use crate::config::Settings;
use crate::domain::identity::{Actor, AuditEntry};
use crate::domain::time::Clock;
use crate::edge::auth::{Authority, Gate};
use crate::store::{self, Stores};

/// The stores, and what makes and refuses tokens.
pub(super) struct Host {
    /// The stores.
    pub(super) stores: Stores,
    /// Makes and checks tokens.
    pub(super) authority: Arc<Authority>,
    /// Refuses revoked ones.
    pub(super) gate: Arc<Gate>,
    node: String,
}

impl Host {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// When the store or the key file cannot be used.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        std::fs::create_dir_all(&settings.node.data_dir)
            .map_err(|error| Failure::failed(format!("{}: {error}", settings.node.data_dir.display())))?;
        let stores = store::open(&settings.store_url()).await?;
        let (authority, gate) = app::identity_of(settings, &stores).await?;
        Ok(Self { stores, authority, gate, node: settings.node.name.clone() })
    }

    /// Notes what was done, by whom has a shell here.
    ///
    /// # Errors
    /// When the store does not take it.
    pub(super) async fn note(&self, what: &str, subject: &str) -> Result<(), Failure> {
        let entry = AuditEntry {
            at: Clock.now(),
            what: what.to_owned(),
            actor: Actor::Host,
            subject: Some(subject.to_owned()),
            ip: None,
            request_id: None,
            node: self.node.clone(),
            details: Map::new(),
        };
        self.stores.audit.append_audit(vec![entry]).await?;
        Ok(())
    }
}
