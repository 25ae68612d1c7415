//! A task message as a worker reads it, of protocol 2 and 1.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::accept::Accept;
use super::body::{self, Body, BodyError, Embed};
use super::compression::DecompressError;
use super::content;
use super::envelope::DELIVERY_COUNT;
use super::exception::Exception;
use super::isoformat::{self, InvalidInstant};
use super::long_strings::Skeleton;
use super::parts::{Parts, plain_text};
use super::raw_map::RawMap;
use super::serializer::SerializerError;

/// A decoded task message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Name of the task.
    pub task: Arc<str>,
    /// Id of the task; never empty.
    pub id: Arc<str>,
    /// Everything else that the headers say.
    pub headers: Headers,
    /// args, kwargs and embed.
    pub body: Body,
    /// `properties.reply_to`.
    pub reply_to: Option<Arc<str>>,
    /// `properties.priority`, 0 where absent.
    pub priority: i64,
}

/// The headers that a worker acts on; the others travel in the envelope.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// Not before.
    pub eta: Option<DateTime<Utc>>,
    /// Not after.
    pub expires: Option<DateTime<Utc>>,
    /// Group that the task belongs to.
    pub group: Option<Arc<str>>,
    /// Its place in the group.
    pub group_index: Option<i64>,
    /// How often it was retried.
    pub retries: u32,
    /// How often it was replaced by another task.
    pub replaced_task_nesting: u64,
    /// Hard time limit, seconds.
    pub time_limit: Option<f64>,
    /// Soft time limit, seconds.
    pub soft_time_limit: Option<f64>,
    /// First task of the workflow.
    pub root_id: Option<Arc<str>>,
    /// Task that sent this one.
    pub parent_id: Option<Arc<str>>,
    /// `repr` of args, as the producer gives it.
    pub argsrepr: Option<Arc<str>>,
    /// `repr` of kwargs, as the producer gives it.
    pub kwargsrepr: Option<Arc<str>>,
    /// Producer, `gen<pid>@<host>`.
    pub origin: Option<Arc<str>>,
    /// Whether the caller wants no result; `None` where it does not know the task.
    pub ignore_result: Option<bool>,
    /// Name to show instead of the task's.
    pub shadow: Option<Arc<str>>,
    /// Values that the caller stamped the task with, by name.
    pub stamps: RawMap<'static>,
    /// Which names are stamps.
    pub stamped_headers: Vec<String>,
    /// Taken back from how many dead processes.
    pub deliveries: u32,
    /// Delivered before.
    pub redelivered: bool,
}

/// A message that cannot be executed, and whom to tell.
#[derive(Debug, thiserror::Error)]
#[error("{}message cannot be read: {error}", self.subject())]
pub struct Undecodable {
    /// The caller that waits, if the message names one.
    pub id: Option<String>,
    /// The task, if the message names one.
    pub task: Option<String>,
    /// What is wrong.
    #[source]
    pub error: DecodeError,
}

