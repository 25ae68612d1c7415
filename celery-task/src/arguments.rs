//! Binding a call's arguments to a task's parameters, as Python binds them.

use celery_redis::wire::exception::Exception;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Builds `P` from positional and keyword arguments.
///
/// Too many, unknown, doubled or missing arguments are the `TypeError` that Python would raise;
/// an argument of a type that the task does not take is one too.
pub(crate) fn bind<P: DeserializeOwned>(
    task: &str,
    names: &[&str],
    args: Vec<Value>,
    kwargs: Map<String, Value>,
) -> Result<P, Exception> {
    let function = task.rsplit('.').next().unwrap_or(task);
    let names: Vec<&str> = names.iter().map(|name| name.trim_start_matches("r#")).collect();
    if args.len() > names.len() {
        return Err(too_many(function, names.len(), args.len()));
    }
    let mut bound = Map::with_capacity(names.len());
    for (name, value) in names.iter().zip(args) {
        bound.insert((*name).to_owned(), value);
    }
    for (name, value) in kwargs {
        if !names.contains(&name.as_str()) {
            let message = format!("{function}() got an unexpected keyword argument '{name}'");
            return Err(Exception::builtin("TypeError", message));
        }
        if bound.contains_key(&name) {
            let message = format!("{function}() got multiple values for argument '{name}'");
            return Err(Exception::builtin("TypeError", message));
        }
        bound.insert(name, value);
    }
    let given: Vec<String> = bound.keys().cloned().collect();
    serde_json::from_value(Value::Object(bound)).map_err(|error| {
        let error = error.to_string();
        let missing: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| {
                !given.iter().any(|given| given == name) && error.contains(&format!("`{name}`"))
            })
            .collect();
        match missing.as_slice() {
            [name] => Exception::builtin(
                "TypeError",
                format!("{function}() missing 1 required positional argument: '{name}'"),
            ),
            _ => Exception::builtin(
                "TypeError",
                format!("{function}() got an argument of the wrong type: {error}"),
            ),
        }
    })
}

fn too_many(function: &str, takes: usize, given: usize) -> Exception {
    let plural = if takes == 1 { "" } else { "s" };
    let were = if given == 1 { "was" } else { "were" };
    Exception::builtin(
        "TypeError",
        format!("{function}() takes {takes} positional argument{plural} but {given} {were} given"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Params {
        x: i64,
        y: i64,
        force: Option<bool>,
    }

    fn call(args: Value, kwargs: Value) -> Result<Params, String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else { unreachable!() };
        bind("t.add", &["x", "y", "r#force"], args, kwargs).map_err(|error| error.traceback_line())
    }

    #[test]
    fn arguments_are_bound_as_in_python() {
        let expected = Params { x: 1, y: 2, force: None };
        assert_eq!(call(json!([1, 2]), json!({})), Ok(expected));
        let expected = Params { x: 1, y: 2, force: Some(true) };
        assert_eq!(call(json!([1]), json!({"force": true, "y": 2})), Ok(expected));
    }

    #[test]
    fn a_wrong_call_is_the_type_error_that_python_raises() {
        for (args, kwargs, message) in [
            (json!([1]), json!({}), "TypeError: add() missing 1 required positional argument: 'y'"),
            (
                json!([1, 2, true, 4]),
                json!({}),
                "TypeError: add() takes 3 positional arguments but 4 were given",
            ),
            (
                json!([1, 2]),
                json!({"z": 1}),
                "TypeError: add() got an unexpected keyword argument 'z'",
            ),
            (
                json!([1, 2]),
                json!({"y": 1}),
                "TypeError: add() got multiple values for argument 'y'",
            ),
        ] {
            assert_eq!(call(args, kwargs), Err(message.to_owned()));
        }
        let error = call(json!(["one", 2]), json!({})).unwrap_err();
        assert!(error.starts_with("TypeError: add() got an argument of the wrong type"), "{error}");
    }
}
