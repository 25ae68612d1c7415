//! Noticing that the process no longer gets anything done.
//!
//! An async task that blocks its thread takes one of the tasks' threads. When all are taken, no other
//! has a turn. One that was short before, and runs on the line's thread, takes that: then no timer
//! fires and nothing is fetched or settled, and nobody is left who could end that task, or this
//! process, whose lease goes on. Only a thread of its own can notice both.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// Looks without a sign of life before the process is given up. Counted in looks, so that a
/// process that was stopped and continued has missed one.
const LOOKS: u32 = 5;

/// What a thread of its own listens to; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    signs: SyncSender<()>,
    look: Duration,
}

impl Watchdog {
    /// Each time that [`Watchdog::show_life`] has not run for another `period`, asks `is_over`, with
    /// the length of the silence; calls `give_up` when that says yes.
    pub(crate) fn start(
        period: Duration,
        is_over: impl Fn(Duration) -> bool + Send + 'static,
        give_up: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (signs, listening) = sync_channel(1);
        let look = period / LOOKS;
        let watch = move || {
            if is_silent(&listening, look, is_over) {
                give_up();
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { signs, look })
    }

    /// Shows that the current runtime gets something done, and that of the tasks. Never ends.
    pub(crate) async fn show_life(&self, tasks: &Handle) {
        let mut ticks = tokio::time::interval(self.look * 3 / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if tasks.spawn(std::future::ready(())).await.is_ok() {
                // A sign that is not yet seen is as good as another.
                let _ = self.signs.try_send(());
            }
        }
    }
}

/// Whether the signs have stopped for too long; false when nobody gives them any more.
fn is_silent(signs: &Receiver<()>, look: Duration, is_over: impl Fn(Duration) -> bool) -> bool {
    let mut missed = 0;
    loop {
        match signs.recv_timeout(look) {
            Ok(()) => missed = 0,
            Err(RecvTimeoutError::Timeout) => missed += 1,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        if missed > 0 && missed % LOOKS == 0 && is_over(look * missed) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed() {
        let (given_up, noticed) = sync_channel(1);
        let period = Duration::from_millis(100);
        let is_over = move |silent| silent >= 3 * period;
        let watchdog = Watchdog::start(period, is_over, move || given_up.send(()).unwrap());
        noticed.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(watchdog);
    }

    #[test]
    fn an_end_is_no_silence() {
        let (signs, listening) = sync_channel(1);
        drop::<SyncSender<()>>(signs);
        assert!(!is_silent(&listening, Duration::from_secs(3600), |_| true));
    }
}
