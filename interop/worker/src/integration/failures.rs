//! Tasks that fail, and those that are told of it.

use celery::error::TaskError;
use celery::task::TaskResult;
use celery_task::{Call, Exception, TaskApp, TaskContext};
use serde_json::Value;

use super::redis_keys::{count, push};

/// Raises `ValueError`.
pub(super) async fn raise_error(
    _: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    Err(context.fail(Exception::builtin("ValueError", "deliberate error")))
}

/// Raises the suite's own exception with its arguments.
pub(super) async fn fail(call: Call, context: TaskContext, _: TaskApp) -> Result<Value, TaskError> {
    let mut args = vec![Value::from("Task expected to fail")];
    args.extend(call.args);
    Err(context.fail(expected(args)))
}

/// Raises an exception whose class Python cannot make again from its arguments.
#[celery::task(name = "t.integration.tasks.fail_unpickleable")]
pub(super) async fn fail_unpickleable(foo: Value, bar: Value) -> TaskResult<()> {
    drop(bar);
    Err(TaskContext::current().fail(unpickleable(foo)))
}

/// Returns the exception that it is given, and that it was given one.
#[celery::task(name = "t.integration.tasks.return_exception")]
pub(super) async fn return_exception(e: Value) -> TaskResult<(Value, bool)> {
    Ok((e, true))
}

/// Counts the failures of a task.
#[celery::task(name = "t.integration.tasks.errback_old_style")]
pub(super) async fn errback_old_style(request_id: String) -> TaskResult<String> {
    count(&request_id).await?;
    Ok(request_id)
}

/// As [`errback_old_style`]. Its Python twin gets request, exception and traceback where it runs
/// in the process of the failing task; here errbacks are tasks and get the id.
#[celery::task(name = "t.integration.tasks.errback_new_style")]
pub(super) async fn errback_new_style(request: String) -> TaskResult<String> {
    count(&request).await?;
    Ok(request)
}

/// Appends a label to a list that is named by the failed task.
#[celery::task(name = "t.integration.tasks.errback_old_style_with_args")]
pub(super) async fn errback_old_style_with_args(
    request_id: String,
    label: String,
) -> TaskResult<()> {
    push(&request_id, &Value::from(label)).await
}

/// As [`errback_old_style_with_args`]; see [`errback_new_style`].
#[celery::task(name = "t.integration.tasks.errback_new_style_with_args")]
pub(super) async fn errback_new_style_with_args(request: String, label: String) -> TaskResult<()> {
    push(&request, &Value::from(label)).await
}

/// `t.integration.tasks.ExpectedException`.
pub(super) fn expected(args: Vec<Value>) -> Exception {
    Exception::new("ExpectedException", super::MODULE, args)
}

/// `t.integration.tasks.UnpickleableException`, which keeps only the first of its two arguments.
pub(super) fn unpickleable(foo: Value) -> Exception {
    Exception::new("UnpickleableException", super::MODULE, vec![foo])
}