impl Undecodable {
    fn subject(&self) -> String {
        match (&self.task, &self.id) {
            (Some(task), Some(id)) => format!("{task}[{id}]: "),
            (None, Some(id)) => format!("[{id}]: "),
            (Some(task), None) => format!("{task}: "),
            (None, None) => String::new(),
        }
    }
}

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The list element is no JSON.
    #[error("it is not JSON ({0})")]
    NotJson(serde_json::Error),
    /// The list element is JSON of another shape.
    #[error("it must be a JSON object with body, headers and properties")]
    NotAnEnvelope,
    /// A part of the envelope has the wrong type.
    #[error("{field} must be {expected}")]
    Field {
        /// Where, as a path in the envelope.
        field: &'static str,
        /// What is right there.
        expected: &'static str,
    },
    /// `eta` or `expires`.
    #[error("{field}: {source}")]
    Instant {
        /// Which of the two.
        field: &'static str,
        /// The value.
        source: InvalidInstant,
    },
    /// No id, so that nobody can be answered.
    #[error("headers.id is missing, so there is nobody to answer to")]
    NoId,
    /// No task name.
    #[error("headers.task is missing, so there is no telling what to run")]
    NoTask,
    /// A serialiser that is not accepted here.
    #[error("content type {content_type:?} is not accepted here, only {accepted}")]
    ContentType {
        /// The message's.
        content_type: String,
        /// Content types that are accepted.
        accepted: String,
    },
    /// A compression that nobody knows.
    #[error(
        "compression {0:?} is unknown; known are application/x-gzip, application/x-bz2, \
         application/x-lzma, application/zstd, application/x-brotli"
    )]
    Compression(String),
    /// The compressed bytes.
    #[error(transparent)]
    Compressed(#[from] DecompressError),
    /// The serialised bytes.
    #[error(transparent)]
    Serialized(#[from] SerializerError),
    /// `body_encoding: base64` with something else in it.
    #[error("the body is not base64")]
    NotBase64,
    /// A body of few bytes and many values.
    #[error("the body has more than the {most} values that are accepted here")]
    TooManyValues {
        /// The most that are accepted.
        most: usize,
    },
    /// The body's JSON.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl DecodeError {
    /// What the caller's `.get()` raises: the class that kombu or Celery has for it.
    pub fn exception(&self) -> Exception {
        let message = Value::String(self.to_string());
        let (exc_type, module) = match self {
            Self::ContentType { .. }
            | Self::Compression(_)
            | Self::Serialized(SerializerError::Forbidden { .. }) => {
                ("ContentDisallowed", "kombu.exceptions")
            }
            Self::Body(BodyError::Shape(_)) => ("InvalidTaskError", "celery.exceptions"),
            Self::NotJson(_)
            | Self::NotBase64
            | Self::Compressed(_)
            | Self::TooManyValues { .. }
            | Self::Serialized(_)
            | Self::Body(_) => ("DecodeError", "kombu.exceptions"),
            _ => ("InvalidTaskError", "celery.exceptions"),
        };
        Exception::new(exc_type, module, vec![message])
    }
}

impl Message {
    /// Reads a list element whose body is JSON, compressed or not.
    pub fn decode(envelope: &[u8]) -> Result<Self, Undecodable> {
        Self::decode_accepted(envelope, &Accept::default())
    }

    /// Reads a list element whose body is one of those that are accepted.
    pub fn decode_accepted(envelope: &[u8], accept: &Accept) -> Result<Self, Undecodable> {
        let nobody = |error| Undecodable { id: None, task: None, error };
        let skeleton = Skeleton::of(envelope);
        let restored = skeleton.as_ref().and_then(Parts::restored);
        let parts = restored.map_or_else(|| Parts::read(envelope), Ok);
        let Parts { content, headers, properties } = parts.map_err(nobody)?;
        let named = |headers: &RawMap<'_>, error| Undecodable {
            id: text(headers.get("id")).map(|id| id.to_string()),
            task: text(headers.get("task")).map(|task| task.to_string()),
            error,
        };
        let not_an_object = |field| DecodeError::Field { field, expected: "an object" };
        let headers = headers.ok_or_else(|| nobody(not_an_object("headers")))?;
        let Some(properties) = properties else {
            return Err(named(&headers, not_an_object("properties")));
        };
        let body = match content::json_body(&content, &headers, &properties, accept) {
            Ok(body) => body,
            Err(error) => return Err(named(&headers, error)),
        };
        let decoded = if headers.get("task").is_some() || headers.get("id").is_some() {
            protocol_2(&headers, &properties, &body)
        } else {
            let mut message = protocol_1(&properties, &body)?;
            // What was put back says so in the envelope, whatever its protocol.
            message.headers.deliveries = headers.read(DELIVERY_COUNT).unwrap_or(0);
            message.headers.redelivered = headers.read("redelivered").unwrap_or(false);
            return Ok(message);
        };
        decoded.map_err(|error| named(&headers, error))
    }
}

/// A string, if one is there.
fn string(value: Option<&RawValue>) -> Option<Arc<str>> {
    value.and_then(plain_text).map(|text| text.into())
}

