//! Events: what workers tell about themselves and their tasks (`celery.events`).

use std::sync::Arc;

use chrono::{DateTime, Local};
use serde::Serialize;

use super::message::Message;
use super::publication::{DeliveryMode, Publication};
use super::task_message::{Encoded, Producer};
use super::{isoformat, python_json};

/// The exchange of all events, and the start of their channels' names.
pub const EVENT_EXCHANGE: &str = "celeryev";

/// What happened to a worker: a sign of life, with what it says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerEvent {
    /// Which of the three.
    #[serde(skip)]
    pub sign: Sign,
    /// Receivers count a worker as dead after twice as long.
    pub freq: Frequency,
    /// Tasks that run; absent where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<usize>,
    /// Tasks that began since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed: Option<u64>,
    /// The system's load over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loadavg: Option<[f64; 3]>,
    /// The software.
    #[serde(flatten)]
    pub software: Software,
}

/// Seconds between two heartbeats: a float in Celery's regular ones, a whole number in those that a
/// command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Frequency {
    /// What it beats with.
    Regular(f64),
    /// What Celery says when it is asked.
    Asked(u32),
}

/// A worker's signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It begins.
    Online,
    /// It lives.
    Heartbeat,
    /// It ends.
    Offline,
}

/// What a worker runs.
#[derive(Debug, Clone, Serialize)]
pub struct Software {
    /// Name of the implementation.
    pub sw_ident: &'static str,
    /// Its version.
    pub sw_ver: &'static str,
    /// Operating system, as Python's `platform.system()` names it.
    pub sw_sys: &'static str,
}

/// What happened to a task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskEvent {
    /// Id of the task.
    pub uuid: String,
    /// What happened.
    #[serde(flatten)]
    pub happened: Happened,
}

/// What happens to tasks.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Happened {
    /// Somebody sent it.
    Sent {
        /// First task of the workflow.
        root_id: Option<Arc<str>>,
        /// Task that sent it.
        parent_id: Option<Arc<str>>,
        /// Name of the task.
        name: Arc<str>,
        /// `repr` of its positional arguments.
        args: Option<Arc<str>>,
        /// `repr` of its keyword arguments.
        kwargs: Option<Arc<str>>,
        /// How often it was retried.
        retries: u32,
        /// Not before, ISO 8601.
        eta: Option<String>,
        /// Not after, ISO 8601.
        expires: Option<String>,
        /// The queue that it went to.
        queue: String,
        /// The anonymous exchange.
        exchange: &'static str,
        /// The queue again.
        routing_key: String,
    },
    /// A worker has it.
    Received {
        /// Name of the task.
        name: Arc<str>,
        /// `repr` of its positional arguments.
        args: Arc<str>,
        /// `repr` of its keyword arguments.
        kwargs: Arc<str>,
        /// First task of the workflow.
        root_id: Option<Arc<str>>,
        /// Task that sent it.
        parent_id: Option<Arc<str>>,
        /// How often it was retried.
        retries: u32,
        /// Not before, ISO 8601.
        eta: Option<String>,
        /// Not after, ISO 8601.
        expires: Option<String>,
    },
    /// It began.
    Started {},
    /// It returned.
    Succeeded {
        /// `repr` of what it returned.
        result: String,
        /// Seconds that it took.
        runtime: f64,
    },
    /// It raised, or cannot be run.
    Failed {
        /// `repr` of the exception.
        exception: String,
        /// Absent where nothing was run.
        #[serde(skip_serializing_if = "Option::is_none")]
        traceback: Option<String>,
    },
    /// It asked to be run again.
    Retried {
        /// `repr` of the reason.
        exception: String,
        /// Traceback of the reason.
        traceback: String,
    },
    /// It will not run, or was stopped.
    Revoked {
        /// Whether it was running.
        terminated: bool,
        /// The signal that it was stopped with.
        signum: Option<i32>,
        /// Whether it came too late.
        expired: bool,
    },
    /// It refused its message.
    Rejected {
        /// Whether the message is in its queue again.
        requeue: bool,
    },
}

impl Sign {
    fn name(self) -> &'static str {
        match self {
            Self::Online => "worker-online",
            Self::Heartbeat => "worker-heartbeat",
            Self::Offline => "worker-offline",
        }
    }
}

