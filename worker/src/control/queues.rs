//! Commands about the queues that this worker consumes.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::{Panel, Refusal, ok};

impl Panel {
    pub(super) fn active_queues(&self) -> Value {
        self.consumer.broker.queues().iter().map(|queue| description(queue)).collect()
    }

    /// Only direct exchanges: those of other types deliver by rules that a queue's name does not
    /// tell.
    pub(super) async fn add_consumer(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["queue"])?;
        let queue = it.text("queue")?.filter(|queue| !queue.is_empty());
        let Some(queue) = queue else {
            return Err(it.wrong("queue", "a queue's name", &Value::Null));
        };
        let kind = it.text("exchange_type")?.unwrap_or_else(|| "direct".to_owned());
        if kind != "direct" {
            return Err(it.wrong("exchange_type", "direct", &Value::from(kind)));
        }
        let exchange = it.text("exchange")?.unwrap_or_else(|| queue.clone());
        let routing_key = it.text("routing_key")?.unwrap_or_else(|| queue.clone());
        self.publisher.bind_to(&queue, &exchange, &routing_key).await?;
        if self.consumer.broker.add_queue(&queue) {
            log::info!("consuming from {queue} by remote control");
            self.describe().await;
        }
        Ok(ok(format!("add consumer {queue}")))
    }

    pub(super) async fn cancel_consumer(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["queue"])?;
        let queue = it.text("queue")?.unwrap_or_default();
        if self.consumer.broker.cancel_queue(&queue) {
            log::info!("no longer consuming from {queue} by remote control");
            self.describe().await;
        }
        Ok(ok(format!("no longer consuming from {queue}")))
    }
}

/// A queue as kombu describes it (`Queue.as_dict`); monitors need every field.
fn description(queue: &str) -> Value {
    json!({
        "name": queue,
        "exchange": {
            "name": queue,
            "type": "direct",
            "arguments": null,
            "durable": true,
            "passive": false,
            "auto_delete": false,
            "delivery_mode": null,
            "no_declare": false,
        },
        "routing_key": queue,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    })
}
