//! Python's `repr` of JSON values, for `argsrepr`, `kwargsrepr` and event fields.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::python_json::float_repr;

/// Longest representation that travels in a header (`celery.app.amqp`, `argsrepr_maxsize`).
pub const MAX_CHARS: usize = 1024;

/// `repr` of positional arguments: a tuple.
pub fn args(values: &[Value]) -> String {
    let mut text = String::from("(");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write_value(&mut text, value);
    }
    if values.len() == 1 {
        text.push(',');
    }
    text.push(')');
    shorten(text)
}

/// `repr` of keyword arguments: a dict.
pub fn kwargs(values: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_dict(&mut text, values);
    shorten(text)
}

/// `repr` of one value.
pub fn value(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    shorten(text)
}

/// Celery's `saferepr` ends a cut representation with three dots.
fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        None => text,
        Some(_) => {
            let mut short: String = text.chars().take(MAX_CHARS - 3).collect();
            short.push_str("...");
            short
        }
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("None"),
        Value::Bool(true) => text.push_str("True"),
        Value::Bool(false) => text.push_str("False"),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => text.push_str(&float_repr(float)),
            _ => text.push_str(&number.to_string()),
        },
        Value::String(string) => write_str(text, string),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_value(text, value);
            }
            text.push(']');
        }
        Value::Object(map) => write_dict(text, map),
    }
}

fn write_dict(text: &mut String, map: &Map<String, Value>) {
    text.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write_str(text, key);
        text.push_str(": ");
        write_value(text, value);
    }
    text.push('}');
}

/// Single quotes, unless the text has a single quote and no double one (`unicode_repr` in CPython).
fn write_str(text: &mut String, string: &str) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in string.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == quote => {
                text.push('\\');
                text.push(c);
            }
            c if c.is_ascii_control() => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{:02x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_as_in_a_python_shell() {
        assert_eq!(args(&[json!(2), json!(3)]), "(2, 3)");
        assert_eq!(args(&[json!("it's")]), r#"("it's",)"#);
        assert_eq!(value(&json!([null, true, 1.0, "a\"b'c"])), r#"[None, True, 1.0, 'a"b\'c']"#);
        let map = json!({"name": "x", "n": null});
        assert_eq!(kwargs(map.as_object().unwrap()), "{'name': 'x', 'n': None}");
    }

    #[test]
    fn a_long_representation_is_cut() {
        let text = value(&json!("x".repeat(2000)));
        assert_eq!(text.chars().count(), MAX_CHARS);
        assert!(text.ends_with("..."));
    }
}
