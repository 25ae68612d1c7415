//! Tasks that put something else in their place, or add to the chord that they are part of.

use celery::error::TaskError;
use celery::task::TaskResult;
use celery_redis::{Canvas, Signature};
use celery_task::{Call, Exception, TaskApp, TaskContext};
use serde_json::{Value, json};

use super::canvases::signature;
use super::redis_keys::push;

/// Adds by way of `add`.
#[celery::task(name = "t.integration.tasks.add_replaced")]
pub(super) async fn add_replaced(x: Value, y: Value) -> TaskResult<Value> {
    Err(TaskContext::current().replace(add(x, y)))
}

/// Adds by way of a chain.
#[celery::task(name = "t.integration.tasks.add_replaced_with_chain")]
pub(super) async fn add_replaced_with_chain(x: Value, y: Value) -> TaskResult<Value> {
    let chain = Canvas::chain([add(x, y), signature("identity")]);
    Err(TaskContext::current().replace(chain))
}

/// Records at each replacement how deep it is.
#[celery::task(name = "t.integration.tasks.record_replaced_task_nesting")]
pub(super) async fn record_replaced_task_nesting(
    replacements: u32,
    nesting: Option<Vec<u64>>,
) -> TaskResult<Vec<u64>> {
    let context = TaskContext::current();
    let mut nesting = nesting.unwrap_or_default();
    nesting.push(context.call().replaced_task_nesting);
    match replacements.checked_sub(1) {
        None => Ok(nesting),
        Some(left) => {
            let next = signature("record_replaced_task_nesting").arg(left).arg(nesting);
            Err(context.replace(next))
        }
    }
}

/// Puts a chain in its place that passes its arguments on, with a callback that echoes
/// `link_msg`, or the result.
pub(super) async fn replace_with_chain(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    let mut chain = Canvas::chain([identity(&call), signature("identity")]);
    chain.link(echo(&call).to_json());
    Err(context.replace(chain))
}

/// Puts a chain in its place whose second task fails, with an errback that echoes `link_msg`.
pub(super) async fn replace_with_chain_which_raises(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    let mut chain = Canvas::chain([identity(&call), signature("raise_error")]);
    chain.link_error(&echo(&call).to_json());
    Err(context.replace(chain))
}

/// Puts nothing in its place.
pub(super) async fn replace_with_empty_chain(
    _: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    Err(context.replace(Canvas::chain(Vec::<Canvas>::new())))
}

/// Puts a chain in its place that ends in a group.
#[celery::task(name = "t.integration.tasks.replace_with_chain_which_contains_a_group")]
pub(super) async fn replace_with_chain_which_contains_a_group() -> TaskResult<Value> {
    let one_more = || signature("add").arg(1);
    let group = Canvas::group([one_more(), one_more()]);
    let chain = Canvas::chain([add(1.into(), 2.into()).into(), group]);
    Err(TaskContext::current().replace(chain))
}

/// Puts a failing task in its place.
pub(super) async fn fail_replaced(
    call: Call,
    context: TaskContext,
    _: TaskApp,
) -> Result<Value, TaskError> {
    let fail = Signature { args: call.args, ..signature("fail").immutable() };
    Err(context.replace(fail))
}

/// Adds a value to each number, as a group.
#[celery::task(name = "t.integration.tasks.add_to_all")]
pub(super) async fn add_to_all(nums: Vec<Value>, val: Value) -> TaskResult<Value> {
    Err(TaskContext::current().replace(sums(nums, &val)))
}

/// Adds sums to the chord that it is part of.
#[celery::task(name = "t.integration.tasks.add_to_all_to_chord")]
pub(super) async fn add_to_all_to_chord(nums: Vec<Value>, val: Value) -> TaskResult<u32> {
    for num in nums {
        add_to_chord(add(num, val.clone()).into()).await?;
    }
    Ok(0)
}

/// Adds a chord to the chord that it is part of.
#[celery::task(name = "t.integration.tasks.add_chord_to_chord")]
pub(super) async fn add_chord_to_chord(nums: Vec<Value>, val: Value) -> TaskResult<u32> {
    add_to_chord(sums(nums, &val).then(signature("tsum"))).await?;
    Ok(0)
}

/// Puts a chain in its place that comes back to it; leaves a trace before and after.
#[celery::task(name = "t.integration.tasks.second_order_replace1")]
pub(super) async fn second_order_replace1(state: Option<bool>) -> TaskResult<()> {
    if state.unwrap_or(false) {
        return push("redis-echo", &json!("Out A")).await;
    }
    push("redis-echo", &json!("In A")).await?;
    let again = signature("second_order_replace1").kwarg("state", true).immutable();
    let chain = Canvas::chain([signature("second_order_replace2"), again]);
    Err(TaskContext::current().replace(chain))
}

/// As [`second_order_replace1`], one step further in.
#[celery::task(name = "t.integration.tasks.second_order_replace2")]
pub(super) async fn second_order_replace2(state: Option<bool>) -> TaskResult<()> {
    if state.unwrap_or(false) {
        return push("redis-echo", &json!("Out B")).await;
    }
    push("redis-echo", &json!("In B")).await?;
    let again = signature("second_order_replace2").kwarg("state", true).immutable();
    let chain = Canvas::chain([signature("redis_echo").arg("In/Out C"), again]);
    Err(TaskContext::current().replace(chain))
}

/// Puts a task in its place that carries a stamp of its own.
#[celery::task(name = "t.integration.tasks.replace_with_stamped_task")]
pub(super) async fn replace_with_stamped_task(replace_with: Option<Value>) -> TaskResult<()> {
    let context = TaskContext::current();
    let replacement = match replace_with {
        None => signature("replaced_with_me").into(),
        Some(json) => Canvas::from_json(&json)
            .map_err(|error| context.fail(Exception::builtin("TypeError", error.to_string())))?,
    };
    Err(context.replace(match replacement {
        Canvas::Task(task) => task.stamp("StampOnReplace", "This is the replaced task").into(),
        other => other,
    }))
}

/// What [`replace_with_stamped_task`] puts in its place.
#[celery::task(name = "t.integration.tasks.replaced_with_me")]
pub(super) async fn replaced_with_me() -> TaskResult<bool> {
    Ok(true)
}

async fn add_to_chord(canvas: Canvas) -> TaskResult<()> {
    let context = TaskContext::current();
    let added = context.add_to_chord(canvas).await;
    added
        .map(|_| ())
        .map_err(|error| context.fail(Exception::builtin("ValueError", error.to_string())))
}

fn sums(nums: Vec<Value>, val: &Value) -> Canvas {
    Canvas::group(nums.into_iter().map(|num| add(num, val.clone())))
}

fn add(x: Value, y: Value) -> Signature {
    signature("add").arg(x).arg(y)
}

fn identity(call: &Call) -> Signature {
    Signature { args: call.args.clone(), ..signature("identity") }
}

/// A callback that echoes what it is given, or the text that the call names.
fn echo(call: &Call) -> Canvas {
    match call.kwargs.get("link_msg").filter(|message| !message.is_null()) {
        None => signature("redis_echo").into(),
        Some(message) => signature("redis_echo").arg(message.clone()).immutable().into(),
    }
}
