//! The message that a retried task becomes (`celery.app.task`, `Task.retry`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::accept::Accept;
use super::content;
use super::envelope::DELIVERY_COUNT;
use super::message::Message;
use super::parts::Content;
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
    let mut outer: RawMap<'_> = serde_json::from_slice(envelope)?;
    let part = |name| outer.read::<RawMap<'_>>(name).unwrap_or_default().into_owned();
    let (mut headers, mut properties) = (part("headers"), part("properties"));
    content::rewrite_as_json(&mut outer, &mut headers, &mut properties)
        .map_err(serde_json::Error::custom)?;
    let eta = changed.eta.map(isoformat::format);
    headers.remove("redelivered");
    headers.remove(DELIVERY_COUNT);
    if headers.get("task").is_none() {
        as_protocol_2(&mut outer, &mut headers, &mut properties, origin)?;
    }
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
    let expires = headers.read::<String>("expires").and_then(|text| isoformat::parse(&text).ok());
    if let Some(expires) = expires {
        let left = (expires - now).num_milliseconds().max(0).to_string();
        properties.set_after("delivery_mode", "expiration", &left)?;
    }
    let info = properties.read::<RawMap<'_>>("delivery_info").map(RawMap::into_owned);
    if let Some(mut info) = info {
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
    outer: &mut RawMap<'_>,
    headers: &mut RawMap<'_>,
    properties: &mut RawMap<'_>,
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

/// Celery sends a retry as its own protocol, also where the call came in protocol 1, which has every
/// field in its body (`celery.worker.strategy`, `proto1_to_proto2`). The body is JSON already.
fn as_protocol_2(
    outer: &mut RawMap<'_>,
    headers: &mut RawMap<'_>,
    properties: &mut RawMap<'_>,
    origin: &str,
) -> serde_json::Result<()> {
    let body = content::json_body(&Content::of(outer), headers, properties, &Accept::everything())
        .map_err(serde_json::Error::custom)?;
    let fields: RawMap<'_> = serde_json::from_slice(&body)?;
    let field = |name| fields.get(name).unwrap_or(RawValue::NULL);
    let group = Some(field("group")).filter(|group| group.get() != "null");
    let args: Vec<Value> = fields.read("args").unwrap_or_default();
    let kwargs: Map<String, Value> = fields.read("kwargs").unwrap_or_default();
    let mut own = RawMap::default();
    own.set("lang", "py")?;
    own.set("task", field("task"))?;
    own.set("id", field("id"))?;
    own.set("shadow", &())?;
    own.set("eta", field("eta"))?;
    own.set("expires", field("expires"))?;
    own.set("group", group.unwrap_or_else(|| field("taskset")))?;
    own.set("group_index", field("group_index"))?;
    own.set("retries", &fields.read::<u32>("retries").unwrap_or(0))?;
    own.set("timelimit", &fields.read::<[Option<Number>; 2]>("timelimit").unwrap_or_default())?;
    own.set("root_id", field("id"))?;
    own.set("parent_id", &())?;
    own.set("argsrepr", &python_repr::args(&args))?;
    own.set("kwargsrepr", &python_repr::kwargs(&kwargs))?;
    own.set("origin", origin)?;
    own.set("ignore_result", &())?;
    own.set("replaced_task_nesting", &0)?;
    own.set("stamped_headers", &())?;
    own.set("stamps", &Map::new())?;
    for (name, value) in headers.iter() {
        if own.get(name).is_none() {
            own.set(name, value)?;
        }
    }
    let mut embed = RawMap::default();
    embed.set("callbacks", field("callbacks"))?;
    embed.set("errbacks", field("errbacks"))?;
    embed.set("chain", &())?;
    embed.set("chord", field("chord"))?;
    let body = python_json::to_string(&(args, kwargs, embed))?;
    outer.set("body", &STANDARD.encode(body))?;
    properties.set("body_encoding", "base64")?;
    *headers = own;
    Ok(())
}
