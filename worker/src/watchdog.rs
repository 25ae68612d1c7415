//! Noticing that the process no longer gets anything done.
//!
//! An async task that blocks its thread takes one of the runtime's. When all are taken, no timer
//! fires and no lease is renewed: nobody is left who could end those tasks, or this process. Only a
//! thread of its own can notice that.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Looks without a sign of life before the process is given up. Counted in looks, so that a
/// process that was stopped and continued has missed one.
const LOOKS: u32 = 10;

/// What a thread of its own listens to; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    signs: SyncSender<()>,
    look: Duration,
}

impl Watchdog {
    /// Calls `give_up` when [`Watchdog::show_life`] has not run for `longest`.
    pub(crate) fn start(
        longest: Duration,
        give_up: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (signs, listening) = sync_channel(1);
        let look = longest / LOOKS;
        let watch = move || {
            if is_silent(&listening, look) {
                give_up();
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { signs, look })
    }

    /// Shows that the runtime gets something done. Never ends.
    pub(crate) async fn show_life(&self) {
        let mut ticks = tokio::time::interval(self.look / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A sign that is not yet seen is as good as another.
            let _ = self.signs.try_send(());
        }
    }
}

/// Whether the signs have stopped; false when nobody gives them any more.
fn is_silent(signs: &Receiver<()>, look: Duration) -> bool {
    let mut missed = 0;
    while missed < LOOKS {
        match signs.recv_timeout(look) {
            Ok(()) => missed = 0,
            Err(RecvTimeoutError::Timeout) => missed += 1,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed() {
        let (given_up, noticed) = sync_channel(1);
        let watchdog =
            Watchdog::start(Duration::from_millis(100), move || given_up.send(()).unwrap());
        noticed.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(watchdog);
    }

    #[test]
    fn an_end_is_no_silence() {
        let (signs, listening) = sync_channel(1);
        drop::<SyncSender<()>>(signs);
        assert!(!is_silent(&listening, Duration::from_secs(3600)));
    }
}
