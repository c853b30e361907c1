//! Questions under way to one peer: how many there may be, and who waits for which answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::settings::LinkSettings;
use super::transport::LinkError;

/// What becomes of a question.
pub(super) type Reply = Result<Box<RawValue>, LinkError>;

/// The places for questions to one peer. When all are taken, a question waits until its deadline; when
/// too many wait, it is refused at once.
pub(super) struct Window {
    places: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Window {
    pub(super) fn new(settings: &LinkSettings) -> Self {
        Self {
            places: Semaphore::new(settings.window),
            waiting: AtomicUsize::new(0),
            most_waiting: settings.waiting,
        }
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, LinkError> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _turn = Turn::take(self)?;
        self.places.acquire().await.map_err(|_| LinkError::Gone { sure: true })
    }
}

/// One of those who wait, until dropped.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(window: &'a Window) -> Result<Self, LinkError> {
        let turn = Self(&window.waiting);
        if window.waiting.fetch_add(1, Ordering::Relaxed) >= window.most_waiting {
            return Err(LinkError::Full);
        }
        Ok(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The questions of one connection that have no answer yet.
#[derive(Default)]
pub(super) struct Pending(Mutex<State>);

struct State {
    next: u64,
    is_open: bool,
    asks: HashMap<u64, oneshot::Sender<Reply>>,
}

impl Default for State {
    fn default() -> Self {
        Self { next: 1, is_open: true, asks: HashMap::new() }
    }
}

/// One question; forgotten when dropped.
pub(super) struct Ticket<'a> {
    pending: &'a Pending,
    pub(super) id: u64,
    pub(super) answer: oneshot::Receiver<Reply>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.state().asks.remove(&self.id);
    }
}

impl Pending {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a question; nothing when the connection has ended.
    pub(super) fn register(&self) -> Option<Ticket<'_>> {
        let mut state = self.state();
        if !state.is_open {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let (sender, answer) = oneshot::channel();
        state.asks.insert(id, sender);
        drop(state);
        Some(Ticket { pending: self, id, answer })
    }

    /// Hands the reply to who asked. False when nobody waits for it any more.
    pub(super) fn settle(&self, id: u64, reply: Reply) -> bool {
        let asker = self.state().asks.remove(&id);
        asker.is_some_and(|asker| asker.send(reply).is_ok())
    }

    /// Ends all questions that are left: they may have been seen, or not.
    pub(super) fn close(&self) {
        let left = {
            let mut state = self.state();
            state.is_open = false;
            std::mem::take(&mut state.asks)
        };
        for asker in left.into_values() {
            // Who gave up meanwhile needs no reply.
            let _ = asker.send(Err(LinkError::Gone { sure: false }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_given_up_is_forgotten_and_the_end_answers_the_others() {
        let pending = Pending::default();
        let mut kept = pending.register().unwrap();
        let given_up = pending.register().unwrap();
        let late = given_up.id;
        drop(given_up);
        assert!(!pending.settle(late, Err(LinkError::Timeout)));
        pending.close();
        assert_eq!(kept.answer.try_recv().unwrap().unwrap_err(), LinkError::Gone { sure: false });
        assert!(pending.register().is_none());
    }

    #[tokio::test]
    async fn the_line_for_a_place_is_bounded() {
        let settings = LinkSettings { window: 1, waiting: 1, ..LinkSettings::default() };
        let window = Window::new(&settings);
        let place = window.enter().await.unwrap();
        let mut second = Box::pin(window.enter());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(window.enter().await.unwrap_err(), LinkError::Full);
        drop(place);
        assert!(second.await.is_ok());
        assert!(window.enter().await.is_ok());
    }
}
