//! Commands that keep tasks from starting, or stop them.

use std::sync::Arc;

use celery_redis::wire::message::Message;
use celery_redis::wire::python_repr;
use celery_redis::wire::result::{Outcome, TaskMeta};
use chrono::Utc;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::{Panel, Refusal, ok};
use crate::revoked::{Stamps, matches, maybe_list};
use crate::state::{Reserved, Signal};

impl Panel {
    pub(super) async fn revoke(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["task_id"])?;
        let ids = unique(it.texts("task_id")?);
        let stop = if it.is_set("terminate") { Some(signal(it)?) } else { None };
        self.revoke_ids(&ids, stop).await
    }

    pub(super) async fn terminate(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["signal", "task_id"])?;
        let ids = unique(it.texts("task_id")?);
        self.revoke_ids(&ids, Some(signal(it)?)).await
    }

    async fn revoke_ids(&self, ids: &[String], stop: Option<Signal>) -> Result<Value, Refusal> {
        log::info!("tasks flagged as revoked by remote control: {}", ids.join(", "));
        let consumer = &self.consumer;
        let remembered = consumer.revoked.add(&consumer.broker, ids).await;
        let in_hand = consumer.state.reserved();
        let told = self.tell_callers(ids, &in_hand).await;
        let mut terminated = Vec::new();
        if let Some(signal) = stop {
            for reserved in
                in_hand.iter().filter(|reserved| ids.iter().any(|id| **id == *reserved.id))
            {
                reserved.terminate(signal);
                terminated.push(&*reserved.id);
            }
        }
        remembered?;
        told?;
        Ok(match stop {
            None => ok(format!("tasks {} flagged as revoked", set(ids))),
            Some(_) if terminated.is_empty() => ok("terminate: tasks unknown"),
            Some(_) => ok(format!("terminate: {}", terminated.join(", "))),
        })
    }

    /// Who waits for a task that no worker has told of need wait no longer. Every Celery worker
    /// does this; a task that runs elsewhere is told of by its STARTED.
    async fn tell_callers(&self, ids: &[String], in_hand: &[Arc<Reserved>]) -> Result<(), Refusal> {
        let outcome = Outcome::revoked("revoked");
        let runs = |id: &String| in_hand.iter().any(|it| *it.id == **id && it.begun().is_some());
        for id in ids.iter().filter(|id| !runs(id)) {
            let meta = TaskMeta::new(id, &outcome, RawValue::NULL, Utc::now());
            self.results.store_revoked(&meta).await?;
        }
        Ok(())
    }

    pub(super) async fn revoke_by_stamped_headers(
        &self,
        it: Arguments<'_>,
    ) -> Result<Value, Refusal> {
        it.require(&["headers"])?;
        let headers = headers(it)?;
        let shown = python_repr::value(&Value::Object(headers.clone()));
        let stop = if it.is_set("terminate") { Some(signal(it)?) } else { None };
        log::info!("tasks with these stamps flagged as revoked by remote control: {shown}");
        let stamps: Stamps =
            headers.into_iter().map(|(name, values)| (name, maybe_list(values))).collect();
        let consumer = &self.consumer;
        let remembered = consumer.revoked.add_stamps(&consumer.broker, &stamps).await;
        let Some(signal) = stop else {
            remembered?;
            return Ok(ok(format!("headers {shown} flagged as revoked, but not terminated")));
        };
        let mut found: Vec<(String, Vec<Value>)> = Vec::new();
        for reserved in consumer.state.reserved().iter().filter(|it| it.begun().is_some()) {
            let Ok(message) = Message::decode(&reserved.envelope) else { continue };
            let (stamped, values) = (&message.headers.stamped_headers, &message.headers.stamps);
            if let Some((name, common)) = matches(&stamps, stamped, |name| values.read(name)) {
                reserved.terminate(signal);
                add(&mut found, name, common);
            }
        }
        remembered?;
        Ok(ok(if found.is_empty() {
            format!("headers {shown} were not terminated")
        } else {
            format!("headers {} revoked", default_dict(&found))
        }))
    }
}

/// The signal that is asked for, by name or number; TERM where none is.
fn signal(it: Arguments<'_>) -> Result<Signal, Refusal> {
    const NAMES: [(&str, i32); 10] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("ALRM", 14),
        ("TERM", 15),
        ("STOP", 19),
    ];
    let Some(text) = it.text("signal")?.filter(|text| !text.is_empty()) else {
        return Ok(Signal::TERM);
    };
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = number.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)));
    number
        .map(Signal)
        .ok_or_else(|| it.wrong("signal", "a signal such as TERM or KILL", &text.into()))
}

/// A mapping, or the list `name=value` of the command line.
fn headers(it: Arguments<'_>) -> Result<Map<String, Value>, Refusal> {
    match it.value("headers") {
        Some(Value::Object(headers)) => Ok(headers.clone()),
        _ => it
            .texts("headers")?
            .iter()
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), Value::from(value))),
                None => Err(it.wrong("headers", "name=value", &Value::from(pair.as_str()))),
            })
            .collect(),
    }
}

fn unique(ids: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    unique
}

fn add(found: &mut Vec<(String, Vec<Value>)>, name: &str, values: Vec<Value>) {
    let at = found.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        found.push((name.to_owned(), Vec::new()));
        found.len() - 1
    });
    for value in values {
        if !found[at].1.contains(&value) {
            found[at].1.push(value);
        }
    }
}

/// Python's `repr` of a set of texts.
fn set(ids: &[String]) -> String {
    set_of(&ids.iter().map(|id| Value::from(id.as_str())).collect::<Vec<_>>())
}

fn set_of(values: &[Value]) -> String {
    if values.is_empty() {
        return "set()".to_owned();
    }
    let values: Vec<String> = values.iter().map(python_repr::value).collect();
    format!("{{{}}}", values.join(", "))
}

fn default_dict(found: &[(String, Vec<Value>)]) -> String {
    let entries: Vec<String> = found
        .iter()
        .map(|(name, values)| {
            format!("{}: {}", python_repr::value(&Value::from(name.as_str())), set_of(values))
        })
        .collect();
    format!("defaultdict(<class 'set'>, {{{}}})", entries.join(", "))
}
