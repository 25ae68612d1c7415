//! A command's arguments, refused in Python's words where they are wrong.

use celery_redis::wire::control::Request;
use celery_redis::wire::python_repr;
use serde_json::{Map, Value};

use super::Refusal;
use crate::revoked::maybe_list;

/// The arguments of one command; those that nobody knows are ignored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments<'a> {
    method: &'a str,
    values: &'a Map<String, Value>,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
        Self { method: &request.method, values: &request.arguments }
    }

    /// Refuses where one of `names` is not there, as a Python function does.
    pub(super) fn require(&self, names: &[&str]) -> Result<(), Refusal> {
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !self.values.contains_key(**name))
            .map(|name| format!("'{name}'"))
            .collect();
        let list = match missing.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            [one, other] => format!("{one} and {other}"),
            [most @ .., last] => format!("{}, and {last}", most.join(", ")),
        };
        let (count, plural) = (missing.len(), if missing.len() == 1 { "" } else { "s" });
        Err(Refusal::raised(
            "TypeError",
            &format!(
                "{}() missing {count} required positional argument{plural}: {list}",
                self.method
            ),
        ))
    }

    /// A value that is there and not null.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A text; a number counts as its text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.wrong(name, "a text", other)),
        }
    }

    /// One text or a list of them.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let values = maybe_list(self.value(name).cloned().unwrap_or_default());
        values
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => Err(self.wrong(name, "a text or a list of texts", &other)),
            })
            .collect()
    }

    /// A count.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let count = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        match count.and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(name, "a count", value)),
        }
    }

    /// Seconds, at least none.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(self.wrong(name, "a number of seconds", value)),
        }
    }

    /// Whether it is what Python takes for true.
    pub(super) fn is_set(&self, name: &str) -> bool {
        match self.value(name) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        }
    }

    /// An argument of the wrong kind.
    pub(super) fn wrong(&self, name: &str, expected: &str, value: &Value) -> Refusal {
        let value = python_repr::value(value);
        let message = format!("{}(): {name} must be {expected}, not {value}", self.method);
        Refusal::raised("ValueError", &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(values: &Value) -> Arguments<'_> {
        Arguments { method: "election", values: values.as_object().unwrap() }
    }

    #[test]
    fn what_is_missing_is_said_as_python_says_it() {
        let none = json!({});
        let text = |names: &[&str]| arguments(&none).require(names).unwrap_err().0;
        assert_eq!(
            text(&["id", "topic"]),
            "TypeError(\"election() missing 2 required positional arguments: 'id' and 'topic'\")"
        );
        assert_eq!(
            text(&["id"]),
            "TypeError(\"election() missing 1 required positional argument: 'id'\")"
        );
        assert!(
            text(&["a", "b", "c"]).contains("3 required positional arguments: 'a', 'b', and 'c'")
        );
        assert!(arguments(&json!({"id": null})).require(&["id"]).is_ok());
    }

    #[test]
    fn values_are_read_as_callers_write_them() {
        let values = json!({"n": 2, "m": "3", "bad": -1, "s": 1.5, "one": "a", "many": ["a", "b"]});
        let arguments = arguments(&values);
        assert_eq!(arguments.count("n"), Ok(Some(2)));
        assert_eq!(arguments.count("m"), Ok(Some(3)));
        assert_eq!(arguments.count("none"), Ok(None));
        assert!(arguments.count("bad").is_err());
        assert_eq!(arguments.seconds("s"), Ok(Some(1.5)));
        assert!(arguments.seconds("bad").is_err());
        assert_eq!(arguments.texts("one"), Ok(vec!["a".to_owned()]));
        assert_eq!(arguments.texts("many").unwrap().len(), 2);
        assert!(arguments.texts("n").is_err());
    }
}
