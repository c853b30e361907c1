//! What actors need from outside.

use async_trait::async_trait;

use crate::domain::call::{CarrierOrder, OrderResult};
use crate::domain::id::{CallId, LegId};

/// A provider that carries out orders about legs.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Carries out one order. Never repeats a `Place` by itself when its outcome is unknown.
    async fn carry_out(&self, call_id: CallId, leg_id: LegId, order: CarrierOrder) -> OrderResult;
}
