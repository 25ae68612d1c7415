//! The record of a task's state in the result backend (`celery.backends.base`).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call_record::CallRecord;
use super::exception::Exception;
use super::{isoformat, python_json};

/// Celery's built-in states, and the application's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum State {
    /// A slot has begun the task; stored where the task tracks its start.
    Started,
    /// Will run again.
    Retry,
    /// Returned a value.
    Success,
    /// Raised.
    Failure,
    /// Will never run, or was stopped.
    Revoked,
    /// Set by the task through `update_state`, or by Celery before a worker had it.
    Other(String),
}

impl State {
    /// Whether a caller's `.get()` ends with this state.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for State {
    fn from(name: String) -> Self {
        match name.as_str() {
            "STARTED" => Self::Started,
            "RETRY" => Self::Retry,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            _ => Self::Other(name),
        }
    }
}

impl From<State> for String {
    fn from(state: State) -> Self {
        state.as_str().to_owned()
    }
}

/// What a task left behind, before it is bound to the request that asked for it.
#[derive(Debug)]
pub struct Outcome {
    /// The state to store.
    pub state: State,
    /// The return value, the exception, or the state's own data, as JSON.
    pub result: Box<RawValue>,
    /// Python shows it as `AsyncResult.traceback`.
    pub traceback: Option<String>,
}

impl Outcome {
    /// A value that the task returned.
    pub fn success(result: Box<RawValue>) -> Self {
        Self { state: State::Success, result, traceback: None }
    }

    /// An exception that the task raised, with the traceback that a caller may print.
    pub fn failure(exception: &Exception, traceback: Option<String>) -> Self {
        Self { state: State::Failure, result: raw(exception), traceback }
    }

    /// A task that will not run: `expired`, `revoked` or `terminated`.
    pub fn revoked(reason: &str) -> Self {
        let exception = Exception::celery("TaskRevokedError", reason);
        Self { state: State::Revoked, result: raw(&exception), traceback: None }
    }
}

/// Serialises a value whose `Serialize` cannot fail; the null of a failure is never reached.
fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    python_json::to_string(value)
        .and_then(RawValue::from_string)
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The stored record; field order as Celery writes it.
#[derive(Debug, Serialize)]
pub struct TaskMeta<'a> {
    /// State name.
    pub status: &'a str,
    /// Value, exception, or the state's own data.
    pub result: &'a RawValue,
    /// Text of the traceback of a failure.
    pub traceback: Option<&'a str>,
    /// Tasks that this one sent.
    pub children: &'a RawValue,
    /// When the task ended; null while it has not.
    pub date_done: Option<String>,
    /// Present for a member of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<&'a str>,
    /// Present for a task that another one sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<&'a str>,
    /// The call itself, where results are extended.
    #[serde(flatten)]
    pub call: Option<&'a CallRecord>,
    /// Id of the task.
    pub task_id: &'a str,
}

impl<'a> TaskMeta<'a> {
    /// The record of `outcome` for the task `task_id`, as of `now`.
    pub fn new(
        task_id: &'a str,
        outcome: &'a Outcome,
        children: &'a RawValue,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            status: outcome.state.as_str(),
            result: &outcome.result,
            traceback: outcome.traceback.as_deref(),
            children,
            date_done: outcome.state.is_ready().then(|| isoformat::format(now)),
            group_id: None,
            parent_id: None,
            call: None,
            task_id,
        }
    }

    /// The bytes that are stored and published: JSON.
    pub fn encode(&self) -> Vec<u8> {
        // A large result is copied once, however much else there is.
        let given = self.result.get().len() + self.children.get().len();
        let mut record = Vec::with_capacity(given + if given < 4096 { 250 } else { 4096 });
        match python_json::write(&mut record, self) {
            Ok(()) => record,
            // Every field is a string, null, or JSON already.
            Err(_) => Vec::new(),
        }
    }
}

/// A stored record as a waiting client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct StoredMeta {
    /// State name.
    pub status: State,
    /// Value, exception, or the state's own data.
    #[serde(default)]
    pub result: serde_json::Value,
    /// Text of the traceback of a failure.
    #[serde(default)]
    pub traceback: Option<String>,
    /// Id of the task.
    #[serde(default)]
    pub task_id: String,
}
