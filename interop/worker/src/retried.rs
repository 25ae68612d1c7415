//! Tasks that are retried, each in another way.

// What rusty-celery calls with the end of a task has this form.
#![allow(clippy::unused_async)]

use std::time::Duration;

use celery::error::TaskError;
use celery::task::{Task, TaskResult};
use celery_task::{
    Autoretry, Ended, Exception, Hook, MaxRetries, Registry, Retry, RetryBackoff, TaskContext,
    TaskOptions,
};
use serde_json::json;

use crate::tasks::{Ledger, duration};

/// Makes them known.
pub(crate) fn register(registry: &mut Registry) {
    let twice = |autoretry| TaskOptions {
        max_retries: Some(MaxRetries::AtMost(2)),
        default_retry_delay: Some(Duration::from_millis(50)),
        autoretry: Some(autoretry),
        ..TaskOptions::default()
    };
    registry
        .register_with::<autoretry>(twice(Autoretry::on(&["ConnectionError"])))
        .register_with::<backoff>(twice(Autoretry::on(&["Exception"]).backoff(RetryBackoff {
            factor: 1,
            longest: 600,
            jitter: false,
        })))
        .register_with::<bare>(TaskOptions {
            max_retries: Some(MaxRetries::AtMost(1)),
            ..TaskOptions::default()
        })
        .register::<changed>()
        .register::<later>()
        .register_with::<attributes>(TaskOptions {
            on_retry: Some(Hook::new(|_| Box::pin(record("retried")))),
            after_return: Some(Hook::new(|ended| {
                Box::pin(record(match ended {
                    Ended::Returned(_) => "after success",
                    _ => "after failure",
                }))
            })),
            ..TaskOptions::default()
        })
        .register_with::<loud>(TaskOptions {
            after_return: Some(Hook::new(|_| Box::pin(async { panic!("after it returned") }))),
            ..TaskOptions::default()
        })
        .register_with::<quiet>(TaskOptions { ignore_result: Some(true), ..TaskOptions::default() })
        .register_with::<tracked>(TaskOptions {
            track_started: Some(true),
            ..TaskOptions::default()
        });
}

/// Raises the builtin of that name; retried by itself after a `ConnectionError`.
#[celery::task(name = "bench.autoretry")]
async fn autoretry(class: String) -> TaskResult<()> {
    write("begun", &class).await?;
    Err(TaskContext::current().fail(Exception::builtin(&class, "as asked")))
}

/// Always fails; retried by itself after one and two seconds.
#[celery::task(name = "bench.backoff")]
async fn backoff(key: String) -> TaskResult<()> {
    write("begun", &key).await?;
    Err(TaskContext::current().fail(Exception::builtin("OSError", "as asked")))
}

/// Asks for a retry without saying why.
#[celery::task(name = "bench.bare_retry")]
async fn bare(countdown: f64) -> TaskResult<()> {
    Err(TaskContext::current().retry(Retry::new().countdown(duration(countdown))))
}

/// Asks for a retry with twice the number, until it is at least 10; returns it.
#[celery::task(name = "bench.changed_retry")]
async fn changed(number: i64) -> TaskResult<i64> {
    if number >= 10 {
        return Ok(number);
    }
    let retry = Retry::new().countdown(Duration::ZERO).max_retries(MaxRetries::Unlimited);
    Err(TaskContext::current().retry(retry.args(vec![json!(number * 2)])))
}

/// Asks for one retry, `seconds` from now, at an instant; returns how late that was.
#[celery::task(name = "bench.later_retry")]
async fn later(seconds: f64) -> TaskResult<f64> {
    let context = TaskContext::current();
    match context.call().eta {
        Some(eta) => Ok((context.now() - eta).as_seconds_f64()),
        None => Err(context.retry(Retry::new().eta(context.now() + duration(seconds)))),
    }
}

/// As rusty-celery's attributes say: retried once after any error, and told how it ends.
#[celery::task(
    name = "bench.attributes",
    bind = true,
    max_retries = 1,
    min_retry_delay = 1,
    retry_for_unexpected = true,
    on_failure = failed,
    on_success = succeeded
)]
async fn attributes(task: &Self, fails: bool) -> TaskResult<u32> {
    if fails {
        return Err(TaskError::UnexpectedError("as asked".to_owned()));
    }
    Ok(task.request().retries)
}

async fn failed<T: Task>(_: &T, _: &TaskError) {
    record("failed").await;
}

async fn succeeded<T: Task>(_: &T, _: &T::Returns) {
    record("succeeded").await;
}

/// Its hooks panic.
#[celery::task(name = "bench.loud_hooks", on_success = panics)]
async fn loud() -> TaskResult<u32> {
    Ok(1)
}

async fn panics<T: Task>(_: &T, _: &T::Returns) {
    panic!("on success");
}

/// What becomes of it, nobody wants to know where they do not say so.
#[celery::task(name = "bench.quiet")]
async fn quiet(message: Option<String>) -> TaskResult<u32> {
    match message {
        Some(message) => {
            Err(TaskContext::current().fail(Exception::builtin("ValueError", message)))
        }
        None => Ok(1),
    }
}

/// Sleeps, and shows that it has begun.
#[celery::task(name = "bench.tracked")]
async fn tracked(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(duration(seconds)).await;
    Ok(seconds)
}

async fn record(event: &str) {
    if let Err(error) = write(event, TaskContext::current().task_id()).await {
        log::error!("{error}");
    }
}

async fn write(event: &str, key: &str) -> TaskResult<()> {
    let context = TaskContext::current();
    let ledger = context.state::<Ledger>();
    ledger
        .write(event, key, context.retries())
        .await
        .map_err(|error| context.fail(Exception::builtin("ConnectionError", error.to_string())))
}
