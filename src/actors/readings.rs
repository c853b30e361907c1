//! Reading something again because it has changed, one at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Readings of one thing. An earlier one never ends after a later one, so that what it saw does not replace
/// what is newer; and all who ask while one is under way share the next.
#[derive(Debug, Default)]
pub(super) struct Readings {
    asked: AtomicU64,
    /// Everybody up to this number has had a reading that began after they asked.
    served: Mutex<u64>,
}

impl Readings {
    /// Answers once `read` has been carried out by somebody, from its beginning, after this was called.
    ///
    /// # Errors
    /// What this caller's own reading said.
    pub(super) async fn again<E>(&self, read: impl AsyncFnOnce() -> Result<(), E>) -> Result<(), E> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if *served >= mine {
            return Ok(());
        }
        let all_so_far = self.asked.load(Ordering::SeqCst);
        read().await?;
        *served = all_so_far;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_is_seen_last_is_what_was_there_last() {
        let readings = Readings::default();
        let (there, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // The first reading is the slowest: alone it would end after all others.
        let changes = (1..=20_u64).map(|change| {
            let (readings, there, seen) = (&readings, &there, &seen);
            async move {
                tokio::time::sleep(Duration::from_millis(change)).await;
                there.fetch_add(1, Ordering::SeqCst);
                let reading = async || {
                    let found = there.load(Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(200 / change)).await;
                    seen.store(found, Ordering::SeqCst);
                    Ok::<(), ()>(())
                };
                let before = there.load(Ordering::SeqCst);
                readings.again(reading).await.unwrap();
                assert!(seen.load(Ordering::SeqCst) >= before, "one's own change is seen");
            }
        });
        join_all(changes).await;
        assert_eq!(seen.load(Ordering::SeqCst), 20);
    }

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_the_next() {
        let (readings, times) = (Readings::default(), Arc::new(AtomicUsize::new(0)));
        let read = async || {
            tokio::time::sleep(Duration::from_millis(10)).await;
            times.fetch_add(1, Ordering::SeqCst);
            Ok::<(), ()>(())
        };
        join_all((0..100).map(|_| readings.again(read))).await;
        assert!(times.load(Ordering::SeqCst) <= 2, "{times:?}");
    }

    #[tokio::test]
    async fn a_reading_that_failed_serves_nobody_else() {
        let readings = Readings::default();
        assert_eq!(readings.again(async || Err("away")).await, Err("away"));
        let mut is_read = false;
        let read = async || {
            is_read = true;
            Ok::<(), &str>(())
        };
        readings.again(read).await.unwrap();
        assert!(is_read);
    }
}
