//! Commands about events.

use serde_json::Value;

use super::{Panel, ok};
use crate::heartbeat;

impl Panel {
    pub(super) fn enable_events(&self) -> Value {
        switched(self.consumer.events.enable_tasks().then_some("enabled"), "already enabled")
    }

    pub(super) fn disable_events(&self) -> Value {
        switched(self.consumer.events.disable_tasks().then_some("disabled"), "already disabled")
    }

    pub(super) fn heartbeat(&self) -> Value {
        self.consumer.events.worker(heartbeat::asked());
        Value::Null
    }
}

fn switched(changed: Option<&str>, unchanged: &str) -> Value {
    let how = changed.unwrap_or(unchanged);
    if changed.is_some() {
        log::info!("task events {how} by remote control");
    }
    ok(format!("task events {how}"))
}
