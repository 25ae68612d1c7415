//! Commands that change how many tasks may run at the same time.

use serde_json::Value;

use super::arguments::Arguments;
use super::{Panel, Refusal, ok};
use crate::slots::OutOfRange;

impl Panel {
    pub(super) async fn pool_grow(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        self.refuse_autoscaled("pool_grow")?;
        let slots = self.consumer.slots.grow(it.count("n")?.unwrap_or(1)).map_err(refused)?;
        self.resized(slots).await;
        Ok(ok("pool will grow"))
    }

    pub(super) async fn pool_shrink(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        self.refuse_autoscaled("pool_shrink")?;
        let slots = self.consumer.slots.shrink(it.count("n")?.unwrap_or(1)).map_err(refused)?;
        self.resized(slots).await;
        Ok(ok("pool will shrink"))
    }

    pub(super) async fn autoscale(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        let slots = &self.consumer.slots;
        let Some(range) = slots.set_autoscale(it.count("max")?, it.count("min")?) else {
            return Err(Refusal::raised("ValueError", "Autoscale not enabled"));
        };
        let range = range.map_err(refused)?;
        self.resized(slots.count()).await;
        Ok(ok(format!("autoscale now max={} min={}", range.max, range.min)))
    }

    fn refuse_autoscaled(&self, command: &str) -> Result<(), Refusal> {
        match self.consumer.slots.autoscale() {
            None => Ok(()),
            Some(_) => Err(Refusal(format!(
                "{command} is not supported with autoscale. Adjust autoscale range instead."
            ))),
        }
    }

    async fn resized(&self, slots: usize) {
        log::info!("{slots} slots by remote control");
        self.describe().await;
    }

    /// Tells people who look at the queues; they are told again with the next change.
    pub(super) async fn describe(&self) {
        let slots = self.consumer.slots.count();
        if let Err(error) = self.consumer.broker.describe(slots).await {
            log::debug!("the description of this process was not changed: {error}");
        }
    }
}

fn refused(error: OutOfRange) -> Refusal {
    Refusal::raised("ValueError", &error.to_string())
}
