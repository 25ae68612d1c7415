//! Tasks that take time.

use std::time::Duration;

use celery::task::TaskResult;
use celery_task::TaskContext;
use serde_json::Value;

use super::arithmetic::returned;
use super::python_value;

/// Sleeps for `i` seconds.
#[celery::task(name = "t.integration.tasks.sleeping")]
pub(super) async fn sleeping(i: f64) -> TaskResult<()> {
    sleep(i).await;
    Ok(())
}

/// As [`delayed_sum`]; 0 where its soft time limit comes first.
#[celery::task(name = "t.integration.tasks.delayed_sum_with_soft_guard")]
pub(super) async fn delayed_sum_with_soft_guard(
    numbers: Vec<Value>,
    pause_time: Option<f64>,
) -> TaskResult<Value> {
    tokio::select! {
        () = sleep(pause_time.unwrap_or(1.0)) => returned(python_value::sum(&numbers)),
        () = TaskContext::current().soft_time_limit() => Ok(0.into()),
    }
}

/// Sums a list after a pause of so many seconds.
#[celery::task(name = "t.integration.tasks.delayed_sum")]
pub(super) async fn delayed_sum(numbers: Vec<Value>, pause_time: Option<f64>) -> TaskResult<Value> {
    sleep(pause_time.unwrap_or(1.0)).await;
    returned(python_value::sum(&numbers))
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
}

/// Writes to the log what is not ASCII.
#[celery::task(name = "t.integration.tasks.print_unicode")]
pub(super) async fn print_unicode(
    log_message: Option<Value>,
    print_message: Option<Value>,
) -> TaskResult<()> {
    log::warn!("{}", log_message.unwrap_or_else(|| "håå®ƒ valmuefrø".into()));
    log::warn!("{}", print_message.unwrap_or_else(|| "hiöäüß".into()));
    Ok(())
}
