//! Tasks that ask to be run again.

use std::time::Duration;

use celery::error::TaskError;
use celery::task::TaskResult;
use celery_task::{Call, Exception, MaxRetries, Retry, TaskApp, TaskContext};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::failures::{expected, unpickleable};

/// Asks three times for a retry in five seconds; then returns what it was given, or fails.
#[celery::task(name = "t.integration.tasks.retry")]
pub(super) async fn retry(return_value: Option<Value>) -> TaskResult<Value> {
    let context = TaskContext::current();
    match return_value {
        Some(value) if context.retries() >= 3 => Ok(value),
        _ => {
            let retry = Retry::new().countdown(Duration::from_secs(5));
            Err(context.retry(retry.error(expected(Vec::new()))))
        }
    }
}

/// The `retry_kwargs` of [`retry_unpickleable`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RetryArguments {
    countdown: f64,
    max_retries: u32,
}

/// Asks for a retry with an error whose class Python cannot make again.
#[celery::task(name = "t.integration.tasks.retry_unpickleable")]
pub(super) async fn retry_unpickleable(
    foo: Value,
    bar: Value,
    retry_kwargs: RetryArguments,
) -> TaskResult<()> {
    drop(bar);
    let retry = Retry::new()
        .countdown(seconds(retry_kwargs.countdown))
        .max_retries(MaxRetries::AtMost(retry_kwargs.max_retries))
        .error(unpickleable(foo));
    Err(TaskContext::current().retry(retry))
}

/// Asks once for a retry with other positional arguments; tells what the second run saw.
#[celery::task(name = "t.integration.tasks.retry_with_args_after_kwargs")]
pub(super) async fn retry_with_args_after_kwargs(
    foo: i64,
    bar: i64,
    label: Option<String>,
) -> TaskResult<Value> {
    let context = TaskContext::current();
    if context.retries() == 0 {
        let args = vec![json!(foo + 1), json!(bar + 1)];
        return Err(context.retry(at_once().args(args)));
    }
    Ok(json!({
        "foo": foo, "bar": bar, "label": label, "retries": context.retries(), "is_eager": false,
    }))
}

/// Asks once for a retry with another keyword argument; tells what the second run saw.
#[celery::task(name = "t.integration.tasks.retry_with_kwargs_after_args")]
pub(super) async fn retry_with_kwargs_after_args(foo: i64, bar: i64) -> TaskResult<Value> {
    let context = TaskContext::current();
    if context.retries() == 0 {
        let kwargs = Map::from_iter([("foo".to_owned(), json!(foo + 1))]);
        return Err(context.retry(at_once().kwargs(kwargs)));
    }
    Ok(json!({"foo": foo, "bar": bar, "retries": context.retries(), "is_eager": false}))
}

/// Asks once for a retry; returns how often it was retried. Takes any arguments.
pub(super) async fn retry_once(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    once(&call, &context).map(|()| json!(context.retries()))
}

/// As [`retry_once`]; returns its priority.
pub(super) async fn retry_once_priority(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    once(&call, &context).map(|()| json!(call.priority))
}

/// As [`retry_once`]; returns the headers that are not Celery's own.
pub(super) async fn retry_once_headers(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    once(&call, &context).map(|()| json!(call.headers()))
}

/// As [`retry_once`]; its results are dropped unless the caller says otherwise.
#[celery::task(name = "t.integration.tasks.retry_once_ignore_result")]
pub(super) async fn retry_once_ignore_result() -> TaskResult<u32> {
    twice()
}

/// As [`retry_once`]; its results are kept unless the caller says otherwise.
#[celery::task(name = "t.integration.tasks.retry_once_with_result")]
pub(super) async fn retry_once_with_result() -> TaskResult<u32> {
    twice()
}

/// Fails once; Celery's retries after certain errors have it run again.
#[celery::task(name = "auto_retry_class_task")]
pub(super) async fn auto_retry_class_task() -> TaskResult<u32> {
    let context = TaskContext::current();
    match context.retries() {
        0 => Err(context.fail(Exception::new("ValueError", "builtins", Vec::new()))),
        retries => Ok(retries),
    }
}

/// An error that asks for the retry, on the first run.
fn once(call: &Call, context: &TaskContext) -> Result<(), TaskError> {
    if context.retries() > 0 {
        return Ok(());
    }
    let countdown = call.kwargs.get("countdown").map_or(Some(0.1), Value::as_f64);
    let most = call.kwargs.get("max_retries").and_then(Value::as_u64).unwrap_or(1);
    let retry = Retry::new().max_retries(MaxRetries::AtMost(u32::try_from(most).unwrap_or(1)));
    Err(context.retry(match countdown {
        Some(countdown) => retry.countdown(seconds(countdown)),
        None => retry,
    }))
}

fn twice() -> TaskResult<u32> {
    let context = TaskContext::current();
    match context.retries() {
        0 => Err(context.retry(at_once())),
        retries => Ok(retries),
    }
}

fn at_once() -> Retry {
    Retry::new().countdown(Duration::ZERO)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
