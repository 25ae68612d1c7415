//! Remote control on a connection and a task of its own, so that a busy worker still answers.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celery_redis::transport::broker::Broker;
use celery_redis::transport::connection::{Backoff, TransportError};
use celery_redis::transport::mailbox::{Mailbox, reply};
use celery_redis::transport::revoked;
use celery_redis::wire::control::Request;
use celery_redis::wire::python_repr;
use chrono::Utc;
use serde_json::{Value, json};

use crate::consumer::Consumer;
use crate::heartbeat;
use crate::state::Signal;

/// How long a revoked id is remembered: longer than any eta that people give.
const REVOKED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Ids whose tasks must not start.
#[derive(Debug, Default)]
pub(crate) struct RevokedTasks(Mutex<HashSet<String>>);

impl RevokedTasks {
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ids().contains(id)
    }

    /// Takes over what Redis remembers.
    pub(crate) async fn load(&self, broker: &Broker) -> Result<(), TransportError> {
        let ids =
            revoked::revoked(broker.connection(), broker.keys(), Utc::now().timestamp()).await?;
        *self.ids() = ids.into_iter().collect();
        Ok(())
    }

    async fn add(&self, broker: &Broker, ids: Vec<String>) -> Result<(), TransportError> {
        let now = Utc::now().timestamp();
        revoked::revoke(broker.connection(), broker.keys(), &ids, now, REVOKED_FOR).await?;
        self.ids().extend(ids);
        Ok(())
    }

    fn sorted(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.ids().iter().cloned().collect();
        ids.sort();
        ids
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscribes to the mailbox, and learns what was revoked before.
pub(crate) async fn open(
    broker: &Broker,
    revoked: &RevokedTasks,
) -> Result<Mailbox, TransportError> {
    let mailbox = Mailbox::open(broker.connection(), broker.keys()).await?;
    // After the subscription, so that nothing is missed in between.
    revoked.load(broker).await?;
    Ok(mailbox)
}

/// Answers what is broadcast. Never ends.
pub(crate) async fn answer(mailbox: Mailbox, consumer: &Consumer) {
    let (broker, revoked) = (&*consumer.broker, &consumer.revoked);
    let mut backoff = Backoff::default();
    let mut opened = Ok(mailbox);
    loop {
        let ended = match opened {
            Ok(mailbox) => listen(mailbox, consumer).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => backoff.reset(),
            Err(error) => log::debug!("remote control is interrupted: {error}"),
        }
        backoff.wait().await;
        opened = open(broker, revoked).await;
    }
}

/// Ends when the connection is lost.
async fn listen(mut mailbox: Mailbox, consumer: &Consumer) -> Result<(), TransportError> {
    let (broker, node) = (&*consumer.broker, &consumer.config.node);
    while let Some(message) = mailbox.next().await {
        #[allow(clippy::cast_precision_loss)]
        let now = Utc::now().timestamp_millis() as f64 / 1000.0;
        let Some(request) = Request::decode(&message, now).filter(|request| request.concerns(node))
        else {
            continue;
        };
        let clock = consumer.clock.forward();
        let said = obey(consumer, &request).await?;
        let Some(routing_key) = request.reply_to() else { continue };
        match request.reply(node, &said, clock) {
            Ok(message) => reply(broker.connection(), broker.keys(), routing_key, &message).await?,
            Err(error) => log::error!("the reply to {} is no JSON: {error}", request.method),
        }
    }
    Ok(())
}

/// Does what a command says; what to reply.
async fn obey(consumer: &Consumer, request: &Request) -> Result<Value, TransportError> {
    let (state, events, revoked) = (&consumer.state, &consumer.events, &consumer.revoked);
    let switched = |changed, to| json!({"ok": format!("task events {}{to}", if changed { "" } else { "already " })});
    Ok(match request.method.as_str() {
        "ping" => json!({"ok": "pong"}),
        "clock" => json!({"clock": consumer.clock.now()}),
        "hello" => {
            if let Some(clock) = request.arguments.get("clock").and_then(Value::as_u64) {
                consumer.clock.adjust(clock);
            }
            json!({"revoked": revoked.sorted(), "clock": consumer.clock.forward()})
        }
        "enable_events" => switched(events.enable_tasks(), "enabled"),
        "disable_events" => switched(events.disable_tasks(), "disabled"),
        "heartbeat" => {
            events.worker(heartbeat::asked());
            Value::Null
        }
        "stats" => json!({
            "total": state.totals(),
            "pid": std::process::id(),
            "clock": consumer.clock.now().to_string(),
            "uptime": state.uptime().as_secs(),
        }),
        "active" => state
            .reserved()
            .iter()
            .filter_map(|reserved| {
                let begun = reserved.begun()?.time.timestamp_millis();
                Some(json!({
                    "id": reserved.id,
                    "name": reserved.task,
                    "delivery_info": {"exchange": "", "routing_key": reserved.queue},
                    "size": reserved.envelope.len(),
                    "time_start": begun / 1000,
                    "acknowledged": reserved.is_acknowledged(),
                }))
            })
            .collect(),
        "revoked" => json!(revoked.sorted()),
        "revoke" => {
            let ids = ids(request.arguments.get("task_id"));
            let names: Vec<String> = ids.iter().map(|id| python_repr::value(&json!(id))).collect();
            log::warn!("revoked by remote control: {}", ids.join(", "));
            revoked.add(&consumer.broker, ids.clone()).await?;
            if request.arguments.get("terminate").and_then(Value::as_bool).unwrap_or(false) {
                for reserved in state.reserved().iter().filter(|it| ids.contains(&it.id)) {
                    reserved.terminate(Signal::TERM);
                }
                json!({"ok": format!("terminate: {}", ids.join(", "))})
            } else {
                json!({"ok": format!("tasks {{{}}} flagged as revoked", names.join(", "))})
            }
        }
        method => json!({"error": format!("this worker does not know the command {method:?}")}),
    })
}

/// One id or a list of ids.
fn ids(argument: Option<&Value>) -> Vec<String> {
    match argument {
        Some(Value::String(id)) => vec![id.clone()],
        Some(Value::Array(ids)) => {
            ids.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        }
        _ => Vec::new(),
    }
}
