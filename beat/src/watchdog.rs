//! Ends a process whose loop does not go on, so that its supervisor starts it anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// When a loop last went on.
#[derive(Debug, Clone)]
pub struct Progressing {
    start: Instant,
    /// Milliseconds after the start.
    noted: Arc<AtomicU64>,
}

impl Default for Progressing {
    fn default() -> Self {
        Self { start: Instant::now(), noted: Arc::default() }
    }
}

impl Progressing {
    /// The loop goes on.
    pub(crate) fn note(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.noted.store(now, Ordering::Relaxed);
    }

    /// How long it has not.
    pub fn silence(&self) -> Duration {
        let noted = Duration::from_millis(self.noted.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(noted)
    }

    /// Calls `end` in a thread of its own when the loop has not gone on for `limit`: whatever
    /// blocks the loop does not block this.
    ///
    /// # Errors
    ///
    /// Where no thread can be started.
    pub fn watch(
        &self,
        limit: Duration,
        end: impl FnOnce(Duration) + Send + 'static,
    ) -> std::io::Result<()> {
        let progress = self.clone();
        let watch = move || {
            loop {
                let silence = progress.silence();
                let Some(left) = limit.checked_sub(silence) else { return end(silence) };
                thread::sleep(left.max(Duration::from_millis(10)));
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_ended() {
        let progress = Progressing::default();
        let (ended, end) = mpsc::channel();

        progress
            .watch(Duration::from_millis(20), move |silence| ended.send(silence).unwrap())
            .unwrap();

        let silence = end.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(silence >= Duration::from_millis(20));
    }
}