/// A string that is there and not empty.
fn text(value: Option<&RawValue>) -> Option<Arc<str>> {
    string(value).filter(|text| !text.is_empty())
}

/// What is read of the headers; of one that is there twice the last counts, as in Python.
#[derive(Default)]
struct Known<'a> {
    id: Option<&'a RawValue>,
    task: Option<&'a RawValue>,
    eta: Option<&'a RawValue>,
    expires: Option<&'a RawValue>,
    group: Option<&'a RawValue>,
    group_index: Option<&'a RawValue>,
    retries: Option<&'a RawValue>,
    replaced_task_nesting: Option<&'a RawValue>,
    timelimit: Option<&'a RawValue>,
    root_id: Option<&'a RawValue>,
    parent_id: Option<&'a RawValue>,
    argsrepr: Option<&'a RawValue>,
    kwargsrepr: Option<&'a RawValue>,
    origin: Option<&'a RawValue>,
    ignore_result: Option<&'a RawValue>,
    shadow: Option<&'a RawValue>,
    stamps: Option<&'a RawValue>,
    stamped_headers: Option<&'a RawValue>,
    deliveries: Option<&'a RawValue>,
    redelivered: Option<&'a RawValue>,
}

impl<'a> Known<'a> {
    fn of(headers: &'a RawMap<'_>) -> Self {
        let mut known = Self::default();
        for (name, value) in headers.iter() {
            let field = match name {
                "id" => &mut known.id,
                "task" => &mut known.task,
                "eta" => &mut known.eta,
                "expires" => &mut known.expires,
                "group" => &mut known.group,
                "group_index" => &mut known.group_index,
                "retries" => &mut known.retries,
                "replaced_task_nesting" => &mut known.replaced_task_nesting,
                "timelimit" => &mut known.timelimit,
                "root_id" => &mut known.root_id,
                "parent_id" => &mut known.parent_id,
                "argsrepr" => &mut known.argsrepr,
                "kwargsrepr" => &mut known.kwargsrepr,
                "origin" => &mut known.origin,
                "ignore_result" => &mut known.ignore_result,
                "shadow" => &mut known.shadow,
                "stamps" => &mut known.stamps,
                "stamped_headers" => &mut known.stamped_headers,
                DELIVERY_COUNT => &mut known.deliveries,
                "redelivered" => &mut known.redelivered,
                _ => continue,
            };
            *field = Some(value);
        }
        known
    }
}

fn protocol_2(
    headers: &RawMap<'_>,
    properties: &RawMap<'_>,
    body: &[u8],
) -> Result<Message, DecodeError> {
    let known = Known::of(headers);
    let id = text(known.id).ok_or(DecodeError::NoId)?;
    let task = text(known.task).ok_or(DecodeError::NoTask)?;
    let (time_limit, soft_time_limit) = time_limits(known.timelimit, "headers.timelimit")?;
    let stamps: Option<RawMap<'_>> = lenient(known.stamps);
    Ok(Message {
        task,
        id,
        headers: Headers {
            eta: instant(known.eta, "eta")?,
            expires: instant(known.expires, "expires")?,
            group: shared(known.group, "headers.group")?,
            group_index: optional(known.group_index, "headers.group_index", "an integer or null")?,
            retries: optional(known.retries, "headers.retries", "a count")?.unwrap_or(0),
            replaced_task_nesting: lenient(known.replaced_task_nesting).unwrap_or(0),
            time_limit,
            soft_time_limit,
            root_id: shared(known.root_id, "headers.root_id")?,
            parent_id: shared(known.parent_id, "headers.parent_id")?,
            argsrepr: string(known.argsrepr),
            kwargsrepr: string(known.kwargsrepr),
            origin: string(known.origin),
            ignore_result: optional(
                known.ignore_result,
                "headers.ignore_result",
                "true, false or null",
            )?,
            shadow: string(known.shadow),
            stamps: stamps.unwrap_or_default().into_owned(),
            stamped_headers: lenient(known.stamped_headers).unwrap_or_default(),
            deliveries: lenient(known.deliveries).unwrap_or(0),
            redelivered: lenient(known.redelivered).unwrap_or(false),
        },
        body: Body::decode(body)?,
        reply_to: string(properties.get("reply_to")),
        priority: properties.read("priority").unwrap_or(0),
    })
}

