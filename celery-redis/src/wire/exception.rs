//! An exception as it is stored in a result, so that Python raises its own class from it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::python_repr;

/// What Python's `.get()` raises (`celery.backends.base`, `exception_to_python`).
///
/// The class is looked up as `exc_module.exc_type` among the modules that the caller has
/// imported; where it is not found, Celery makes a class of that name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// Name of the class, such as `ValueError`.
    pub exc_type: String,
    /// The exception's arguments, `args` in Python.
    pub exc_message: Vec<Value>,
    /// Module of the class, such as `builtins`.
    pub exc_module: String,
}

impl Exception {
    /// An exception of `exc_module.exc_type` with the given arguments.
    pub fn new(exc_type: &str, exc_module: &str, args: Vec<Value>) -> Self {
        Self { exc_type: exc_type.to_owned(), exc_message: args, exc_module: exc_module.to_owned() }
    }

    /// One of Python's built-in exceptions with a message.
    pub fn builtin(exc_type: &str, message: impl Into<String>) -> Self {
        Self::new(exc_type, "builtins", vec![Value::String(message.into())])
    }

    /// One of `celery.exceptions` with a message.
    pub fn celery(exc_type: &str, message: impl Into<String>) -> Self {
        Self::new(exc_type, "celery.exceptions", vec![Value::String(message.into())])
    }

    /// As Python's `repr` shows it: `ValueError('boom', 42)`.
    pub fn repr(&self) -> String {
        let args: Vec<String> = self.exc_message.iter().map(python_repr::value).collect();
        format!("{}({})", self.exc_type, args.join(", "))
    }

    /// The traceback of an exception that names no lines.
    pub fn traceback(&self) -> String {
        format!("Traceback (most recent call last):\n{}\n", self.traceback_line())
    }

    /// The last line of a Python traceback: `ValueError: boom`.
    pub fn traceback_line(&self) -> String {
        let class = match self.exc_module.as_str() {
            "builtins" => self.exc_type.clone(),
            module => format!("{module}.{}", self.exc_type),
        };
        match self.exc_message.as_slice() {
            [] => class,
            [Value::String(message)] => format!("{class}: {message}"),
            [value] => format!("{class}: {}", python_repr::value(value)),
            values => format!("{class}: {}", python_repr::args(values)),
        }
    }
}