impl Happened {
    /// That this message was sent; `None` for what is no task's message.
    pub fn sent(message: &Encoded) -> Option<TaskEvent> {
        let decoded = Message::decode(&message.bytes).ok()?;
        let headers = decoded.headers;
        let happened = Self::Sent {
            root_id: headers.root_id,
            parent_id: headers.parent_id,
            name: decoded.task,
            args: headers.argsrepr,
            kwargs: headers.kwargsrepr,
            retries: headers.retries,
            eta: headers.eta.map(isoformat::format),
            expires: headers.expires.map(isoformat::format),
            queue: message.queue.clone(),
            exchange: "",
            routing_key: message.queue.clone(),
        };
        Some(TaskEvent { uuid: message.id.clone(), happened })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "task-sent",
            Self::Received { .. } => "task-received",
            Self::Started {} => "task-started",
            Self::Succeeded { .. } => "task-succeeded",
            Self::Failed { .. } => "task-failed",
            Self::Retried { .. } => "task-retried",
            Self::Revoked { .. } => "task-revoked",
            Self::Rejected { .. } => "task-rejected",
        }
    }
}

/// Where and when an event happened.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The sender's Lamport clock.
    pub clock: u64,
    /// Epoch seconds.
    pub timestamp: f64,
    /// Hours that local time is west of UTC.
    pub utcoffset: f64,
}

impl Stamp {
    /// What happened at `now`, when the clock was at `clock` (`celery.utils.time`, `utcoffset`).
    pub fn at(now: DateTime<Local>, clock: u64) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let timestamp = now.timestamp_micros() as f64 / 1e6;
        let utcoffset = f64::from(now.offset().utc_minus_local()) / 3600.0;
        Self { clock, timestamp, utcoffset }
    }
}

/// Who sends events.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Node name.
    pub node: String,
    /// Process id.
    pub pid: u32,
}

/// Field order as `celery.events.dispatcher` has it.
#[derive(Serialize)]
struct Body<'a, F> {
    hostname: &'a str,
    utcoffset: f64,
    pid: u32,
    clock: u64,
    #[serde(flatten)]
    fields: &'a F,
    timestamp: f64,
    r#type: &'a str,
}

/// A message for the channel of its routing key.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Routing key: the type with a dot for the dash, `task.multi` for several tasks' events.
    pub routing_key: String,
    /// The envelope's bytes.
    pub bytes: String,
}

impl Sender {
    /// Who tells of what `producer` sends, which Celery does under the name of the process.
    pub fn of_sendings(producer: &Producer) -> Self {
        Self { node: producer.origin.clone(), pid: std::process::id() }
    }

    /// A worker's event as it is published.
    pub fn worker(&self, event: &WorkerEvent, stamp: Stamp) -> serde_json::Result<Announcement> {
        let name = event.sign.name();
        let body = python_json::to_string(&self.body(event, stamp, name))?;
        self.announce(&name.replace('-', "."), &body)
    }

    /// Tasks' events as they are published: a list in one message.
    pub fn tasks(&self, events: &[(TaskEvent, Stamp)]) -> serde_json::Result<Announcement> {
        let bodies: Vec<_> = events
            .iter()
            .map(|(event, stamp)| self.body(event, *stamp, event.happened.name()))
            .collect();
        self.announce("task.multi", &python_json::to_string(&bodies)?)
    }

    /// One task's event as it is published, by itself.
    pub fn task(&self, event: &TaskEvent, stamp: Stamp) -> serde_json::Result<Announcement> {
        let name = event.happened.name();
        let body = python_json::to_string(&self.body(event, stamp, name))?;
        self.announce(&name.replace('-', "."), &body)
    }

    fn body<'a, F>(&'a self, fields: &'a F, stamp: Stamp, name: &'a str) -> Body<'a, F> {
        let Stamp { clock, timestamp, utcoffset } = stamp;
        Body {
            hostname: &self.node,
            utcoffset,
            pid: self.pid,
            clock,
            fields,
            timestamp,
            r#type: name,
        }
    }

    fn announce(&self, routing_key: &str, body: &str) -> serde_json::Result<Announcement> {
        let bytes = Publication {
            body,
            headers: Headers { hostname: &self.node },
            delivery_mode: DeliveryMode::Transient,
            exchange: EVENT_EXCHANGE,
            routing_key,
        }
        .encode()?;
        Ok(Announcement { routing_key: routing_key.to_owned(), bytes })
    }
}

