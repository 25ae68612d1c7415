//! What a run knows about its time.
//!
//! Nothing can interrupt a Rust function in its thread, as Python's signal does. An async task is
//! therefore dropped at its soft limit, unless it waits for the limit itself; a task that blocks
//! its thread has to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celery_redis::wire::exception::Exception;
use tokio::sync::watch;

/// How far a run is in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Within,
    SoftLimitPassed,
    /// Nobody waits for its result any more.
    Over,
}

/// Who sees to the end of a run whose soft limit has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftLimitPassed {
    /// The task, which waits for the limit itself.
    TaskEndsItself,
    /// The engine has to end it.
    Unhandled,
}

/// The time of one run: the engine says how far it is, the task asks.
#[derive(Debug, Clone)]
pub struct RunTime {
    stage: Arc<watch::Sender<Stage>>,
    handled: Arc<AtomicBool>,
}

impl RunTime {
    pub(crate) fn new() -> Self {
        Self {
            stage: Arc::new(watch::Sender::new(Stage::Within)),
            handled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Tells the run that its soft limit has passed.
    pub fn pass_soft_limit(&self) -> SoftLimitPassed {
        self.advance(Stage::SoftLimitPassed);
        if self.handled.load(Ordering::Acquire) {
            SoftLimitPassed::TaskEndsItself
        } else {
            SoftLimitPassed::Unhandled
        }
    }

    /// Tells the run that nobody waits for its result any more: its hard limit has passed, or
    /// somebody terminated it.
    pub fn end(&self) {
        self.advance(Stage::Over);
    }

    fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let advances = *now < stage;
            *now = stage.max(*now);
            advances
        });
    }

    /// Whether the run should come to its end.
    pub(crate) fn is_up(&self) -> bool {
        *self.stage.borrow() > Stage::Within
    }

    /// From now on the task itself sees to its end; ends when it has to.
    pub(crate) fn handle(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.handled.store(true, Ordering::Release);
        let mut stage = self.stage.subscribe();
        let sender = Arc::clone(&self.stage);
        async move {
            // The sender lives as long as this.
            let _ = stage.wait_for(|now| *now > Stage::Within).await;
            drop(sender);
        }
    }
}

/// What a Python task is raised at its soft limit (`billiard.exceptions`).
pub fn soft_time_limit_exceeded() -> Exception {
    Exception::new("SoftTimeLimitExceeded", "billiard.exceptions", Vec::new())
}
