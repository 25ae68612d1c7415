//! How a run of a task ends.

use std::time::Duration;

use celery_redis::Canvas;
use celery_redis::wire::exception::Exception;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::options::MaxRetries;

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
    Retries(Box<Retry>),
    /// It wants no result stored, now or later; its message is acknowledged (`Ignore` in Celery).
    Ignored,
    /// It does not want the message (`Reject` in Celery).
    Rejected {
        /// Why, for the caller.
        reason: Value,
        /// Whether another run may take it: it then goes back to its queue, behind all others.
        /// Otherwise it becomes a dead letter and its caller is told.
        requeue: bool,
    },
    /// Something else takes its place (`Task.replace` in Celery).
    Replaced(Box<Canvas>),
}

impl Ended {
    /// A failure, with the traceback that there is.
    pub fn raised(exception: Exception) -> Self {
        let traceback = exception.traceback();
        Self::Raised { exception, traceback }
    }
}

/// A task's wish to be run again (`Task.retry` in Celery).
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// When; the task's default delay from now where it is `None`.
    pub when: Option<RetryTime>,
    /// How often at most; as the task's options say where it is `None`.
    pub max_retries: Option<MaxRetries>,
    /// What is shown until then, and raised when there are no retries left; a
    /// `MaxRetriesExceededError` where it is `None`.
    pub error: Option<Exception>,
    /// Other positional arguments for the next run.
    pub args: Option<Vec<Value>>,
    /// Other keyword arguments for the next run.
    pub kwargs: Option<Map<String, Value>>,
}

/// When a task is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryTime {
    /// So long from now.
    Countdown(Duration),
    /// At this instant.
    Eta(DateTime<Utc>),
}

impl Retry {
    /// After the task's default delay, as often as its options say.
    pub fn new() -> Self {
        Self::default()
    }

    /// So long from now.
    #[must_use]
    pub fn countdown(self, countdown: Duration) -> Self {
        Self { when: Some(RetryTime::Countdown(countdown)), ..self }
    }

    /// At this instant.
    #[must_use]
    pub fn eta(self, eta: DateTime<Utc>) -> Self {
        Self { when: Some(RetryTime::Eta(eta)), ..self }
    }

    /// So often at most, counted from the first run.
    #[must_use]
    pub fn max_retries(self, most: MaxRetries) -> Self {
        Self { max_retries: Some(most), ..self }
    }

    /// Because of this error, which is raised when there are no retries left.
    #[must_use]
    pub fn error(self, error: Exception) -> Self {
        Self { error: Some(error), ..self }
    }

    /// With other positional arguments.
    #[must_use]
    pub fn args(self, args: Vec<Value>) -> Self {
        Self { args: Some(args), ..self }
    }

    /// With other keyword arguments.
    #[must_use]
    pub fn kwargs(self, kwargs: Map<String, Value>) -> Self {
        Self { kwargs: Some(kwargs), ..self }
    }
}
