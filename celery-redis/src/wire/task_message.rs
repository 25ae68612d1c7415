//! A task message of protocol 2 as a producer writes it (`celery.app.amqp`, `as_task_v2`).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::envelope::{DeliveryInfo, Envelope, Properties};
use super::raw_list::AllButLast;
use super::{isoformat, python_json, python_repr};

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

/// Everything that a message says, before it is bytes.
#[derive(Debug)]
pub(super) struct TaskMessage<'a> {
    pub(super) task: &'a str,
    pub(super) id: &'a str,
    pub(super) args: &'a [Value],
    pub(super) kwargs: &'a Map<String, Value>,
    pub(super) embed: Embedded<'a>,
    pub(super) queue: &'a str,
    pub(super) priority: i64,
    pub(super) shadow: Option<&'a Value>,
    /// As the header says it.
    pub(super) eta: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) group_id: Option<&'a Value>,
    pub(super) group_index: Option<&'a Value>,
    pub(super) retries: u64,
    pub(super) time_limits: [Option<&'a Value>; 2],
    pub(super) root_id: &'a str,
    pub(super) parent_id: Option<&'a str>,
    pub(super) ignore_result: Option<bool>,
    pub(super) replaced_task_nesting: u64,
    pub(super) reply_to: &'a str,
    pub(super) stamped_headers: Option<&'a Value>,
    pub(super) stamps: Map<String, Value>,
    pub(super) headers: Option<&'a Map<String, Value>>,
}

/// The third part of the body.
#[derive(Debug, Default)]
pub(super) struct Embedded<'a> {
    pub(super) callbacks: Option<Value>,
    pub(super) errbacks: Option<Value>,
    pub(super) chain: Rest<'a>,
    pub(super) chord: Option<&'a Value>,
}

/// What follows in a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Rest<'a> {
    /// It is no part of one.
    #[default]
    None,
    /// A list of signatures.
    Values(&'a Value),
    /// The list that it was the last of.
    Text(AllButLast<'a>),
}

impl Embedded<'_> {
    fn write(&self, body: &mut Vec<u8>) -> serde_json::Result<()> {
        body.extend_from_slice(b"{\"callbacks\": ");
        python_json::write(body, &self.callbacks)?;
        body.extend_from_slice(b", \"errbacks\": ");
        python_json::write(body, &self.errbacks)?;
        body.extend_from_slice(b", \"chain\": ");
        match &self.chain {
            Rest::None => body.extend_from_slice(b"null"),
            Rest::Values(values) => python_json::write(body, values)?,
            Rest::Text(list) => list.write(body),
        }
        body.extend_from_slice(b", \"chord\": ");
        python_json::write(body, &self.chord)?;
        body.push(b'}');
        Ok(())
    }
}

impl TaskMessage<'_> {
    /// The list element.
    pub(super) fn encode(
        &self,
        producer: &Producer,
        now: DateTime<Utc>,
    ) -> serde_json::Result<Encoded> {
        let body = self.body()?;
        let delivery_tag = Uuid::new_v4().to_string();
        let expires = self.expires.as_deref().and_then(|text| isoformat::parse(text).ok());
        let bytes = Envelope {
            body: &body,
            content_encoding: "utf-8",
            content_type: "application/json",
            headers: TaskHeaders { message: self, origin: &producer.origin },
            properties: Properties {
                correlation_id: self.id,
                reply_to: self.reply_to,
                delivery_mode: 2,
                expiration: expires.map(|at| (at - now).num_milliseconds().max(0).to_string()),
                delivery_info: DeliveryInfo { exchange: "", routing_key: self.queue },
                priority: self.priority,
                body_encoding: "base64",
                delivery_tag: &delivery_tag,
            },
        }
        .encode()?
        .into_bytes();
        Ok(Encoded {
            id: self.id.to_owned(),
            queue: self.queue.to_owned(),
            priority: self.priority,
            bytes,
        })
    }

    fn body(&self) -> serde_json::Result<Vec<u8>> {
        let chain = match &self.embed.chain {
            Rest::Text(list) => list.len(),
            _ => 0,
        };
        let mut body = Vec::with_capacity(chain + 256);
        body.push(b'[');
        python_json::write(&mut body, self.args)?;
        body.extend_from_slice(b", ");
        python_json::write(&mut body, self.kwargs)?;
        body.extend_from_slice(b", ");
        self.embed.write(&mut body)?;
        body.push(b']');
        Ok(body)
    }
}

/// The headers in Celery's order, then the caller's own.
struct TaskHeaders<'a> {
    message: &'a TaskMessage<'a>,
    origin: &'a str,
}

impl Serialize for TaskHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.message;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("lang", "py")?;
        map.serialize_entry("task", message.task)?;
        map.serialize_entry("id", message.id)?;
        map.serialize_entry("shadow", &message.shadow)?;
        map.serialize_entry("eta", &message.eta)?;
        map.serialize_entry("expires", &message.expires)?;
        map.serialize_entry("group", &message.group_id)?;
        map.serialize_entry("group_index", &message.group_index)?;
        map.serialize_entry("retries", &message.retries)?;
        map.serialize_entry("timelimit", &message.time_limits)?;
        map.serialize_entry("root_id", message.root_id)?;
        map.serialize_entry("parent_id", &message.parent_id)?;
        map.serialize_entry("argsrepr", &python_repr::args(message.args))?;
        map.serialize_entry("kwargsrepr", &python_repr::kwargs(message.kwargs))?;
        map.serialize_entry("origin", self.origin)?;
        map.serialize_entry("ignore_result", &message.ignore_result)?;
        map.serialize_entry("replaced_task_nesting", &message.replaced_task_nesting)?;
        map.serialize_entry("stamped_headers", &message.stamped_headers)?;
        map.serialize_entry("stamps", &message.stamps)?;
        for (name, value) in message.headers.into_iter().flatten() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
