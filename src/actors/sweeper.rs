//! The sweeper: forgets grants, counters and revocations whose time is over.
//!
//! Supervised by the root. One node does it for all: the one that owns shard 0. Whatever it has not got
//! round to does not count any more anyway.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::engine::Engine;
use crate::domain::time::Millis;
use crate::store::StoreError;

/// The shard whose owner sweeps.
const SHARD: u16 = 0;
/// How often it sweeps.
const EVERY: Duration = Duration::from_mins(1);
/// Pause between two handfuls, so that others come to the store.
const BREATH: Duration = Duration::from_millis(20);
/// How long what is over is kept: the clocks of nodes differ, and none may lose what counts for another.
const GRACE: Millis = Millis::from_secs(600);

/// The actor.
pub(super) struct Sweeper;

/// Its only message: sweep.
pub(super) struct Sweep;

impl Actor for Sweeper {
    type Msg = Sweep;
    type State = Engine;
    type Arguments = Engine;

    async fn pre_start(&self, me: ActorRef<Sweep>, engine: Engine) -> Result<Engine, ActorProcessingErr> {
        me.send_after(EVERY, || Sweep);
        Ok(engine)
    }

    async fn handle(
        &self,
        me: ActorRef<Sweep>,
        _sweep: Sweep,
        engine: &mut Engine,
    ) -> Result<(), ActorProcessingErr> {
        match sweep(engine).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "forgot grants whose time is over"),
            Err(error) => tracing::warn!(%error, "what is over cannot be forgotten; tried again later"),
        }
        me.send_after(EVERY, || Sweep);
        Ok(())
    }
}

/// Forgets all that is over, a handful at a time; answers how many there were.
async fn sweep(engine: &Engine) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    while engine.may_act().await.is_ok() && engine.owns(SHARD) {
        let now = engine.clock().now() - GRACE;
        let handful = engine.stores().grants.forget_expired(now).await?;
        if handful == 0 {
            break;
        }
        forgotten += handful;
        tokio::time::sleep(BREATH).await;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::tests::engine;
    use super::*;
    use crate::store::grants::{Grant, GrantKind};

    #[tokio::test]
    async fn what_is_long_over_is_forgotten_and_what_a_slow_clock_counts_is_kept() {
        let engine = engine(crate::store::open("memory:").await.unwrap()).await;
        let grants = engine.stores().grants.clone();
        let now = engine.clock().now();
        let over = |key: &str, seconds| Grant {
            kind: GrantKind::Code,
            key: key.to_owned(),
            subject: Uuid::nil(),
            body: serde_json::json!({}),
            version: 1,
            created_at: now - Millis::from_secs(9_999),
            expires_at: now - Millis::from_secs(seconds),
        };
        for (key, seconds) in [("old", 601), ("young", 500)] {
            grants.put(over(key, seconds)).await.unwrap();
        }
        assert_eq!(sweep(&engine).await.unwrap(), 1);
        let long_ago = now - Millis::from_secs(9_000);
        assert_eq!(grants.get(GrantKind::Code, "old", long_ago).await.unwrap(), None);
        assert!(grants.get(GrantKind::Code, "young", long_ago).await.unwrap().is_some());
    }
}
