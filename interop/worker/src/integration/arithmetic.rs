//! Tasks that calculate.

use celery::task::TaskResult;
use celery_task::{Exception, TaskContext};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::python_value;

/// Returns its argument.
#[celery::task(name = "t.integration.tasks.identity")]
pub(super) async fn identity(x: Value) -> TaskResult<Value> {
    Ok(x)
}

/// Adds two or three numbers, texts or lists.
#[celery::task(name = "t.integration.tasks.add")]
pub(super) async fn add(x: Value, y: Value, z: Option<Value>) -> TaskResult<Value> {
    let sum = added(&x, &y)?;
    match z {
        Some(z) if z != 0 && z != "" => added(&sum, &z),
        _ => Ok(sum),
    }
}

/// Multiplies.
#[celery::task(name = "t.integration.tasks.mul")]
pub(super) async fn mul(x: i64, y: i64) -> TaskResult<i64> {
    returned(python_value::multiply(x, y))
}

/// Adds; its Python twin lets the caller send any arguments.
#[celery::task(name = "t.integration.tasks.add_not_typed")]
pub(super) async fn add_not_typed(x: Value, y: Value) -> TaskResult<Value> {
    added(&x, &y)
}

/// Adds; its result is not kept.
#[celery::task(name = "t.integration.tasks.add_ignore_result")]
pub(super) async fn add_ignore_result(x: Value, y: Value) -> TaskResult<Value> {
    added(&x, &y)
}

/// Adds; its result is kept.
#[celery::task(name = "t.integration.tasks.add_with_result")]
pub(super) async fn add_with_result(x: Value, y: Value) -> TaskResult<Value> {
    added(&x, &y)
}

/// Sums a list.
#[celery::task(name = "t.integration.tasks.tsum")]
pub(super) async fn tsum(nums: Vec<Value>) -> TaskResult<Value> {
    returned(python_value::sum(&nums))
}

/// Sums a list in which lists count with their sums.
#[celery::task(name = "t.integration.tasks.xsum")]
pub(super) async fn xsum(nums: Vec<Value>) -> TaskResult<Value> {
    let sums = nums.iter().map(|value| match value {
        Value::Array(values) => python_value::sum(values),
        value => Ok(value.clone()),
    });
    returned(sums.collect::<Result<Vec<_>, _>>().and_then(|sums| python_value::sum(&sums)))
}

/// The parameter of [`add_pydantic`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Summands {
    x: i64,
    y: i64,
}

/// The result of [`add_pydantic`].
#[derive(Debug, Serialize)]
pub(super) struct Sum {
    result: i64,
}

/// Adds the members of a model.
#[celery::task(name = "t.integration.tasks.add_pydantic")]
pub(super) async fn add_pydantic(data: Summands) -> TaskResult<Sum> {
    Ok(Sum { result: data.x + data.y })
}

/// As [`add_pydantic`].
#[celery::task(name = "t.integration.tasks.add_pydantic_string_annotations")]
pub(super) async fn add_pydantic_string_annotations(data: Summands) -> TaskResult<Sum> {
    Ok(Sum { result: data.x + data.y })
}

fn added(left: &Value, right: &Value) -> TaskResult<Value> {
    returned(python_value::add(left, right))
}

/// What a task returns or, in the running task's context, raises.
pub(super) fn returned<T>(result: Result<T, Exception>) -> TaskResult<T> {
    result.map_err(|exception| TaskContext::current().fail(exception))
}
