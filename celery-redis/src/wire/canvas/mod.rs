//! Work-flows of several tasks (`celery.canvas`): chains, groups, chords and what they are made of.
//!
//! A [`Canvas`] is what Celery calls a signature of any kind. [`Dispatch`] turns one into the
//! messages and records that start it; nothing here talks to Redis.

mod compose;
mod dispatch;
mod freeze;
mod json;
mod replace;
mod results;
mod steps;

use serde_json::{Map, Value};

pub use dispatch::{Directory, Dispatch, Plan, Step};
pub use replace::{Origin, Replacement};
pub use results::{ResultId, Results};

use super::exception::Exception;
use super::signature::{Options, Signature, SignatureError};

/// One task, or several with an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Canvas {
    /// One task.
    Task(Signature),
    /// One after the other, each with the result of the one before.
    Chain(Chain),
    /// Side by side.
    Group(Group),
    /// A group, and what is called with all its results.
    Chord(Chord),
}

/// Tasks one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chain {
    /// In the order in which they run.
    pub tasks: Vec<Canvas>,
    /// How it is sent, and what follows.
    pub options: Options,
}

/// Tasks side by side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Its members.
    pub tasks: Vec<Canvas>,
    /// How they are sent.
    pub options: Options,
}

/// A group, and what is called with all its results.
#[derive(Debug, Clone, PartialEq)]
pub struct Chord {
    /// Whose results are waited for.
    pub header: Group,
    /// What is called with them.
    pub body: Option<Box<Canvas>>,
    /// Partial arguments for the header.
    pub args: Vec<Value>,
    /// What Celery keeps beside header and body.
    pub kwargs: Map<String, Value>,
    /// How it is sent, and what follows.
    pub options: Options,
    /// Whether the header takes no result of what ran before.
    pub immutable: bool,
}

/// Why a canvas cannot be read or sent.
#[derive(Debug, thiserror::Error)]
pub enum CanvasError {
    /// It is not a signature.
    #[error("{0} is no signature: an object with a task, args, kwargs and options is")]
    NoSignature(String),
    /// A part of it has the wrong type.
    #[error("{part} of the signature {task:?} must be {expected}")]
    Part {
        /// The task's name.
        task: String,
        /// Which part.
        part: &'static str,
        /// What is right there.
        expected: &'static str,
    },
    /// A message of it cannot be made.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// What Celery refuses as well.
    #[error("{0}")]
    Refused(&'static str),
}

impl CanvasError {
    /// What the caller of the task that was to send it gets to see.
    pub fn exception(&self) -> Exception {
        let exc_type = match self {
            Self::Refused(_) => "ImproperlyConfigured",
            _ => "InvalidTaskError",
        };
        Exception::celery(exc_type, self.to_string())
    }
}

impl Canvas {
    /// How it is sent, and what follows.
    pub fn options(&self) -> &Options {
        match self {
            Self::Task(task) => &task.options,
            Self::Chain(chain) => &chain.options,
            Self::Group(group) => &group.options,
            Self::Chord(chord) => &chord.options,
        }
    }

    /// How it is sent, and what follows.
    pub fn options_mut(&mut self) -> &mut Options {
        match self {
            Self::Task(task) => &mut task.options,
            Self::Chain(chain) => &mut chain.options,
            Self::Group(group) => &mut group.options,
            Self::Chord(chord) => &mut chord.options,
        }
    }

    /// Sets an option.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options_mut().insert(name.to_owned(), value.into());
        self
    }

    /// The id that its result has, where it has been given one.
    pub fn id(&self) -> Option<&str> {
        self.options().get("task_id").and_then(Value::as_str)
    }
}

impl From<Signature> for Canvas {
    fn from(signature: Signature) -> Self {
        Self::Task(signature)
    }
}

/// An option that is there and not null.
fn given<'a>(options: &'a Options, name: &str) -> Option<&'a Value> {
    options.get(name).filter(|value| !value.is_null())
}

/// An option that is there and a text that is not empty.
fn text<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    options.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The elements of an option that is one value or a list of values (Celery's `maybe_list`).
fn elements(options: &Options, name: &str) -> Vec<Value> {
    match given(options, name) {
        None => Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
    }
}

/// Appends to an option that is a list, unless it is there already.
fn append(options: &mut Options, name: &str, value: Value) {
    let mut values = elements(options, name);
    if !values.contains(&value) {
        values.push(value);
    }
    options.insert(name.to_owned(), Value::Array(values));
}

/// `given` over what a signature has, but for what it keeps once it has it
/// (`Signature._merge`, `_IMMUTABLE_OPTIONS`).
fn merge_options(own: &mut Options, given: &Options) {
    let kept: Vec<Value> = elements(own, "stamped_headers");
    for (name, value) in given {
        let keeps = name == "group_id"
            || name == "stamped_headers"
            || kept.iter().any(|stamp| stamp == name);
        if !(keeps && own.contains_key(name)) {
            own.insert(name.clone(), value.clone());
        }
    }
}
