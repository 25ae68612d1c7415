//! Tasks that tell what they see of their own call.

use celery::error::TaskError;
use celery::task::TaskResult;
use celery_redis::wire::isoformat;
use celery_task::{Call, TaskApp, TaskContext};
use serde_json::{Map, Value, json};

type Ids = (Option<String>, Option<String>, Value);

/// Root, parent and the argument.
#[celery::task(name = "t.integration.tasks.ids")]
pub(super) async fn ids(i: Value) -> TaskResult<Ids> {
    Ok(own_ids(i))
}

/// What the tasks before returned, and its own [`ids`].
#[celery::task(name = "t.integration.tasks.collect_ids")]
pub(super) async fn collect_ids(res: Value, i: Value) -> TaskResult<(Value, Ids)> {
    Ok((res, own_ids(i)))
}

/// `pong`, as `celery.contrib.testing.tasks.ping` does.
#[celery::task(name = "celery.ping")]
pub(super) async fn ping() -> TaskResult<String> {
    Ok("pong".to_owned())
}

/// Its priority, as a sentence. Takes any arguments.
pub(super) async fn return_priority(
    call: Call,
    _: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    Ok(format!("Priority: {}", call.priority).into())
}

/// When it was to run.
#[celery::task(name = "t.integration.tasks.return_request_eta")]
pub(super) async fn return_request_eta() -> TaskResult<Option<String>> {
    let context = TaskContext::current();
    Ok(context.call().eta.map(isoformat::format))
}

/// The message's properties.
#[celery::task(name = "t.integration.tasks.return_properties")]
pub(super) async fn return_properties() -> TaskResult<Map<String, Value>> {
    Ok(TaskContext::current().call().properties())
}

/// Its time limits.
#[celery::task(name = "t.integration.tasks.return_request_time_limits")]
pub(super) async fn return_request_time_limits() -> TaskResult<Value> {
    Ok(own_time_limits())
}

/// Its time limits, of which it was registered with some.
#[celery::task(name = "t.integration.tasks.task_with_declared_time_limits")]
pub(super) async fn task_with_declared_time_limits() -> TaskResult<Value> {
    Ok(own_time_limits())
}

/// Does nothing; its soft time limit is above the hard one, which Python refuses to send.
#[celery::task(name = "t.integration.tasks.soft_time_limit_must_exceed_time_limit")]
pub(super) async fn soft_time_limit_must_exceed_time_limit() -> TaskResult<()> {
    Ok(())
}

fn own_time_limits() -> Value {
    let context = TaskContext::current();
    let call = context.call();
    json!({"time_limit": call.time_limit, "soft_time_limit": call.soft_time_limit})
}

fn own_ids(i: Value) -> Ids {
    let context = TaskContext::current();
    let call = context.call();
    (call.root_id.as_deref().map(str::to_owned), call.parent_id.as_deref().map(str::to_owned), i)
}
