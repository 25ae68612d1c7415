//! A call that is not yet sent, and the message that it becomes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::envelope::{DeliveryInfo, Envelope, Properties};
use super::{isoformat, python_json, python_repr};

/// A call of a task that is not yet sent.
#[derive(Debug, Clone)]
pub struct Signature {
    task: String,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    id: Option<String>,
    queue: String,
    priority: i64,
    eta: Option<DateTime<Utc>>,
    countdown: Option<TimeDelta>,
    expires: Option<DateTime<Utc>>,
    time_limit: Option<f64>,
    soft_time_limit: Option<f64>,
    ignore_result: Option<bool>,
    root_id: Option<String>,
    parent_id: Option<String>,
    headers: Map<String, Value>,
}

/// A message ready for its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The task's id.
    pub id: String,
    /// The queue that it goes to.
    pub queue: String,
    /// Which of the queue's lists.
    pub priority: i64,
    /// The list element.
    pub bytes: Vec<u8>,
}

/// The process that sends: what kombu and Celery put into each message about it.
#[derive(Debug, Clone)]
pub struct Producer {
    /// `gen<pid>@<host>`.
    pub origin: String,
    /// A UUID of this process (kombu's `thread_oid`).
    pub reply_to: String,
}

impl Producer {
    /// This process.
    pub fn current() -> Self {
        let host =
            hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            origin: format!("gen{}@{host}", std::process::id()),
            reply_to: Uuid::new_v4().to_string(),
        }
    }
}

impl Signature {
    /// A call of `task` without arguments to the queue `celery`.
    pub fn new(task: impl Into<String>) -> Self {
        Self {
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            id: None,
            queue: "celery".to_owned(),
            priority: 0,
            eta: None,
            countdown: None,
            expires: None,
            time_limit: None,
            soft_time_limit: None,
            ignore_result: Some(false),
            root_id: None,
            parent_id: None,
            headers: Map::new(),
        }
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

    /// Chooses the task's id; a fresh UUID otherwise.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Chooses the queue; `celery` otherwise.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// 0 to 9; 0 is served first on Redis.
    pub fn priority(mut self, priority: i64) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this instant.
    pub fn eta(mut self, eta: DateTime<Utc>) -> Self {
        self.eta = Some(eta);
        self
    }

    /// Not before this long after it is sent.
    pub fn countdown(mut self, countdown: TimeDelta) -> Self {
        self.countdown = Some(countdown);
        self
    }

    /// Not after this instant.
    pub fn expires(mut self, expires: DateTime<Utc>) -> Self {
        self.expires = Some(expires);
        self
    }

    /// Hard and soft time limit in seconds.
    pub fn time_limits(mut self, hard: Option<f64>, soft: Option<f64>) -> Self {
        (self.time_limit, self.soft_time_limit) = (hard, soft);
        self
    }

    /// Whether a result is stored; `None` leaves it to the worker's definition of the task.
    pub fn ignore_result(mut self, ignore: Option<bool>) -> Self {
        self.ignore_result = ignore;
        self
    }

    /// Names the task that sends this one, and the first of their workflow.
    pub fn sent_by(mut self, parent_id: impl Into<String>, root_id: impl Into<String>) -> Self {
        self.parent_id = Some(parent_id.into());
        self.root_id = Some(root_id.into());
        self
    }

    /// Adds a header, inline after Celery's own.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The message, byte for byte as Celery 5.7 sends it (`celery.app.amqp`, `as_task_v2`).
    pub fn encode(&self, producer: &Producer, now: DateTime<Utc>) -> serde_json::Result<Encoded> {
        let id = self.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let eta = match self.countdown {
            Some(countdown) => Some(now.checked_add_signed(countdown).ok_or_else(|| {
                serde::ser::Error::custom(format!("a countdown of {countdown} ends after all time"))
            })?),
            None => self.eta,
        };
        let body = python_json::to_string(&(&self.args, &self.kwargs, NoEmbed::default()))?;
        let delivery_tag = Uuid::new_v4().to_string();
        let bytes = Envelope {
            body: STANDARD.encode(body),
            content_encoding: "utf-8",
            content_type: "application/json",
            headers: TaskHeaders { signature: self, id: &id, eta, origin: &producer.origin },
            properties: Properties {
                correlation_id: &id,
                reply_to: &producer.reply_to,
                delivery_mode: 2,
                expiration: self.expires.map(|at| (at - now).num_milliseconds().max(0).to_string()),
                delivery_info: DeliveryInfo { exchange: "", routing_key: &self.queue },
                priority: self.priority,
                body_encoding: "base64",
                delivery_tag: &delivery_tag,
            },
        }
        .encode()?
        .into_bytes();
        Ok(Encoded { id, queue: self.queue.clone(), priority: self.priority, bytes })
    }
}

/// The embed of a plain call; `null` everywhere, as Celery writes it.
#[derive(Serialize, Default)]
struct NoEmbed {
    callbacks: (),
    errbacks: (),
    chain: (),
    chord: (),
}

/// The headers in Celery's order, then the caller's own.
struct TaskHeaders<'a> {
    signature: &'a Signature,
    id: &'a str,
    eta: Option<DateTime<Utc>>,
    origin: &'a str,
}

impl Serialize for TaskHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let call = self.signature;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("lang", "py")?;
        map.serialize_entry("task", &call.task)?;
        map.serialize_entry("id", self.id)?;
        map.serialize_entry("shadow", &())?;
        map.serialize_entry("eta", &self.eta.map(isoformat::format))?;
        map.serialize_entry("expires", &call.expires.map(isoformat::format))?;
        map.serialize_entry("group", &())?;
        map.serialize_entry("group_index", &())?;
        map.serialize_entry("retries", &0)?;
        map.serialize_entry(
            "timelimit",
            &(seconds(call.time_limit), seconds(call.soft_time_limit)),
        )?;
        map.serialize_entry("root_id", call.root_id.as_deref().unwrap_or(self.id))?;
        map.serialize_entry("parent_id", &call.parent_id)?;
        map.serialize_entry("argsrepr", &python_repr::args(&call.args))?;
        map.serialize_entry("kwargsrepr", &python_repr::kwargs(&call.kwargs))?;
        map.serialize_entry("origin", self.origin)?;
        map.serialize_entry("ignore_result", &call.ignore_result)?;
        map.serialize_entry("replaced_task_nesting", &0)?;
        map.serialize_entry("stamped_headers", &())?;
        map.serialize_entry("stamps", &Map::new())?;
        for (name, value) in &call.headers {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Whole seconds are written as Python's callers give them: an integer.
fn seconds(limit: Option<f64>) -> Option<Value> {
    limit.map(|limit| {
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
        let whole = (limit.fract() == 0.0 && limit.abs() < 1e15).then_some(limit as i64);
        whole.map_or_else(|| Value::from(limit), Value::from)
    })
}
