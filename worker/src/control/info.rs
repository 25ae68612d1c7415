//! Commands that list tasks: those in hand, those that wait, those that are known.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use celery_redis::wire::isoformat;
use celery_redis::wire::message::Message;
use celery_redis::wire::python_repr;
use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::{Panel, Refusal};
use crate::state::Reserved;

/// Of the messages that wait for their instant, so many that are due next are looked at.
const SCHEDULED: usize = 1000;
/// The priority that Celery's timer gives to every task that waits.
const TIMER_PRIORITY: u8 = 6;

/// How arguments are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// As they are.
    Values,
    /// As the sender described them (`safe`).
    Representations,
}

impl Panel {
    pub(super) fn active(&self, it: Arguments<'_>) -> Value {
        let show = if it.is_set("safe") { Show::Representations } else { Show::Values };
        let reserved = self.consumer.state.reserved();
        let active = reserved.iter().filter(|reserved| reserved.begun().is_some());
        active.filter_map(|reserved| self.reserved_info(reserved, show)).collect()
    }

    pub(super) fn reserved(&self) -> Value {
        let reserved = self.consumer.state.reserved();
        let waiting = reserved.iter().filter(|reserved| reserved.begun().is_none());
        waiting.filter_map(|reserved| self.reserved_info(reserved, Show::Values)).collect()
    }

    pub(super) async fn scheduled(&self) -> Result<Value, Refusal> {
        // In this order: what is put away just now is seen twice rather than not at all.
        let reserved = self.consumer.state.reserved();
        let arrived = reserved.iter().filter(|reserved| reserved.begun().is_none());
        let waiting = self.consumer.broker.scheduled(SCHEDULED).await?;
        let envelopes = waiting
            .iter()
            .map(|scheduled| &scheduled.envelope)
            .chain(arrived.map(|reserved| &reserved.envelope));
        let now = self.consumer.broker.now();
        let mut shown = HashSet::new();
        let entries = envelopes.filter_map(|envelope| {
            let message = Message::decode(envelope).ok()?;
            let waits = message.headers.eta.is_some_and(|eta| eta > now);
            (waits && shown.insert(message.id.clone())).then(|| {
                json!({
                    "eta": message.headers.eta.map(isoformat::format),
                    "priority": TIMER_PRIORITY,
                    "request": self.info(&message, envelope, None, Show::Values),
                })
            })
        });
        Ok(entries.collect())
    }

    pub(super) async fn query_task(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["ids"])?;
        let mut ids = it.texts("ids")?;
        let mut found = Map::new();
        for reserved in self.consumer.state.reserved() {
            let id = reserved.id.to_string();
            if !ids.contains(&id) {
                continue;
            }
            let state = if reserved.begun().is_some() { "active" } else { "reserved" };
            if let Some(info) = self.reserved_info(&reserved, Show::Values) {
                found.insert(id, json!([state, info]));
            }
        }
        ids.retain(|id| !found.contains_key(id));
        if ids.is_empty() {
            return Ok(Value::Object(found));
        }
        for scheduled in self.consumer.broker.scheduled(SCHEDULED).await? {
            let Ok(message) = Message::decode(&scheduled.envelope) else { continue };
            let id = message.id.to_string();
            if ids.contains(&id) {
                let info = self.info(&message, &scheduled.envelope, None, Show::Values);
                found.insert(id, json!(["scheduled", info]));
            }
        }
        Ok(Value::Object(found))
    }

    pub(super) fn registered(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        let mut items = it.texts("taskinfoitems")?;
        if items.is_empty() {
            items = ["exchange", "routing_key", "rate_limit"].map(str::to_owned).into();
        }
        let names = self.consumer.registry.names();
        let shown = names.filter(|name| it.is_set("builtins") || !name.starts_with("celery."));
        let lines = shown.map(|name| {
            let fields: Vec<String> = items
                .iter()
                .filter_map(|item| Some(format!("{item}={}", self.attribute(name, item)?)))
                .collect();
            if fields.is_empty() {
                name.to_owned()
            } else {
                format!("{name} [{}]", fields.join(" "))
            }
        });
        Ok(lines.collect())
    }

    /// An attribute of a task class, as Python's `str` shows it; `None` where it is `None` or
    /// nothing that tasks have here.
    fn attribute<'a>(&self, task: &'a str, item: &str) -> Option<Cow<'a, str>> {
        let seconds = |seconds: f64| Some(Cow::Owned(seconds.to_string()));
        let python = |value: bool| Some(Cow::Borrowed(if value { "True" } else { "False" }));
        let options = &self.consumer.registry.get(task)?.options;
        let times = self.consumer.limits.times(task, &Default::default());
        match item {
            "name" => Some(Cow::Borrowed(task)),
            "rate_limit" => self.consumer.limits.rate(task).map(|rate| rate.to_string().into()),
            "soft_time_limit" => times.soft.and_then(seconds),
            "time_limit" => times.hard.and_then(seconds),
            "acks_late" => python(options.acks() == celery_task::AckPolicy::Late),
            "ignore_result" => python(options.ignore_result == Some(true)),
            "track_started" => python(options.track_started == Some(true)),
            _ => None,
        }
    }

    fn reserved_info(&self, reserved: &Reserved, show: Show) -> Option<Value> {
        let message = Message::decode(&reserved.envelope).ok()?;
        Some(self.info(&message, &reserved.envelope, Some(reserved), show))
    }

    /// A request as Celery describes it (`celery.worker.request`, `info`).
    fn info(
        &self,
        message: &Message,
        envelope: &Bytes,
        reserved: Option<&Reserved>,
        show: Show,
    ) -> Value {
        let begun = reserved.and_then(Reserved::begun);
        let (args, kwargs) = match show {
            Show::Values => (json!(message.body.args), json!(message.body.kwargs)),
            Show::Representations => {
                let (args, kwargs) = (&message.headers.argsrepr, &message.headers.kwargsrepr);
                let body = &message.body;
                (
                    args.as_deref()
                        .map_or_else(|| python_repr::args(&body.args).into(), Value::from),
                    kwargs
                        .as_deref()
                        .map_or_else(|| python_repr::kwargs(&body.kwargs).into(), Value::from),
                )
            }
        };
        #[allow(clippy::cast_precision_loss)]
        let time_start = begun.map(|begun| begun.time.timestamp_micros() as f64 / 1e6);
        json!({
            "id": message.id,
            "name": message.task,
            "args": args,
            "kwargs": kwargs,
            "type": message.task,
            "hostname": self.consumer.config.node,
            "time_start": time_start,
            "acknowledged": reserved.is_some_and(Reserved::is_acknowledged),
            "delivery_info": delivery_info(message, envelope),
            "worker_pid": begun.map(|_| std::process::id()),
        })
    }
}

fn delivery_info(message: &Message, envelope: &Bytes) -> Value {
    let envelope: Value = serde_json::from_slice(envelope).unwrap_or_default();
    let info = &envelope["properties"]["delivery_info"];
    json!({
        "exchange": info["exchange"],
        "routing_key": info["routing_key"],
        "priority": message.priority,
        "redelivered": message.headers.redelivered,
    })
}