#[derive(Serialize)]
struct Headers<'a> {
    hostname: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::raw_map::RawMap;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;
    use serde_json::value::RawValue;

    const GOLDEN: &str = include_str!("../../tests/golden/events-full-life.jsonl");
    const SOFTWARE: Software = Software { sw_ident: "py-celery", sw_ver: "5.7.0", sw_sys: "Linux" };

    fn sender() -> Sender {
        Sender { node: "celery@host".to_owned(), pid: 1234 }
    }

    /// The envelopes of real Celery on one channel, and their bodies as bytes.
    fn captured(channel: &str) -> Vec<(Value, String)> {
        GOLDEN
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["channel"] == channel)
            .map(|mut line| {
                let body = line["envelope"]["body"].as_str().unwrap().to_owned();
                (
                    line["envelope"].take(),
                    String::from_utf8(STANDARD.decode(body).unwrap()).unwrap(),
                )
            })
            .collect()
    }

    /// A number with all its digits, of which serde_json drops the last.
    fn float(body: &RawValue, field: &str) -> f64 {
        let fields: RawMap<'_> = serde_json::from_str(body.get()).unwrap();
        fields.get(field).unwrap().get().parse().unwrap()
    }

    fn stamp(raw: &RawValue) -> Stamp {
        let body: Value = serde_json::from_str(raw.get()).unwrap();
        let timestamp = float(raw, "timestamp");
        Stamp { clock: body["clock"].as_u64().unwrap(), timestamp, utcoffset: 0.0 }
    }

    fn assert_same(announcement: &Announcement, captured: &(Value, String)) {
        let mut ours: Value = serde_json::from_str(&announcement.bytes).unwrap();
        let body = STANDARD.decode(ours["body"].as_str().unwrap()).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), captured.1);
        ours["properties"]["delivery_tag"] = captured.0["properties"]["delivery_tag"].clone();
        assert_eq!(ours, captured.0);
    }

    #[test]
    fn a_workers_life_is_celerys_byte_for_byte() {
        for (channel, sign) in [
            ("/0.celeryev/worker.online", Sign::Online),
            ("/0.celeryev/worker.heartbeat", Sign::Heartbeat),
            ("/0.celeryev/worker.offline", Sign::Offline),
        ] {
            for captured in captured(channel) {
                let body: Value = serde_json::from_str(&captured.1).unwrap();
                let event = WorkerEvent {
                    sign,
                    freq: Frequency::Regular(2.0),
                    active: Some(0),
                    processed: body["processed"].as_u64(),
                    loadavg: Some([0, 1, 2].map(|at| body["loadavg"][at].as_f64().unwrap())),
                    software: SOFTWARE,
                };
                let raw: Box<RawValue> = serde_json::from_str(&captured.1).unwrap();
                let announcement = sender().worker(&event, stamp(&raw)).unwrap();
                assert!(channel.ends_with(&announcement.routing_key));
                assert_same(&announcement, &captured);
            }
        }
    }

    #[test]
    fn a_tasks_life_is_celerys_byte_for_byte() {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let shared = |value: &Value| value.as_str().map(Arc::from);
        for captured in captured("/0.celeryev/task.multi") {
            let bodies: Vec<Box<RawValue>> = serde_json::from_str(&captured.1).unwrap();
            let events: Vec<(TaskEvent, Stamp)> = bodies
                .iter()
                .map(|raw| {
                    let body: Value = serde_json::from_str(raw.get()).unwrap();
                    let exception = || text(&body["exception"]).unwrap();
                    let happened = match body["type"].as_str().unwrap() {
                        "task-received" => Happened::Received {
                            name: shared(&body["name"]).unwrap(),
                            args: shared(&body["args"]).unwrap(),
                            kwargs: shared(&body["kwargs"]).unwrap(),
                            root_id: shared(&body["root_id"]),
                            parent_id: shared(&body["parent_id"]),
                            retries: u32::try_from(body["retries"].as_u64().unwrap()).unwrap(),
                            eta: text(&body["eta"]),
                            expires: text(&body["expires"]),
                        },
                        "task-started" => Happened::Started {},
                        "task-succeeded" => Happened::Succeeded {
                            result: text(&body["result"]).unwrap(),
                            runtime: float(raw, "runtime"),
                        },
                        "task-failed" => Happened::Failed {
                            exception: exception(),
                            traceback: text(&body["traceback"]),
                        },
                        "task-retried" => Happened::Retried {
                            exception: exception(),
                            traceback: text(&body["traceback"]).unwrap(),
                        },
                        "task-revoked" => {
                            Happened::Revoked { terminated: false, signum: None, expired: false }
                        }
                        "task-rejected" => Happened::Rejected { requeue: false },
                        other => panic!("{other} is not known here"),
                    };
                    (TaskEvent { uuid: text(&body["uuid"]).unwrap(), happened }, stamp(raw))
                })
                .collect();
            assert_same(&sender().tasks(&events).unwrap(), &captured);
        }
    }
}
