//! kombu's envelope: the JSON object that is one element of a queue's list.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::raw_map::RawMap;
use super::{body_text, python_json};

/// Header of ours that counts how often a message was taken back from a process that died.
pub const DELIVERY_COUNT: &str = "x-delivery-count";

/// `properties` as a producer writes them; field order as kombu's.
#[derive(Debug, Clone, Serialize)]
pub struct Properties<'a> {
    /// The task's id.
    pub correlation_id: &'a str,
    /// Unused with Redis; a UUID of the producing process.
    pub reply_to: &'a str,
    /// 2 = persistent.
    pub delivery_mode: u8,
    /// Milliseconds until the message expires, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// Where it was sent.
    pub delivery_info: DeliveryInfo<'a>,
    /// 0 is served first on Redis.
    pub priority: i64,
    /// Always `base64`.
    pub body_encoding: &'a str,
    /// Fresh for each message.
    pub delivery_tag: &'a str,
}

/// Exchange and routing key; direct queues go through the anonymous exchange.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryInfo<'a> {
    /// Empty for a direct queue.
    pub exchange: &'a str,
    /// The queue's name.
    pub routing_key: &'a str,
}

/// A whole envelope as a producer writes it.
#[derive(Debug, Serialize)]
pub struct Envelope<'a, H: Serialize> {
    /// The serialised body. It is the first field, in base64.
    #[serde(skip)]
    pub body: &'a [u8],
    /// Character set of the body before base64.
    #[serde(rename = "content-encoding")]
    pub content_encoding: &'a str,
    /// MIME type of the body.
    #[serde(rename = "content-type")]
    pub content_type: &'a str,
    /// The task message's headers.
    pub headers: H,
    /// What the transport needs.
    pub properties: Properties<'a>,
}

impl<H: Serialize> Envelope<'_, H> {
    /// The list element's bytes.
    ///
    /// Base64 needs no escapes, so that the body is written as it is: it may be most of all bytes.
    pub fn encode(&self) -> serde_json::Result<String> {
        const BODY: &str = "{\"body\": \"";
        let others = python_json::to_string(self)?;
        let length = BODY.len() + self.body.len().div_ceil(3) * 4 + others.len() + 2;
        let mut text = String::with_capacity(length);
        text.push_str(BODY);
        body_text::encode_onto(self.body, &mut text);
        text.push_str("\", ");
        text.push_str(others.strip_prefix('{').unwrap_or(&others));
        Ok(text)
    }
}

/// How a message that was delivered before is marked when it goes back to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// Its process gave it back in good order (kombu's `restore`).
    Restored,
    /// Its process died with it; the number of times that has happened, this one included.
    Reclaimed {
        /// Deaths so far.
        deliveries: u32,
    },
}

/// How many processes have died with this message, 0 for bytes that are no envelope.
pub fn delivery_count(envelope: &[u8]) -> u32 {
    // Read from where it is written, also where a key stands in an object twice.
    let Ok(outer) = serde_json::from_slice::<RawMap<'_>>(envelope) else { return 0 };
    let headers = outer.read::<RawMap<'_>>("headers");
    headers.and_then(|headers| headers.read(DELIVERY_COUNT)).unwrap_or(0)
}

/// Whether a message may be compressed, so that it takes longer to read than it looks. Its text is
/// searched for the header's name, which an argument may be as well.
pub fn is_compressed(envelope: &[u8]) -> bool {
    memchr::memmem::find(envelope, br#""compression""#).is_some()
}

/// Headers that are Celery's or ours, and none that a caller added (`Context._get_custom_headers`).
const OWN_HEADERS: [&str; 36] = [
    "args",
    "argsrepr",
    "callbacks",
    "chain",
    "children",
    "chord",
    "compression",
    "correlation_id",
    "delivery_info",
    "errbacks",
    "eta",
    "expires",
    "group",
    "group_index",
    "headers",
    "hostname",
    "id",
    "ignore_result",
    "kwargs",
    "kwargsrepr",
    "lang",
    "origin",
    "parent_id",
    "properties",
    "replaced_task_nesting",
    "reply_to",
    "retries",
    "root_id",
    "shadow",
    "stamped_headers",
    "stamps",
    "task",
    "taskset",
    "timelimit",
    "utc",
    DELIVERY_COUNT,
];

/// The headers that the caller added; empty for bytes that are no envelope.
pub fn user_headers(envelope: &[u8]) -> Map<String, Value> {
    let mut headers = part(envelope, "headers");
    headers.retain(|name, _| !OWN_HEADERS.contains(&name.as_str()));
    headers
}

/// The properties; empty for bytes that are no envelope.
pub fn properties(envelope: &[u8]) -> Map<String, Value> {
    part(envelope, "properties")
}

fn part(envelope: &[u8], name: &str) -> Map<String, Value> {
    let outer = serde_json::from_slice::<RawMap<'_>>(envelope).unwrap_or_default();
    outer.read(name).unwrap_or_default()
}

/// Marks an envelope as kombu does when it restores one: `headers.redelivered` and
/// `properties.delivery_info.redelivered` become true, everything else keeps its bytes.
///
/// Bytes that are no envelope come back unchanged: whoever decodes them says what is wrong.
pub fn mark_redelivered(envelope: &[u8], redelivery: Redelivery) -> Vec<u8> {
    try_mark(envelope, redelivery).unwrap_or_else(|_| envelope.to_vec())
}

fn try_mark(envelope: &[u8], redelivery: Redelivery) -> serde_json::Result<Vec<u8>> {
    let mut outer: RawMap<'_> = serde_json::from_slice(envelope)?;
    let mut headers = object(outer.get("headers"))?.into_owned();
    headers.set("redelivered", &true)?;
    if let Redelivery::Reclaimed { deliveries } = redelivery {
        headers.set(DELIVERY_COUNT, &deliveries)?;
    }
    outer.set("headers", &headers)?;
    let properties = outer.read::<RawMap<'_>>("properties").map(RawMap::into_owned);
    if let Some(mut properties) = properties
        && let Ok(mut info) = object(properties.get("delivery_info")).map(RawMap::into_owned)
    {
        info.set("redelivered", &true)?;
        properties.set("delivery_info", &info)?;
        outer.set("properties", &properties)?;
    }
    python_json::to_string(&outer).map(String::into_bytes)
}

/// An object, empty where it is absent or null; an error where something else stands there.
fn object(value: Option<&RawValue>) -> serde_json::Result<RawMap<'_>> {
    match value {
        Some(value) if value.get() != "null" => serde_json::from_str(value.get()),
        _ => Ok(RawMap::default()),
    }
}

