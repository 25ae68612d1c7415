//! A call of one task that is not yet sent (`celery.canvas.Signature`).

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::isoformat;
use super::raw_list::AllButLast;
use super::task_message::{Embedded, Rest, TaskMessage};
pub use super::task_message::{Encoded, Producer};

/// Execution options of a signature: the keyword arguments of Celery's `apply_async`.
pub type Options = Map<String, Value>;

/// The queue of tasks that nothing routes elsewhere (Celery's `task_default_queue`).
pub const DEFAULT_QUEUE: &str = "celery";

/// A call of a task that is not yet sent: the JSON object that Celery passes around.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Signature {
    /// Name of the task.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// How it is sent, and what follows.
    pub options: Options,
    /// `chain`, `group`, … of a signature that is more than one task.
    pub subtask_type: Option<String>,
    /// Whether it takes no result of what ran before.
    pub immutable: bool,
}

/// What a signature's message depends on besides the signature.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// Who sends.
    pub producer: &'a Producer,
    /// When.
    pub now: DateTime<Utc>,
    /// `ignore_result` of a call that does not say: false where the sender knows the task, `None`
    /// (null) where it does not.
    pub ignore_result: Option<bool>,
    /// The queue of a call that names none.
    pub queue: &'a str,
    /// The task that sends it: its id, and the first of its workflow.
    pub parent: Option<Parent<'a>>,
}

/// The task that sends another.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its id.
    pub id: &'a str,
    /// First task of the workflow.
    pub root_id: &'a str,
}

