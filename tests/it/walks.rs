//! Seeded walks through the whole world of calls, agents and queues: messages late, doubled and
//! out of order, a moody provider, impatient people, and crashes. What must always hold is checked
//! after every step.
//!
//! `EML_WALKS` sets how many walks, `EML_WALK_SEED` repeats one of them.

mod carrier;
mod checks;
mod people;
mod world;

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    let (start, seeds, steps) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = seeds.fetch_add(1, Relaxed);
                    if seed >= walks || failed.lock().unwrap().len() >= 20 {
                        return;
                    }
                    match catch_unwind(|| World::new(seed, false).walk()) {
                        Ok(count) => steps.fetch_add(count, Relaxed),
                        Err(_) => {
                            failed.lock().unwrap().push(seed);
                            0
                        }
                    };
                }
            });
        }
    });
    let (failed, steps) = (failed.into_inner().unwrap(), steps.into_inner());
    println!("{walks} walks, {steps} steps, {:?}, {} violations", start.elapsed(), failed.len());
    assert!(failed.is_empty(), "EML_WALK_SEED is one of {failed:?}");
}
