//! The message that a retried task becomes (`celery.app.task`, `Task.retry`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::accept::Accept;
use super::content;
use super::envelope::DELIVERY_COUNT;
use super::message::Message;
use super::raw_map::RawMap;
use super::{isoformat, python_json, python_repr};

/// What a retry changes about a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retried<'a> {
    /// Not before; `None` for a retry without delay.
    pub eta: Option<DateTime<Utc>>,
    /// Other positional arguments.
    pub args: Option<&'a [Value]>,
    /// Other keyword arguments.
    pub kwargs: Option<&'a Map<String, Value>>,
    /// Names of the task's arguments, in their order: one that is given by name takes the place of
    /// one that was given by position, and the other way round.
    pub names: &'a [&'a str],
    /// Whether the task drops its results, for a message that does not say.
    pub ignore_result: bool,
}

/// The same call once more: same id and everything else, one retry more, and what is `changed`.
///
/// The deliveries counted so far are forgotten: the message that they were counted on is settled.
pub fn retried(
    envelope: &[u8],
    changed: &Retried<'_>,
    now: DateTime<Utc>,
    origin: &str,
) -> serde_json::Result<Vec<u8>> {
    let mut outer: RawMap = serde_json::from_slice(envelope)?;
    let mut headers: RawMap = outer.read("headers").unwrap_or_default();
    let mut properties: RawMap = outer.read("properties").unwrap_or_default();
    content::rewrite_as_json(&mut outer, &mut headers, &mut properties)
        .map_err(serde_json::Error::custom)?;
    let eta = changed.eta.map(isoformat::format);
    headers.remove("redelivered");
    headers.remove(DELIVERY_COUNT);
    if headers.get("task").is_some() {
        let retries: u32 = headers.read("retries").unwrap_or(0);
        headers.set("retries", &retries.saturating_add(1))?;
        headers.set("eta", &eta)?;
        if headers.get("ignore_result").is_some_and(|value| value.get() == "null") {
            headers.set("ignore_result", &changed.ignore_result)?;
        }
        if headers.read::<String>("parent_id").is_none() {
            let id: Option<String> = headers.read("id");
            headers.set("parent_id", &id)?;
        }
        if changed.args.is_some() || changed.kwargs.is_some() {
            let called = Message::decode_accepted(envelope, &Accept::everything())
                .map_err(serde_json::Error::custom)?;
            call_with(changed, &called, &mut outer, &mut headers, &mut properties)?;
        }
    } else if changed.args.is_some() || changed.kwargs.is_some() {
        return Err(serde_json::Error::custom("protocol 1 cannot be retried with other arguments"));
    } else {
        outer.set("body", &retried_protocol_1(&outer, &properties, eta.as_deref())?)?;
    }
    let expires = headers.read::<String>("expires").and_then(|text| isoformat::parse(&text).ok());
    if let Some(expires) = expires {
        let left = (expires - now).num_milliseconds().max(0).to_string();
        properties.set_after("delivery_mode", "expiration", &left)?;
    }
    if let Some(mut info) = properties.read::<RawMap>("delivery_info") {
        info.remove("redelivered");
        properties.set("delivery_info", &info)?;
    }
    properties.set_after("reply_to", "origin", origin)?;
    properties.set("delivery_tag", &Uuid::new_v4().to_string())?;
    outer.set("headers", &headers)?;
    outer.set("properties", &properties)?;
    python_json::to_string(&outer).map(String::into_bytes)
}

/// The body with other arguments, in JSON whatever it was in before, as Celery sends it.
fn call_with(
    changed: &Retried<'_>,
    called: &Message,
    outer: &mut RawMap,
    headers: &mut RawMap,
    properties: &mut RawMap,
) -> serde_json::Result<()> {
    let (args, kwargs) = arguments(changed, called);
    let (args, kwargs) = (args.as_slice(), &kwargs);
    let embed = &called.body.embed;
    let mut follows = RawMap::default();
    follows.set("callbacks", &embed.callbacks)?;
    follows.set("errbacks", &embed.errbacks)?;
    follows.set("chain", &embed.chain)?;
    follows.set("chord", &embed.chord)?;
    let body = python_json::to_string(&(args, kwargs, follows))?;
    outer.set("body", &STANDARD.encode(body))?;
    outer.set("content-type", "application/json")?;
    outer.set("content-encoding", "utf-8")?;
    properties.set("body_encoding", "base64")?;
    headers.remove("compression");
    headers.set("argsrepr", &python_repr::args(args))?;
    headers.set("kwargsrepr", &python_repr::kwargs(kwargs))
}

/// What is kept of the old arguments beside new ones.
fn arguments(changed: &Retried<'_>, called: &Message) -> (Vec<Value>, Map<String, Value>) {
    match (changed.args, changed.kwargs) {
        (Some(args), Some(kwargs)) => (args.to_vec(), kwargs.clone()),
        (Some(args), None) => {
            let mut kwargs = called.body.kwargs.clone();
            for name in changed.names.iter().take(args.len()) {
                kwargs.shift_remove(*name);
            }
            (args.to_vec(), kwargs)
        }
        (None, Some(kwargs)) => {
            let (mut args, mut kwargs) = (called.body.args.clone(), kwargs.clone());
            for (argument, name) in args.iter_mut().zip(changed.names) {
                if let Some(value) = kwargs.shift_remove(*name) {
                    *argument = value;
                }
            }
            (args, kwargs)
        }
        (None, None) => (called.body.args.clone(), called.body.kwargs.clone()),
    }
}

/// Protocol 1 has the same fields in its body.
fn retried_protocol_1(
    outer: &RawMap,
    properties: &RawMap,
    eta: Option<&str>,
) -> serde_json::Result<String> {
    let body: String = outer.read("body").unwrap_or_default();
    let in_base64 = properties.read::<String>("body_encoding").as_deref() == Some("base64");
    let bytes =
        if in_base64 { STANDARD.decode(&body).unwrap_or_default() } else { body.into_bytes() };
    let mut fields: RawMap = serde_json::from_slice(&bytes)?;
    let retries: u32 = fields.read("retries").unwrap_or(0);
    fields.set("retries", &retries.saturating_add(1))?;
    fields.set("eta", &eta)?;
    let text = python_json::to_string(&fields)?;
    Ok(if in_base64 { STANDARD.encode(text) } else { text })
}
