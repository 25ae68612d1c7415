//! Commands that change how often and how long tasks may run.

use celery_task::Rate;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::{Panel, Refusal, ok};

impl Panel {
    pub(super) fn rate_limit(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        it.require(&["task_name", "rate_limit"])?;
        let text = it.text("rate_limit")?.unwrap_or_default();
        let rate = if it.is_set("rate_limit") { Rate::parse(&text) } else { Ok(None) };
        let Ok(rate) = rate else { return Ok(invalid_rate(&text)) };
        let Some(task) = self.known_task(it)? else { return Ok(unknown_task()) };
        self.consumer.limits.set_rate(&task, rate);
        match rate {
            Some(rate) => {
                log::info!("new rate limit for {task} by remote control: {rate}");
                Ok(ok("new rate limit set successfully"))
            }
            None => {
                log::info!("rate limit of {task} disabled by remote control");
                // Celery takes the text "0" for a limit like any other.
                Ok(ok(if it.is_set("rate_limit") {
                    "new rate limit set successfully"
                } else {
                    "rate limit disabled successfully"
                }))
            }
        }
    }

    pub(super) fn time_limit(&self, it: Arguments<'_>) -> Result<Value, Refusal> {
        let (soft, hard) = (it.seconds("soft")?, it.seconds("hard")?);
        let Some(task) = self.known_task(it)? else { return Ok(unknown_task()) };
        self.consumer.limits.set_times(&task, soft, hard);
        log::info!("new time limits for {task} by remote control: soft {soft:?}, hard {hard:?}");
        Ok(ok("time limits set successfully"))
    }

    fn known_task(&self, it: Arguments<'_>) -> Result<Option<String>, Refusal> {
        let task = it.text("task_name")?.unwrap_or_default();
        Ok(self.consumer.registry.contains(&task).then_some(task))
    }
}

fn unknown_task() -> Value {
    json!({"error": "unknown task"})
}

/// In the words of `celery.utils.time.rate`, which reads the number first.
fn invalid_rate(text: &str) -> Value {
    let count = text.split_once('/').map_or(text, |(count, _)| count);
    let reason =
        Refusal::raised("ValueError", &format!("could not convert string to float: '{count}'"));
    json!({"error": format!("Invalid rate limit string: {}", reason.0)})
}
