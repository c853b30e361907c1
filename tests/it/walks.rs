//! Seeded walks through the whole world of calls, agents and queues: messages late, doubled and
//! out of order, a moody provider, impatient people, and crashes. What must always hold is checked
//! after every step.
//!
//! `EML_WALKS` sets how many walks, `EML_WALK_SEED` repeats one of them.

mod carrier;
mod checks;
mod people;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whatever_happens_every_call_ends_and_every_agent_is_free_again() {
    if let Some(seed) = number("EML_WALK_SEED") {
        World::new(seed, true).walk();
        return;
    }
    let walks = number("EML_WALKS").unwrap_or(2_000);
    let (start, mut steps, mut failed) = (Instant::now(), 0, Vec::new());
    for seed in 0..walks {
        match catch_unwind(AssertUnwindSafe(|| World::new(seed, false).walk())) {
            Ok(count) => steps += count,
            Err(_) => failed.push(seed),
        }
        assert!(failed.len() < 20, "EML_WALK_SEED is one of {failed:?}");
    }
    println!("{walks} walks, {steps} steps, {:?}, {} violations", start.elapsed(), failed.len());
    assert!(failed.is_empty(), "EML_WALK_SEED is one of {failed:?}");
}
