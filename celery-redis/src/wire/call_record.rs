//! What `result_extended` adds to a stored record: the call whose result it is.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::message::Message;
use super::python_json;

/// Name, arguments and stamps of a call, where it ran and how often it was retried
/// (`celery.backends.base`, `_get_result_meta`).
#[derive(Debug, Clone)]
pub struct CallRecord {
    name: Arc<str>,
    args: Box<RawValue>,
    kwargs: Box<RawValue>,
    worker: String,
    retries: u32,
    queue: String,
    stamped_headers: Vec<String>,
    stamps: Vec<(String, Box<RawValue>)>,
}

impl CallRecord {
    /// The call of `message`, which came from `queue` to the node `worker`.
    pub fn new(message: &Message, worker: &str, queue: &str) -> serde_json::Result<Self> {
        let headers = &message.headers;
        let stamps = headers
            .stamps
            .iter()
            .filter(|(name, _)| headers.stamped_headers.iter().any(|stamped| stamped == name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            name: Arc::clone(&message.task),
            args: RawValue::from_string(python_json::to_string(&message.body.args)?)?,
            kwargs: RawValue::from_string(python_json::to_string(&message.body.kwargs)?)?,
            worker: worker.to_owned(),
            retries: headers.retries,
            queue: queue.to_owned(),
            stamped_headers: headers.stamped_headers.clone(),
            stamps,
        })
    }
}

impl Serialize for CallRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("args", &self.args)?;
        map.serialize_entry("kwargs", &self.kwargs)?;
        map.serialize_entry("worker", &self.worker)?;
        map.serialize_entry("retries", &self.retries)?;
        map.serialize_entry("queue", &self.queue)?;
        if !self.stamps.is_empty() {
            map.serialize_entry("stamped_headers", &self.stamped_headers)?;
            for (name, value) in &self.stamps {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}