/// Why a signature cannot be a message.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// An option of the wrong type or beyond all dates.
    #[error("option {name} of {task} must be {expected}")]
    Option {
        /// The task.
        task: String,
        /// The option's name.
        name: &'static str,
        /// What is right there.
        expected: &'static str,
    },
    /// Something that JSON cannot hold.
    #[error("the call of {task} is no JSON: {source}")]
    Json {
        /// The task.
        task: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Signature {
    /// A call of `task` without arguments.
    pub fn new(task: impl Into<String>) -> Self {
        Self { task: task.into(), ..Self::default() }
    }

    /// Name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Appends a positional argument.
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Adds a keyword argument.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// Takes no result of what ran before (`Task.si`).
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Sets any option of `apply_async`.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// Chooses the task's id; a fresh UUID otherwise.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.option("task_id", id.into())
    }

    /// Chooses the queue; the sender's default otherwise.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.option("queue", queue.into())
    }

    /// 0 to 9; 0 is served first on Redis.
    pub fn priority(self, priority: i64) -> Self {
        self.option("priority", priority)
    }

    /// Not before this instant.
    pub fn eta(self, eta: DateTime<Utc>) -> Self {
        self.option("eta", isoformat::format(eta))
    }

    /// Not before this long after it is sent.
    pub fn countdown(self, countdown: TimeDelta) -> Self {
        self.option("countdown", seconds(countdown))
    }

    /// Not after this instant.
    pub fn expires(self, expires: DateTime<Utc>) -> Self {
        self.option("expires", isoformat::format(expires))
    }

    /// Hard and soft time limit in seconds.
    pub fn time_limits(mut self, hard: Option<f64>, soft: Option<f64>) -> Self {
        for (name, limit) in [("time_limit", hard), ("soft_time_limit", soft)] {
            if let Some(limit) = limit {
                self = self.option(name, number(limit));
            }
        }
        self
    }

    /// Whether a result is stored; `None` leaves it to the worker's definition of the task.
    pub fn ignore_result(self, ignore: Option<bool>) -> Self {
        self.option("ignore_result", ignore)
    }

    /// Names the task that sends this one, and the first of their workflow.
    pub fn sent_by(self, parent_id: impl Into<String>, root_id: impl Into<String>) -> Self {
        self.option("parent_id", parent_id.into()).option("root_id", root_id.into())
    }

    /// Adds a header, inline after Celery's own.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let headers = self.options.entry("headers").or_insert_with(|| Map::new().into());
        if let Value::Object(headers) = headers {
            headers.insert(name.into(), value.into());
        }
        self
    }

    /// Marks the message with a stamp that every task it leads to keeps (`Signature.stamp`).
    pub fn stamp(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        let stamped = self.options.entry("stamped_headers").or_insert_with(|| Value::Array(vec![]));
        if let Value::Array(names) = stamped
            && !names.iter().any(|known| *known == name)
        {
            names.push(Value::String(name.clone()));
        }
        self.options.insert(name, value.into());
        self
    }

    /// The message of a producer that is no worker and knows the task.
    pub fn encode(
        &self,
        producer: &Producer,
        now: DateTime<Utc>,
    ) -> Result<Encoded, SignatureError> {
        self.message(&Sending {
            producer,
            now,
            ignore_result: Some(false),
            queue: DEFAULT_QUEUE,
            parent: None,
        })
    }

    /// The message, byte for byte as Celery 5.7 sends it (`celery.app.base`, `send_task`).
    pub fn message(&self, sending: &Sending<'_>) -> Result<Encoded, SignatureError> {
        self.message_with(sending, self.given("chain").map_or(Rest::None, Rest::Values))
    }

    /// The message of a step of a chain, whatever its own options say of one.
    pub(super) fn message_before(
        &self,
        rest: AllButLast<'_>,
        sending: &Sending<'_>,
    ) -> Result<Encoded, SignatureError> {
        self.message_with(sending, Rest::Text(rest))
    }

    fn message_with(
        &self,
        sending: &Sending<'_>,
        chain: Rest<'_>,
    ) -> Result<Encoded, SignatureError> {
        let fresh_id;
        let id = match self.text("task_id") {
            Some(id) => id,
            None => {
                fresh_id = Uuid::new_v4().to_string();
                &fresh_id
            }
        };
        let parent = sending.parent;
        let root_id = self.text("root_id").or(parent.map(|parent| parent.root_id)).unwrap_or(id);
        let parent_id = self.text("parent_id").or(parent.map(|parent| parent.id));
        let ignore_result = match self.options.get("ignore_result") {
            Some(given) => given.as_bool(),
            None => sending.ignore_result,
        };
        let message = TaskMessage {
            task: &self.task,
            id,
            args: &self.args,
            kwargs: &self.kwargs,
            embed: Embedded {
                callbacks: self.given("link").map(listed),
                errbacks: self.given("link_error").map(listed),
                chain,
                chord: self.given("chord"),
            },
            queue: self.queue_name().unwrap_or(sending.queue),
            priority: self.given("priority").and_then(Value::as_i64).unwrap_or(0),
            shadow: self.given("shadow"),
            eta: self.start(sending.now)?,
            expires: self.end(sending.now)?,
            group_id: self.given("group_id"),
            group_index: self.given("group_index"),
            retries: self.count("retries"),
            time_limits: [self.given("time_limit"), self.given("soft_time_limit")],
            root_id,
            parent_id,
            ignore_result,
            replaced_task_nesting: self.count("replaced_task_nesting"),
            reply_to: self.text("reply_to").unwrap_or(&sending.producer.reply_to),
            stamped_headers: self.given("stamped_headers"),
            stamps: self.stamps(),
            headers: self.given("headers").and_then(Value::as_object),
        };
        message
            .encode(sending.producer, sending.now)
            .map_err(|source| SignatureError::Json { task: self.task.clone(), source })
    }

    /// An option that is there and not null.
    pub(super) fn given(&self, name: &str) -> Option<&Value> {
        self.options.get(name).filter(|value| !value.is_null())
    }

    /// An option that is there and a text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn count(&self, name: &str) -> u64 {
        self.options.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The queue that it names. A direct exchange delivers to the queue of its routing key.
    pub(super) fn queue_name(&self) -> Option<&str> {
        self.text("queue").or_else(|| self.text("routing_key")).or_else(|| self.text("exchange"))
    }

    /// The values of its stamps.
    fn stamps(&self) -> Map<String, Value> {
        let names = self.given("stamped_headers").and_then(Value::as_array);
        names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter_map(|name| Some((name.to_owned(), self.options.get(name)?.clone())))
            .collect()
    }

    /// When it begins, as the header says it: the countdown before the eta.
    fn start(&self, now: DateTime<Utc>) -> Result<Option<String>, SignatureError> {
        match self.given("countdown").and_then(Value::as_f64).filter(|seconds| *seconds != 0.0) {
            Some(seconds) => self.after("countdown", now, seconds).map(Some),
            None => self.instant("eta", now),
        }
    }

    fn end(&self, now: DateTime<Utc>) -> Result<Option<String>, SignatureError> {
        self.instant("expires", now)
    }

    /// Text as it is, a number as seconds from now, kombu's typed JSON as the text in it.
    fn instant(
        &self,
        name: &'static str,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, SignatureError> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => {
                self.after(name, now, number.as_f64().unwrap_or(f64::NAN)).map(Some)
            }
            Some(value) => match value.get("__value__").and_then(Value::as_str) {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(self.wrong(name, "an ISO 8601 time, or seconds from now")),
            },
        }
    }

    fn after(
        &self,
        name: &'static str,
        now: DateTime<Utc>,
        seconds: f64,
    ) -> Result<String, SignatureError> {
        #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
        let micros = ((seconds * 1e6).abs() < 9.0e18).then_some((seconds * 1e6).round() as i64);
        micros
            .and_then(|micros| now.checked_add_signed(TimeDelta::microseconds(micros)))
            .map(isoformat::format)
            .ok_or_else(|| self.wrong(name, "seconds that end within all dates"))
    }

    fn wrong(&self, name: &'static str, expected: &'static str) -> SignatureError {
        SignatureError::Option { task: self.task.clone(), name, expected }
    }
}

/// One value or a list of values, as a list (Celery's `maybe_list`).
pub(super) fn listed(value: &Value) -> Value {
    match value {
        Value::Array(_) => value.clone(),
        one => Value::Array(vec![one.clone()]),
    }
}

fn seconds(delta: TimeDelta) -> Value {
    let micros = delta.num_microseconds().unwrap_or(i64::MAX);
    #[allow(
        clippy::cast_precision_loss,
        reason = "a countdown of 285 years keeps its microseconds"
    )]
    number(micros as f64 / 1e6)
}

/// Whole seconds are written as Python's callers give them: an integer.
fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
    let whole = (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64);
    whole.map_or_else(|| Value::from(value), Value::from)
}