/// Protocol 1: everything is in the body, one mapping (`celery.app.amqp`, `as_task_v1`).
fn protocol_1(properties: &RawMap<'_>, body: &[u8]) -> Result<Message, Undecodable> {
    let fields: RawMap<'_> = body::json(body).map_err(|error| Undecodable {
        id: None,
        task: None,
        error: match error {
            BodyError::NotJson(error) if error.is_data() => DecodeError::NoId,
            error => DecodeError::Body(error),
        },
    })?;
    protocol_1_fields(&fields, properties).map_err(|error| Undecodable {
        id: text(fields.get("id")).map(|id| id.to_string()),
        task: text(fields.get("task")).map(|task| task.to_string()),
        error,
    })
}

fn protocol_1_fields(fields: &RawMap<'_>, properties: &RawMap<'_>) -> Result<Message, DecodeError> {
    let part = |name: &'static str| present(fields.get(name));
    let id = text(part("id")).ok_or(DecodeError::NoId)?;
    let task = text(part("task")).ok_or(DecodeError::NoTask)?;
    let (time_limit, soft_time_limit) = time_limits(part("timelimit"), "timelimit")?;
    Ok(Message {
        headers: Headers {
            eta: instant(part("eta"), "eta")?,
            expires: instant(part("expires"), "expires")?,
            group: shared(part("group"), "group")?.or(shared(part("taskset"), "taskset")?),
            group_index: optional(part("group_index"), "group_index", "an integer or null")?,
            retries: optional(part("retries"), "retries", "a count")?.unwrap_or(0),
            time_limit,
            soft_time_limit,
            root_id: Some(Arc::clone(&id)),
            ..Headers::default()
        },
        body: Body {
            args: part("args").map_or(Ok(Vec::new()), body::arguments)?,
            kwargs: part("kwargs").map_or(Ok(Map::new()), body::keywords)?,
            embed: Embed {
                callbacks: optional(
                    part("callbacks"),
                    "callbacks",
                    "a list of signatures or null",
                )?,
                errbacks: optional(part("errbacks"), "errbacks", "a list of signatures or null")?,
                chain: None,
                chord: part("chord").map(ToOwned::to_owned),
            },
        },
        reply_to: string(properties.get("reply_to")),
        priority: properties.read("priority").unwrap_or(0),
        task,
        id,
    })
}

/// A value; `None` where it is null, absent or of another type.
fn lenient<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(present(value)?.get()).ok()
}

/// Null is frequent, and not to be found out by way of an error.
fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

fn optional<'a, T: Deserialize<'a>>(
    value: Option<&'a RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, DecodeError> {
    present(value).map_or(Ok(None), |value| {
        serde_json::from_str(value.get()).map_err(|_| DecodeError::Field { field, expected })
    })
}

/// A string, null or nothing.
fn shared(value: Option<&RawValue>, field: &'static str) -> Result<Option<Arc<str>>, DecodeError> {
    let expected = "a string or null";
    present(value)
        .map(|value| plain_text(value).ok_or(DecodeError::Field { field, expected }))
        .transpose()
        .map(|text| text.map(|text| text.into()))
}

fn instant(
    value: Option<&RawValue>,
    field: &'static str,
) -> Result<Option<DateTime<Utc>>, DecodeError> {
    optional::<String>(value, field, "an ISO 8601 time or null")?
        .map(|value| {
            isoformat::parse(&value).map_err(|source| DecodeError::Instant { field, source })
        })
        .transpose()
}

fn time_limits(
    value: Option<&RawValue>,
    field: &'static str,
) -> Result<(Option<f64>, Option<f64>), DecodeError> {
    type Pair = (Option<f64>, Option<f64>);
    Ok(optional::<Pair>(value, field, "[hard, soft], seconds or null")?.unwrap_or((None, None)))
}
