//! What Python's `+` and `sum` make of arguments that are numbers, texts or lists.

use celery_task::Exception;
use serde_json::{Number, Value};

/// `left + right`.
pub(super) fn add(left: &Value, right: &Value) -> Result<Value, Exception> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(Value::String(format!("{left}{right}"))),
        (Value::Array(left), Value::Array(right)) => {
            Ok(Value::Array(left.iter().chain(right).cloned().collect()))
        }
        (Value::Number(left), Value::Number(right)) => add_numbers(left, right).map(Value::Number),
        _ => {
            let message = format!(
                "unsupported operand type(s) for +: '{}' and '{}'",
                type_name(left),
                type_name(right)
            );
            Err(Exception::builtin("TypeError", message))
        }
    }
}

/// `left * right` of two numbers.
pub(super) fn multiply(left: i64, right: i64) -> Result<i64, Exception> {
    left.checked_mul(right).ok_or_else(out_of_range)
}

/// `sum(values)`.
pub(super) fn sum(values: &[Value]) -> Result<Value, Exception> {
    values.iter().try_fold(Value::from(0), |total, value| add(&total, value))
}

fn add_numbers(left: &Number, right: &Number) -> Result<Number, Exception> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left.checked_add(right).map(Number::from).ok_or_else(out_of_range);
    }
    let sum = left.as_f64().zip(right.as_f64()).map(|(left, right)| left + right);
    sum.and_then(Number::from_f64).ok_or_else(out_of_range)
}

/// Python's numbers have no such bounds; the suite stays within them.
fn out_of_range() -> Exception {
    Exception::builtin("OverflowError", "the result does not fit a JSON number")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}
