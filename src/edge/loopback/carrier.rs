//! The carrier as its owner holds it: started, told what to do, looked at, shut down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use super::chaos::Chaos;
use super::leg::{LegView, Order};
use super::settings::{CallPlan, CarrierSettings, NumberPlan, PhonePlan};
use super::stats::StatsView;
use super::switch::Switch;
use super::{control, rest};

/// Why the carrier could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// The listener could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client could not be made.
    #[error("no HTTP client")]
    Client(#[from] reqwest::Error),
    /// The number called is not one of the account.
    #[error("{0} is not a number of this account")]
    UnknownNumber(String),
    /// There is no such leg, or it has been forgotten.
    #[error("no leg {0}")]
    UnknownLeg(String),
    /// A leg did not come to the state waited for.
    #[error("leg {} did not get there in time, it is {}", .0.sid, .0.status.as_str())]
    NotInTime(Box<LegView>),
}

/// A running loopback carrier. Dropping it stops it; `shutdown` also waits until it has stopped.
pub struct Carrier {
    switch: Arc<Switch>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.switch.stop.cancel();
        self.switch.tracker.close();
    }
}

impl Carrier {
    /// Opens the listener and starts to serve.
    ///
    /// # Errors
    /// `Listen` when the address cannot be bound, `Client` when there can be no HTTP client.
    pub async fn start(settings: CarrierSettings) -> Result<Self, CarrierError> {
        let address = settings.listen;
        let failed = |source| CarrierError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let switch = Arc::new(Switch::new(settings, address)?);
        let router: Router = Router::new()
            .merge(rest::routes(&switch))
            .merge(control::routes(&switch))
            .fallback(|| async { rest::NOT_FOUND })
            .with_state(Arc::clone(&switch));
        let stop = switch.stop.clone();
        switch.tracker.spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = serve.await {
                tracing::error!(%error, "loopback carrier stopped serving");
            }
        });
        tracing::debug!(%address, "loopback carrier started");
        Ok(Self { switch })
    }

    #[cfg(test)]
    pub(super) fn switch_for_tests(&self) -> Arc<Switch> {
        Arc::clone(&self.switch)
    }

    /// Where the REST and control paths are served.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.switch.address
    }

    /// Ends all legs and the listener, and waits until no task is left (for at most `patience`).
    pub async fn shutdown(self, patience: Duration) {
        self.switch.stop.cancel();
        self.switch.tracker.close();
        if tokio::time::timeout(patience, self.switch.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.switch.tracker.len(), "loopback carrier left tasks behind");
        }
    }

    /// Places a call from outside; gives back the identifier of its leg.
    ///
    /// # Errors
    /// `UnknownNumber` when the number called is not one of the account.
    pub fn place_call(&self, plan: CallPlan) -> Result<String, CarrierError> {
        let placed = self.switch.place(plan);
        placed.map(|leg| leg.sid.clone()).map_err(|unknown| CarrierError::UnknownNumber(unknown.0))
    }

    /// The person at this leg hangs up; false when there is no such living leg.
    #[must_use]
    pub fn hang_up(&self, sid: &str) -> bool {
        self.switch.leg(sid).is_some_and(|leg| leg.order(Order::HangUp))
    }

    /// Sets how a telephone behaves: a number, or the name of a client.
    pub fn set_phone(&self, name: &str, plan: PhonePlan) {
        self.switch.set_phone(name, plan);
    }

    /// Adds or replaces a number of the account.
    pub fn set_number(&self, plan: NumberPlan) {
        self.switch.set_number(plan);
    }

    /// Behaves better or worse from now on.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.switch.mischief.replace(chaos);
    }

    /// The figures since the start or the last reset.
    #[must_use]
    pub fn stats(&self) -> StatsView {
        self.switch.stats.view()
    }

    /// Starts the figures anew.
    pub fn reset_stats(&self) {
        self.switch.stats.reset();
    }

    /// One leg, while it lives and for some time after.
    #[must_use]
    pub fn leg(&self, sid: &str) -> Option<LegView> {
        self.switch.leg(sid).map(|leg| leg.view())
    }

    /// The legs to a number or client that are remembered, newest first, at most 1000.
    #[must_use]
    pub fn legs_to(&self, to: &str) -> Vec<LegView> {
        self.switch.legs(1000, |leg| leg.to == to).iter().map(|leg| leg.view()).collect()
    }

    /// Waits until a leg is as asked.
    ///
    /// # Errors
    /// `UnknownLeg` when there is none, `NotInTime` with its last state when time runs out.
    pub async fn await_leg_state(
        &self,
        sid: &str,
        is_so: impl Fn(&LegView) -> bool,
        patience: Duration,
    ) -> Result<LegView, CarrierError> {
        let leg = self.switch.leg(sid).ok_or_else(|| CarrierError::UnknownLeg(sid.to_owned()))?;
        let mut changes = leg.changes();
        let found = tokio::time::timeout(patience, async {
            loop {
                let view = leg.view();
                if is_so(&view) || changes.changed().await.is_err() {
                    return view;
                }
            }
        })
        .await;
        found.map_err(|_| CarrierError::NotInTime(Box::new(leg.view())))
    }
}
