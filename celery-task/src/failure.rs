//! How a run of a task ends.

use std::time::Duration;

use celery_redis::wire::exception::Exception;
use serde_json::value::RawValue;

/// The end of one run.
#[derive(Debug)]
pub enum Ended {
    /// It returned; the value as JSON.
    Returned(Box<RawValue>),
    /// It raised.
    Raised {
        /// What the caller's `.get()` raises.
        exception: Exception,
        /// Text that the caller may print.
        traceback: String,
    },
    /// It asks to be run again.
    Retries(Retry),
}

/// A task's wish to be run again (`Task.retry` in Celery).
#[derive(Debug, Clone)]
pub struct Retry {
    /// How long from now.
    pub countdown: Duration,
    /// How often at most; `None` for ever.
    pub max_retries: Option<u32>,
    /// What is raised when there are no retries left, and shown until then.
    pub error: Exception,
}

impl Retry {
    /// Celery's default: three retries, 180 seconds apart (`Task.max_retries`, `default_retry_delay`).
    pub fn new(error: Exception) -> Self {
        Self { countdown: Duration::from_secs(180), max_retries: Some(3), error }
    }
}
