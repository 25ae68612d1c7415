//! Tasks that leave a trace in Redis, where the suite looks for it, and in a file.

use std::io::Write;

use celery::task::TaskResult;
use celery_redis::transport::connection::Connection;
use celery_redis::wire::python_repr;
use celery_task::{Exception, TaskContext};
use serde_json::Value;

use super::arithmetic::returned;
use super::python_value;

/// Appends the message to a list.
#[celery::task(name = "t.integration.tasks.redis_echo")]
pub(super) async fn redis_echo(message: Value, redis_key: Option<String>) -> TaskResult<()> {
    push(redis_key.as_deref().unwrap_or("redis-echo"), &message).await
}

/// Appends the id of its group to a list; its first argument is of no interest.
#[celery::task(name = "t.integration.tasks.redis_echo_group_id")]
pub(super) async fn redis_echo_group_id(
    previous: Value,
    redis_key: Option<String>,
) -> TaskResult<()> {
    drop(previous);
    let group = Value::from(TaskContext::current().call().group.as_deref());
    push(redis_key.as_deref().unwrap_or("redis-group-ids"), &group).await
}

/// Counts its runs.
#[celery::task(name = "t.integration.tasks.redis_count")]
pub(super) async fn redis_count(redis_key: Option<String>) -> TaskResult<()> {
    count(redis_key.as_deref().unwrap_or("redis-count")).await
}

/// Sums, and appends its own id to a list.
#[celery::task(name = "t.integration.tasks.sum_and_record")]
pub(super) async fn sum_and_record(values: Vec<Value>, redis_key: String) -> TaskResult<Value> {
    let sum = returned(python_value::sum(&values))?;
    let id = Value::from(TaskContext::current().task_id());
    push(&redis_key, &id).await?;
    Ok(sum)
}

/// Appends a line to a file, and returns the number.
#[celery::task(name = "t.integration.tasks.write_to_file_and_return_int")]
pub(super) fn write_to_file_and_return_int(file_name: String, i: i64) -> TaskResult<i64> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&file_name);
    returned(match file.and_then(|mut file| writeln!(file, "{i}")) {
        Ok(()) => Ok(i),
        Err(error) => Err(Exception::builtin("OSError", format!("{file_name}: {error}"))),
    })
}

/// `RPUSH key message`.
pub(super) async fn push(key: &str, message: &Value) -> TaskResult<()> {
    let text = returned(bytes(message))?;
    command("append to a list", redis::cmd("RPUSH").arg(key).arg(text)).await
}

/// `INCR key`.
pub(super) async fn count(key: &str) -> TaskResult<()> {
    command("count a run", redis::cmd("INCR").arg(key)).await
}

async fn command(what: &'static str, command: &redis::Cmd) -> TaskResult<()> {
    let context = TaskContext::current();
    let answer: Result<i64, _> = context.state::<Connection>().query(what, command).await;
    answer
        .map(|_| ())
        .map_err(|error| context.fail(Exception::builtin("ConnectionError", error.to_string())))
}

/// What redis-py sends for a value: texts and bytes as they are, numbers as text.
fn bytes(value: &Value) -> Result<Vec<u8>, Exception> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        // kombu's way to write bytes in JSON, where they are UTF-8.
        Value::Object(typed) if typed.get("__type__").is_some_and(|name| name == "bytes") => {
            typed.get("__value__").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        other => {
            let message = format!("Invalid input of type: {}", python_repr::value(other));
            return Err(Exception::new("DataError", "redis.exceptions", vec![message.into()]));
        }
    };
    Ok(text.into_bytes())
}