/// The text that precedes and follows an envelope in kombu's `unacked` record,
/// `[envelope, exchange, routing_key]`.
///
/// The record is made and taken apart as text, so that the envelope keeps its bytes even where
/// they are no JSON.
pub fn unacked_suffix(queue: &str) -> String {
    let routing_key = python_json::to_string(queue).unwrap_or_default();
    format!(r#", "", {routing_key}]"#)
}

/// The envelope inside an `unacked` record: exact bytes for one of ours, the first element of any
/// other JSON array.
pub fn envelope_of_unacked(record: &[u8], queue: &str) -> Option<Vec<u8>> {
    let suffix = unacked_suffix(queue);
    record
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(suffix.as_bytes()))
        .map(<[u8]>::to_vec)
        .or_else(|| {
            let parts: Vec<Box<RawValue>> = serde_json::from_slice(record).ok()?;
            parts.first().map(|envelope| envelope.get().as_bytes().to_vec())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"body": "W10=", "headers": {"id": "a", "n": 12345678901234567890123, "f": 1.0}, "properties": {"delivery_info": {"exchange": "", "routing_key": "q"}, "delivery_tag": "t"}}"#;

    #[test]
    fn a_redelivered_message_keeps_all_else_byte_for_byte() {
        let marked = mark_redelivered(ENVELOPE.as_bytes(), Redelivery::Reclaimed { deliveries: 2 });
        assert_eq!(
            String::from_utf8(marked.clone()).unwrap(),
            r#"{"body": "W10=", "headers": {"id": "a", "n": 12345678901234567890123, "f": 1.0, "redelivered": true, "x-delivery-count": 2}, "properties": {"delivery_info": {"exchange": "", "routing_key": "q", "redelivered": true}, "delivery_tag": "t"}}"#
        );
        assert_eq!(delivery_count(&marked), 2);
    }

    #[test]
    fn bytes_that_are_no_envelope_stay_as_they_are() {
        for bytes in [&b"not json"[..], b"[1, 2]", b"\xff\xfe", br#"{"headers": [1]}"#] {
            assert_eq!(mark_redelivered(bytes, Redelivery::Restored), bytes);
            assert_eq!(delivery_count(bytes), 0);
        }
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_value_counts_as_in_python() {
        let twice = br#"{"headers": {"x-delivery-count": 5, "x-delivery-count": 1}}"#;
        assert_eq!(delivery_count(twice), 1);
        let marked = mark_redelivered(twice, Redelivery::Reclaimed { deliveries: 2 });
        assert_eq!(delivery_count(&marked), 2);
        let read: serde_json::Value = serde_json::from_slice(&marked).unwrap();
        assert_eq!(read["headers"]["x-delivery-count"], 2);
    }

    #[test]
    fn an_unacked_record_gives_the_envelope_back() {
        let ours = [b"[", &b"\xffnot json"[..], unacked_suffix("q").as_bytes()].concat();
        assert_eq!(envelope_of_unacked(&ours, "q").as_deref(), Some(&b"\xffnot json"[..]));
        let kombus = format!(r#"[{ENVELOPE}, "exchange", "key"]"#);
        assert_eq!(
            envelope_of_unacked(kombus.as_bytes(), "q").as_deref(),
            Some(ENVELOPE.as_bytes())
        );
    }
}
