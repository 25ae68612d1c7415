//! Tasks that tell what they see of their own call.

use celery::task::TaskResult;
use celery_task::TaskContext;
use serde_json::Value;

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

fn own_ids(i: Value) -> Ids {
    let context = TaskContext::current();
    let call = context.call();
    (call.root_id.clone(), call.parent_id.clone(), i)
}
