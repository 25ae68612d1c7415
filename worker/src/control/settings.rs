//! Commands that show how this worker is set up.

use std::time::Duration;

use celery_redis::wire::python_repr;
use serde_json::{Map, Value, json};

use super::{Panel, RemoteControl, ok};
use crate::events::TaskEvents;

impl Panel {
    /// The settings under Celery's names, without passwords. Those that a worker of ours has no
    /// use for, but monitors ask for, have the value that describes what it does.
    pub(super) fn conf(&self) -> Value {
        Value::Object(self.settings())
    }

    fn settings(&self) -> Map<String, Value> {
        let consumer = &self.consumer;
        let config = &consumer.config;
        let broker = &config.broker;
        let seconds =
            |time: Duration| if time.is_zero() { Value::Null } else { json!(time.as_secs()) };
        let settings = json!({
            "broker_url": consumer.broker.connection().settings().to_string(),
            "result_backend": consumer.results.connection().settings().to_string(),
            "broker_transport_options": {
                "global_keyprefix": broker.global_keyprefix,
                "visibility_timeout": broker.visibility_timeout.as_secs(),
            },
            "broker_heartbeat": null,
            "broker_connection_retry_on_startup": true,
            "deprecated_settings": null,
            "include": [],
            "accept_content": ["json"],
            "task_serializer": "json",
            "result_serializer": "json",
            "result_expires": seconds(config.results.expires),
            "enable_utc": true,
            "timezone": "UTC",
            "task_default_queue": config.queues.first(),
            "worker_concurrency": consumer.slots.count(),
            "worker_prefetch_multiplier": 1,
            "worker_disable_prefetch": true,
            "worker_send_task_events": config.task_events == TaskEvents::Always,
            "worker_enable_remote_control": config.remote_control != RemoteControl::Off,
            "worker_hijack_root_logger": false,
            "worker_log_color": null,
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }

    pub(super) fn report(&self) -> Value {
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        let results = self.consumer.results.connection().settings();
        let mut text = format!(
            "\nsoftware -> celery:none (its protocol is spoken by {} {} in Rust)\n\
             platform -> system:{system} arch:{machine}\n\
             settings -> transport:redis results:{results}\n\n",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
        );
        for (name, value) in self.settings() {
            text.push_str(&format!("{name}: {}\n", python_repr::value(&value)));
        }
        ok(text)
    }
}
