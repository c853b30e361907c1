//! Letters to shards that are not here: kept in order per shard and told again until they were
//! taken.
//!
//! What a letter causes is durable at its reader before the letter counts as taken. Letters are in
//! memory only: when this node dies, whoever takes over the entities that wrote them writes them
//! again (`Machine::resume`).

use std::collections::VecDeque;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::engine::Engine;
use super::letter::{Letter, Request, Response};
use super::routing::Route;
use crate::seeded::{self, Bug};

/// Letters of one request.
const BUNDLE: usize = 64;
/// Longest wait for the answer to one request.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest pause before a shard is looked up again.
const AGAIN: Duration = Duration::from_millis(20);
/// Most letters that wait for one shard. Beyond, the oldest are dropped and counted: their writers
/// have deadlines, and a shard that nobody owns for so long is a failure of the whole cluster.
const MOST: usize = 20_000;

/// The letters on their way, by shard. A shard is listed while somebody carries its letters.
#[derive(Default)]
pub(super) struct Post {
    waiting: DashMap<u16, VecDeque<Letter>>,
}

impl Post {
    /// Takes a letter in.
    pub(super) fn send(&self, engine: &Engine, letter: Letter) {
        if seeded::has(Bug::LoseTells) {
            return;
        }
        let shard = letter.shard();
        let mut is_first = false;
        let mut waiting = self.waiting.entry(shard).or_insert_with(|| {
            is_first = true;
            VecDeque::new()
        });
        if waiting.len() == MOST {
            tracing::error!(shard, "too many letters wait for a shard; the oldest is dropped");
            waiting.pop_front();
        }
        waiting.push_back(letter);
        drop(waiting);
        if is_first {
            let engine = engine.clone();
            engine.tracker().clone().spawn(async move { carry(&engine, shard).await });
        }
    }

    /// Letters that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.iter().map(|letters| letters.len()).sum()
    }

    /// The next letters of a shard; when there are none it is not listed any more.
    fn bundle(&self, shard: u16) -> Vec<Letter> {
        let bundle: Vec<_> = match self.waiting.get_mut(&shard) {
            Some(mut letters) => {
                let count = letters.len().min(BUNDLE);
                letters.drain(..count).collect()
            }
            None => Vec::new(),
        };
        if bundle.is_empty() {
            // A letter that came since then has to find its carrier listed, or be carried by another.
            self.waiting.remove_if(&shard, |_, letters| letters.is_empty());
        }
        bundle
    }

    fn is_listed(&self, shard: u16) -> bool {
        self.waiting.contains_key(&shard)
    }
}

/// Carries the letters of a shard until there are none.
async fn carry(engine: &Engine, shard: u16) {
    let post = &engine.inner().post;
    loop {
        let bundle = post.bundle(shard);
        if !bundle.is_empty() {
            deliver(engine, shard, bundle).await;
        } else if !post.is_listed(shard) {
            return;
        }
    }
}

/// Brings letters to wherever their shard is, as often as it takes.
async fn deliver(engine: &Engine, shard: u16, letters: Vec<Letter>) {
    let request = Request::Letters { letters };
    loop {
        match engine.route(shard) {
            Route::Here => {
                if let Request::Letters { letters } = request {
                    for letter in letters {
                        engine.hand_over(letter);
                    }
                }
                return;
            }
            Route::There(node) => match engine.ask_node(&node, &request, Instant::now() + ANSWER).await {
                Some(Response::Taken) => return,
                Some(Response::Call(_) | Response::Agent(_) | Response::Attach(_) | Response::Elsewhere)
                | None => {}
            },
            Route::Nowhere => {}
        }
        if engine.cluster().is_some_and(|cluster| cluster.lease.is_ended()) {
            return;
        }
        engine.owners_changed(AGAIN).await;
    }
}
