//! Tasks that do not take their message.

use celery::task::TaskResult;
use celery_task::TaskContext;

/// Gives its message back once.
#[celery::task(name = "t.integration.tasks.reject_then_succeed")]
pub(super) async fn reject_then_succeed() -> TaskResult<String> {
    let context = TaskContext::current();
    if context.call().redelivered {
        Ok("second-pass".to_owned())
    } else {
        Err(context.requeue("not at the first time"))
    }
}

/// Refuses its message.
#[celery::task(name = "t.integration.tasks.reject_without_requeue")]
pub(super) async fn reject_without_requeue() -> TaskResult<()> {
    Err(TaskContext::current().reject("rejected"))
}
