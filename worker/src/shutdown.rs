//! From signals to stages: each stage is passed as a value to whoever has to act on it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Work.
    Running,
    /// Fetch no more, finish what runs.
    Warm,
    /// Give back what runs, end now.
    Cold,
}

/// A worker's view of its end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    reached: watch::Receiver<Stage>,
    begun: watch::Sender<Stage>,
}

impl Shutdown {
    /// A stage that the returned sender sets.
    pub fn channel() -> (watch::Sender<Stage>, Self) {
        let (begun, reached) = watch::channel(Stage::Running);
        (begun.clone(), Self { reached, begun })
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.reached.borrow()
    }

    /// Goes to `stage`, unless the end is further on already.
    pub fn begin(&self, stage: Stage) {
        self.begun.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    /// Ends when `stage` is reached.
    pub async fn reached(&mut self, stage: Stage) {
        // `self` holds a sender.
        if self.reached.wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the process's signals as Celery's worker does: TERM or INT is warm, a second one or
/// QUIT is cold. Never ends.
pub(crate) async fn follow_signals(stage: watch::Sender<Stage>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    loop {
        let asked = tokio::select! {
            _ = terminate.recv() => Stage::Warm,
            _ = interrupt.recv() => Stage::Warm,
            _ = quit.recv() => Stage::Cold,
        };
        let now = *stage.borrow();
        let next = if now >= Stage::Warm { Stage::Cold } else { asked };
        match next {
            Stage::Cold => log::warn!("cold shutdown: running messages go back to their queues"),
            _ => log::warn!(
                "warm shutdown: running tasks finish; once more to put them back instead"
            ),
        }
        stage.send_replace(next);
    }
}
