//! Tasks that build chains, groups and chords, send or return them.

use celery::task::TaskResult;
use celery_redis::wire::canvas::{Chain, Group};
use celery_redis::{Canvas, Signature};
use celery_task::{Exception, TaskContext};
use serde_json::Value;

/// Sends a chain.
#[celery::task(name = "t.integration.tasks.chain_add")]
pub(super) async fn chain_add(x: Value, y: Value) -> TaskResult<()> {
    let first = signature("add").arg(x.clone()).arg(x);
    send(Canvas::chain([first, signature("add").arg(y)])).await.map(|_| ())
}

/// Sends a chord.
#[celery::task(name = "t.integration.tasks.chord_add")]
pub(super) async fn chord_add(x: Value, y: Value) -> TaskResult<()> {
    let header = [signature("add").arg(x.clone()).arg(x)];
    send(Canvas::chord(header, signature("add").arg(y))).await.map(|_| ())
}

/// Sends a chain; returns its result as Celery writes one.
#[celery::task(name = "t.integration.tasks.build_chain_inside_task")]
pub(super) async fn build_chain_inside_task() -> TaskResult<Value> {
    let add = |number: i64| signature("add").arg(number);
    let chain =
        Canvas::from(add(1).arg(1)).then(add(2)).then(Canvas::group([add(3), add(4)])).then(add(5));
    send(chain).await
}

/// Fails where its argument is no signature through and through.
#[celery::task(name = "t.integration.tasks.rebuild_signature")]
pub(super) async fn rebuild_signature(sig_dict: Value) -> TaskResult<()> {
    match Canvas::from_json(&sig_dict) {
        Ok(_) => Ok(()),
        Err(error) => {
            let exception = Exception::builtin("TypeError", error.to_string());
            Err(TaskContext::current().fail(exception))
        }
    }
}

type Wrap = fn(Canvas) -> Canvas;

/// Tasks that return a signature within a signature, which nobody runs.
pub(super) const NESTED: [(&str, Wrap, Wrap); 9] = [
    ("t.integration.tasks.return_nested_signature_chain_chain", chain, chain),
    ("t.integration.tasks.return_nested_signature_chain_group", chain, group),
    ("t.integration.tasks.return_nested_signature_chain_chord", chain, chord),
    ("t.integration.tasks.return_nested_signature_group_chain", group, chain),
    ("t.integration.tasks.return_nested_signature_group_group", group, group),
    ("t.integration.tasks.return_nested_signature_group_chord", group, chord),
    ("t.integration.tasks.return_nested_signature_chord_chain", chord, chain),
    ("t.integration.tasks.return_nested_signature_chord_group", chord, group),
    ("t.integration.tasks.return_nested_signature_chord_chord", chord, chord),
];

/// A call of `add` in `inner` in `outer`, as JSON.
pub(super) fn nested(outer: Wrap, inner: Wrap) -> Value {
    outer(inner(signature("add").into())).to_json()
}

/// A call of one of the suite's tasks.
pub(super) fn signature(task: &str) -> Signature {
    Signature::new(format!("{}.{task}", super::MODULE))
}

fn chain(of: Canvas) -> Canvas {
    Canvas::Chain(Chain { tasks: vec![of], ..Chain::default() })
}

fn group(of: Canvas) -> Canvas {
    Canvas::Group(Group { tasks: vec![of], ..Group::default() })
}

fn chord(of: Canvas) -> Canvas {
    Canvas::chord([of], signature("add"))
}

/// Sends it as a child of the running task; its result as Celery writes one.
async fn send(canvas: Canvas) -> TaskResult<Value> {
    let context = TaskContext::current();
    let sent = context.send(canvas).await;
    sent.map(|result| result.as_tuple().clone())
        .map_err(|error| context.fail(Exception::builtin("ConnectionError", error.to_string())))
}
