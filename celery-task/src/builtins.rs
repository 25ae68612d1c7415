//! The tasks that every Celery worker has (`celery.app.builtins`).
//!
//! `celery.chord_unlock` is not among them: with Redis nobody sends it.

use std::collections::BTreeMap;
use std::sync::Arc;

use celery::error::TaskError;
use celery_redis::wire::exception::Exception;
use celery_redis::{Canvas, Signature};
use serde_json::{Value, json};

use crate::app::TaskApp;
use crate::context::{Call, States, TaskContext};
use crate::failure::Ended;
use crate::options::TaskOptions;
use crate::registry::{Registry, TaskDefinition};

impl Registry {
    /// Knows Celery's built-in tasks. The maps know the tasks that are registered before.
    pub fn register_builtins(&mut self) -> &mut Self {
        self.register_function(
            "celery.accumulate",
            &[],
            options(),
            |call, context, _| async move { accumulate(&call, &context) },
        );
        let tasks: BTreeMap<&str, TaskDefinition> =
            self.tasks().map(|task| (task.name, task.clone())).collect();
        let known = Arc::new((tasks, Arc::clone(self.states())));
        let (for_map, for_starmap) = (Arc::clone(&known), known);
        self.register_function(
            "celery.map",
            &["task", "it"],
            options(),
            move |call, context, app| {
                map(Arc::clone(&for_map), call, context, app, |item| vec![item])
            },
        )
        .register_function(
            "celery.starmap",
            &["task", "it"],
            options(),
            move |call, context, app| {
                map(Arc::clone(&for_starmap), call, context, app, |item| match item {
                    Value::Array(args) => args,
                    one => vec![one],
                })
            },
        )
        .register_function("celery.chunks", &["task", "it", "n"], options(), chunks)
        .register_function(
            "celery.group",
            &["tasks", "result", "group_id", "partial_args"],
            options(),
            group,
        )
        .register_function("celery.chord", &["header", "body"], options(), chord)
        .register_function("celery.backend_cleanup", &[], options(), |_, _, _| async {
            // Redis lets results expire by itself.
            Ok(Value::Null)
        })
    }
}

fn options() -> TaskOptions {
    TaskOptions::default()
}

/// All of its arguments, or the one at `index`.
fn accumulate(call: &Call, context: &TaskContext) -> Result<Value, TaskError> {
    match call.kwargs.get("index").filter(|index| !index.is_null()) {
        None => Ok(Value::Array(call.args.clone())),
        Some(index) => {
            let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| call.args.get(index).cloned()).ok_or_else(|| {
                context.fail(Exception::builtin("IndexError", "tuple index out of range"))
            })
        }
    }
}

/// Calls a task with each item, one after the other and without messages.
async fn map(
    known: Arc<(BTreeMap<&'static str, TaskDefinition>, Arc<States>)>,
    call: Call,
    context: TaskContext,
    app: TaskApp,
    args: impl Fn(Value) -> Vec<Value> + Send,
) -> Result<Value, TaskError> {
    let name = argument(&call, "task", 0).get("task").and_then(Value::as_str).unwrap_or_default();
    let Some(task) = known.0.get(name) else {
        return Err(context.fail(Exception::celery("NotRegistered", name)));
    };
    let mut results = Vec::new();
    for item in items(&call, &context)? {
        let started = task.start(
            Call {
                task: name.into(),
                args: args(item),
                kwargs: serde_json::Map::new(),
                ..call.clone()
            },
            &known.1,
            &app,
        );
        match started.ended.await {
            Ended::Returned(value) => {
                results.push(serde_json::from_str(value.get()).unwrap_or_default());
            }
            Ended::Raised { exception, .. } => return Err(context.fail(exception)),
            Ended::Retries(retry) => {
                let default = || Exception::celery("Retry", "Task can be retried");
                return Err(context.fail(retry.error.unwrap_or_else(default)));
            }
            Ended::Ignored => return Err(context.ignore()),
            Ended::Rejected { reason, requeue: false } => return Err(context.reject(reason)),
            Ended::Rejected { reason, requeue: true } => return Err(context.requeue(reason)),
            Ended::Replaced(canvas) => return Err(context.replace(*canvas)),
        }
    }
    Ok(Value::Array(results))
}

async fn chunks(call: Call, context: TaskContext, _: TaskApp) -> Result<Value, TaskError> {
    let signature = Signature {
        subtask_type: Some("chunks".to_owned()),
        ..Signature::new("celery.chunks")
            .kwarg("task", argument(&call, "task", 0).clone())
            .kwarg("it", argument(&call, "it", 1).clone())
            .kwarg("n", argument(&call, "n", 2).clone())
    };
    send(&context, Canvas::Task(signature)).await
}

/// No longer sent by Celery itself.
async fn group(call: Call, context: TaskContext, _: TaskApp) -> Result<Value, TaskError> {
    let signature = json!({
        "task": "celery.group",
        "kwargs": {"tasks": argument(&call, "tasks", 0)},
        "options": {"task_id": argument(&call, "group_id", 2)},
        "subtask_type": "group",
    });
    let canvas = read(&context, &signature)?;
    send(&context, canvas).await
}

/// No longer sent by Celery itself.
async fn chord(call: Call, context: TaskContext, _: TaskApp) -> Result<Value, TaskError> {
    let signature = json!({
        "task": "celery.chord",
        "args": argument(&call, "partial_args", 2),
        "kwargs": {"header": argument(&call, "header", 0), "body": argument(&call, "body", 1)},
        "subtask_type": "chord",
    });
    let canvas = read(&context, &signature)?;
    send(&context, canvas).await
}

async fn send(context: &TaskContext, canvas: Canvas) -> Result<Value, TaskError> {
    match context.send(canvas).await {
        Ok(result) => Ok(result.as_tuple().clone()),
        Err(error) => Err(context.fail(Exception::builtin("RuntimeError", error.to_string()))),
    }
}

fn read(context: &TaskContext, signature: &Value) -> Result<Canvas, TaskError> {
    Canvas::from_json(signature).map_err(|error| context.fail(error.exception()))
}

fn argument<'a>(call: &'a Call, name: &str, position: usize) -> &'a Value {
    call.kwargs.get(name).or_else(|| call.args.get(position)).unwrap_or(&Value::Null)
}

fn items(call: &Call, context: &TaskContext) -> Result<Vec<Value>, TaskError> {
    match argument(call, "it", 1) {
        Value::Array(items) => Ok(items.clone()),
        _ => Err(context.fail(Exception::builtin("TypeError", "it must be a list"))),
    }
}
