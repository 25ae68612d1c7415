//! A canvas as the JSON that Celery passes around.

use serde_json::{Map, Value, json};

use super::{Canvas, CanvasError, Chain, Chord, Group};
use crate::wire::signature::{Options, Signature};

impl Canvas {
    /// Reads a signature of any kind.
    pub fn from_json(value: &Value) -> Result<Self, CanvasError> {
        let fields = value.as_object().ok_or_else(|| no_signature(value))?;
        let task = fields.get("task").and_then(Value::as_str).ok_or_else(|| no_signature(value))?;
        let part = |part, expected| CanvasError::Part { task: task.to_owned(), part, expected };
        let kwargs = object(fields, "kwargs").ok_or_else(|| part("kwargs", "a mapping"))?;
        let options = object(fields, "options").ok_or_else(|| part("options", "a mapping"))?;
        let kind = fields.get("subtask_type").and_then(Value::as_str);
        match kind {
            Some("chain" | "group") => {
                let tasks = kwargs
                    .get("tasks")
                    .and_then(Value::as_array)
                    .ok_or_else(|| part("kwargs.tasks", "a list of signatures"))?;
                let tasks = list(tasks)?;
                Ok(match kind {
                    Some("chain") => Self::Chain(Chain { tasks, options }),
                    _ => Self::Group(Group { tasks, options }),
                })
            }
            Some("chord") => {
                let mut kwargs = kwargs;
                let body = match kwargs.shift_remove("body") {
                    None | Some(Value::Null) => None,
                    Some(body) => Some(Box::new(Self::from_json(&body)?)),
                };
                let header = match kwargs.shift_remove("header") {
                    Some(Value::Array(tasks)) => {
                        Group { tasks: list(&tasks)?, options: Options::new() }
                    }
                    Some(header @ Value::Object(_)) => match Self::from_json(&header)? {
                        Self::Group(group) => Group { tasks: group.tasks, ..Group::default() },
                        Self::Chain(chain) => Group { tasks: chain.tasks, ..Group::default() },
                        one => Group { tasks: vec![one], ..Group::default() },
                    },
                    _ => return Err(part("kwargs.header", "a list of signatures")),
                };
                let args = array(fields, "args").ok_or_else(|| part("args", "a list"))?;
                let immutable = immutable(fields);
                Ok(Self::Chord(Chord { header, body, args, kwargs, options, immutable }))
            }
            _ => {
                let args = array(fields, "args").ok_or_else(|| part("args", "a list"))?;
                // Maps take no result of what ran before (`celery.canvas._basemap`).
                let maps = matches!(kind, Some("xmap" | "xstarmap" | "chunks"));
                Ok(Self::Task(Signature {
                    task: task.to_owned(),
                    args,
                    kwargs,
                    options,
                    subtask_type: kind.map(ToOwned::to_owned),
                    immutable: immutable(fields) || maps,
                }))
            }
        }
    }

    /// Writes it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Task(task) => json!(task),
            Self::Chain(chain) => {
                let kwargs = json!({"tasks": all(&chain.tasks)});
                signature("celery.chain", &[], &kwargs, &chain.options, "chain", false)
            }
            Self::Group(group) => {
                let kwargs = json!({"tasks": all(&group.tasks)});
                signature("celery.group", &[], &kwargs, &group.options, "group", false)
            }
            Self::Chord(chord) => {
                let mut kwargs = chord.kwargs.clone();
                kwargs.entry("kwargs").or_insert_with(|| json!({}));
                // A header that was given its ids is a group, as in Celery.
                let header = match chord.header.options.is_empty() {
                    true => Value::Array(all(&chord.header.tasks)),
                    false => Self::Group(chord.header.clone()).to_json(),
                };
                kwargs.insert("header".to_owned(), header);
                let body = chord.body.as_ref().map(|body| body.to_json());
                kwargs.insert("body".to_owned(), body.into());
                let kwargs = Value::Object(kwargs);
                let (args, options) = (&chord.args, &chord.options);
                signature("celery.chord", args, &kwargs, options, "chord", chord.immutable)
            }
        }
    }
}

pub(super) fn list(values: &[Value]) -> Result<Vec<Canvas>, CanvasError> {
    values.iter().map(Canvas::from_json).collect()
}

fn all(tasks: &[Canvas]) -> Vec<Value> {
    tasks.iter().map(Canvas::to_json).collect()
}

fn signature(
    task: &str,
    args: &[Value],
    kwargs: &Value,
    options: &Options,
    subtask_type: &str,
    immutable: bool,
) -> Value {
    json!({
        "task": task,
        "args": args,
        "kwargs": kwargs,
        "options": options,
        "subtask_type": subtask_type,
        "immutable": immutable,
    })
}

fn no_signature(value: &Value) -> CanvasError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object without a task",
    };
    CanvasError::NoSignature(kind.to_owned())
}

/// Absent and null are empty.
fn object(fields: &Map<String, Value>, name: &str) -> Option<Map<String, Value>> {
    match fields.get(name) {
        None | Some(Value::Null) => Some(Map::new()),
        Some(Value::Object(object)) => Some(object.clone()),
        Some(_) => None,
    }
}

fn array(fields: &Map<String, Value>, name: &str) -> Option<Vec<Value>> {
    match fields.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(values)) => Some(values.clone()),
        Some(_) => None,
    }
}

fn immutable(fields: &Map<String, Value>) -> bool {
    fields.get("immutable").and_then(Value::as_bool).unwrap_or(false)
}
