//! The one thread that works on passwords, and the line in front of it.
//!
//! It has the lowest priority, so calls go first wherever both want a core, and since it is one thread
//! it never has more than one core. Whoever finds the line full is told at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::super::super::error::{ApiError, Code};

/// The lowest priority of a thread.
const NICENESS: i32 = 19;

/// Seconds after which a client should come again that found the line full: some of it is over then.
const LINE_CLEARS_AFTER: u64 = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The thread, as those see it who want something of it. It ends when nobody does any more.
#[derive(Clone)]
pub(super) struct SlowThread {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
}

impl SlowThread {
    /// Starts the thread with so many places in its line.
    pub(super) fn start(places: usize) -> std::io::Result<Self> {
        let (jobs, line) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("passwords".to_owned()).spawn(move || {
            // On Linux this is about the calling thread alone.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!(%error, "the thread for passwords has the same priority as calls");
            }
            while let Ok(job) = line.recv() {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("work on a password panicked");
                }
            }
        })?;
        Ok(Self { jobs, places: Arc::new(Semaphore::new(places)) })
    }

    /// A place in the line.
    ///
    /// # Errors
    /// `TooManyTries` at once when all are taken.
    pub(super) fn turn(&self) -> Result<Turn, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let full = || ApiError::new(Code::TooManyTries).detail("too many sign-ins at a time");
        let place = place.map_err(|_| full().with("retry_after", LINE_CLEARS_AFTER))?;
        Ok(Turn { jobs: self.jobs.clone(), place: Arc::new(place) })
    }
}

/// A place in the line. It is given back when its last work is over, also when nobody waits for that any
/// more.
pub struct Turn {
    jobs: mpsc::Sender<Job>,
    place: Arc<OwnedSemaphorePermit>,
}

impl Turn {
    /// Has work done by the thread.
    ///
    /// # Errors
    /// When the work broke down.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let place = Arc::clone(&self.place);
        let job = move || {
            // Whoever has gone away in the meantime shall not keep others waiting.
            if !reply.is_closed() {
                let _ = reply.send(work());
            }
            drop(place);
        };
        self.jobs.send(Box::new(job)).map_err(|_| ApiError::new(Code::Internal))?;
        answer.await.map_err(|_| ApiError::new(Code::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_line_is_told_at_once_and_clears() {
        let thread = SlowThread::start(2).unwrap();
        let (first, second) = (thread.turn().unwrap(), thread.turn().unwrap());
        assert_eq!(thread.turn().err().map(|error| error.code()), Some(Code::TooManyTries));
        assert_eq!(first.run(|| 1 + 1).await.unwrap(), 2);
        drop(first);
        // The thread lets its own hold on the place go just after it answered.
        second.run(|| ()).await.unwrap();
        assert!(thread.turn().is_ok());
    }

    #[tokio::test]
    async fn work_that_panics_ends_nothing_but_itself() {
        let thread = SlowThread::start(2).unwrap();
        let turn = thread.turn().unwrap();
        let broken = turn.run(|| panic!("on purpose")).await;
        assert_eq!(broken.err().map(|error| error.code()), Some(Code::Internal));
        assert_eq!(turn.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done() {
        let thread = SlowThread::start(3).unwrap();
        let (turn, dropped) = (thread.turn().unwrap(), thread.turn().unwrap());
        let (gate, opened) = mpsc::channel::<()>();
        let blocked = tokio::spawn(async move { turn.run(move || opened.recv().is_ok()).await });
        let (told, hears) = mpsc::channel::<()>();
        {
            let never = dropped.run(move || told.send(()));
            tokio::pin!(never);
            assert!(futures_util::poll!(&mut never).is_pending());
        }
        gate.send(()).unwrap();
        assert!(blocked.await.unwrap().unwrap());
        assert!(hears.recv().is_err(), "the work was thrown away");
    }

    #[tokio::test]
    async fn the_thread_gives_way_to_calls() {
        let thread = SlowThread::start(1).unwrap();
        let turn = thread.turn().unwrap();
        let niceness = turn.run(|| rustix::process::getpriority_process(None)).await.unwrap();
        assert_eq!(niceness.ok(), Some(NICENESS));
        assert_ne!(rustix::process::getpriority_process(None).ok(), Some(NICENESS), "others keep theirs");
    }
}
