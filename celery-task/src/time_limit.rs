//! What a run knows about its time.
//!
//! Nothing can interrupt a Rust function in its thread, as Python's signal does. An async task is
//! therefore dropped at its soft limit, unless it waits for the limit itself; a task that blocks
//! its thread has to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use celery_redis::wire::exception::Exception;
use tokio::sync::Notify;

/// How far a run is in its time: it only advances.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Within = 0,
    SoftLimitPassed = 1,
    /// Nobody waits for its result any more.
    Over = 2,
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
#[derive(Debug, Clone, Default)]
pub struct RunTime(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stage: AtomicU8,
    handled: AtomicBool,
    advanced: Notify,
}

impl RunTime {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells the run that its soft limit has passed.
    pub fn pass_soft_limit(&self) -> SoftLimitPassed {
        self.advance(Stage::SoftLimitPassed);
        if self.0.handled.load(Ordering::Acquire) {
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
        self.0.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.0.advanced.notify_waiters();
    }

    /// Whether the run should come to its end.
    pub(crate) fn is_up(&self) -> bool {
        self.0.stage.load(Ordering::Acquire) > Stage::Within as u8
    }

    /// From now on the task itself sees to its end; ends when it has to.
    pub(crate) fn handle(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.0.handled.store(true, Ordering::Release);
        let time = self.clone();
        async move {
            // Listening begins before the look, so that no advance falls between the two.
            let advanced = time.0.advanced.notified();
            if !time.is_up() {
                advanced.await;
            }
        }
    }
}

/// What a Python task is raised at its soft limit (`billiard.exceptions`).
pub fn soft_time_limit_exceeded() -> Exception {
    Exception::new("SoftTimeLimitExceeded", "billiard.exceptions", Vec::new())
}
