//! kombu's typed JSON: values that JSON lacks, as `{"__type__": …, "__value__": …}`
//! (`kombu.utils.json`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{NaiveDate, NaiveTime};
use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::isoformat::{self, UtcOffset, WallTime};

/// A value of one of kombu's types. A task takes one as a parameter or returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedValue {
    /// `datetime.datetime`, aware or naive.
    DateTime(WallTime),
    /// `datetime.date`.
    Date(NaiveDate),
    /// `datetime.time`; its offset, where it has one.
    Time(NaiveTime, Option<UtcOffset>),
    /// `decimal.Decimal`, as Python's `str` writes it.
    Decimal(String),
    /// `uuid.UUID`.
    Uuid(Uuid),
    /// `bytes`.
    Bytes(Vec<u8>),
}

/// Typed JSON that kombu could not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypedJsonError {
    /// A `__type__` that kombu does not have by itself.
    #[error(
        "__type__ {0} is unknown; known are datetime, date, time, decimal, uuid, bytes, base64"
    )]
    UnknownType(String),
    /// A `__value__` that is none of the type.
    #[error("a {0} has another __value__")]
    Value(&'static str),
}

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// Whether every typed value in `value` is one that kombu can read.
pub fn check(value: &Value) -> Result<(), TypedJsonError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => {
            map.values().try_for_each(check)?;
            match typed(map) {
                Some((name, value)) => TypedValue::read(name, value).map(|_| ()),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Type and value of a mapping that has just these two.
fn typed(map: &Map<String, Value>) -> Option<(&Value, &Value)> {
    if map.len() == 2 { map.get(TYPE).zip(map.get(VALUE)) } else { None }
}

impl TypedValue {
    /// The word for the type; bytes that are no UTF-8 are `base64` on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::DateTime(_) => "datetime",
            Self::Date(_) => "date",
            Self::Time(..) => "time",
            Self::Decimal(_) => "decimal",
            Self::Uuid(_) => "uuid",
            Self::Bytes(_) => "bytes",
        }
    }

    fn read(name: &Value, value: &Value) -> Result<Self, TypedJsonError> {
        let name = name.as_str().ok_or_else(|| TypedJsonError::UnknownType(name.to_string()))?;
        let text = value.as_str();
        let (name, read) = match name {
            "datetime" => ("datetime", text.and_then(isoformat::read).map(Self::DateTime)),
            "date" => {
                let date = text.and_then(isoformat::read).map(|time| time.local.date());
                ("date", date.map(Self::Date))
            }
            "time" => {
                let time = text.and_then(isoformat::read_time);
                ("time", time.map(|(time, offset)| Self::Time(time, offset)))
            }
            "decimal" => {
                let decimal = text.filter(|text| is_decimal(text));
                ("decimal", decimal.map(|text| Self::Decimal(text.to_owned())))
            }
            "uuid" => {
                let hex = value.get("hex").and_then(Value::as_str);
                ("uuid", hex.and_then(|hex| Uuid::parse_str(hex).ok()).map(Self::Uuid))
            }
            "bytes" => ("bytes", text.map(|text| Self::Bytes(text.as_bytes().to_vec()))),
            "base64" => {
                let bytes = text.and_then(|text| STANDARD.decode(text).ok());
                ("base64", bytes.map(Self::Bytes))
            }
            _ => return Err(TypedJsonError::UnknownType(format!("{name:?}"))),
        };
        read.ok_or(TypedJsonError::Value(name))
    }
}

impl Serialize for TypedValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, value) = match self {
            Self::DateTime(time) => ("datetime", Value::String(time.to_string())),
            Self::Date(date) => ("date", Value::String(date.to_string())),
            Self::Time(time, offset) => {
                let offset = offset.map(|offset| offset.to_string()).unwrap_or_default();
                ("time", Value::String(isoformat::time(*time) + &offset))
            }
            Self::Decimal(text) => ("decimal", Value::String(text.clone())),
            Self::Uuid(uuid) => ("uuid", json!({"hex": uuid.simple().to_string()})),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => ("bytes", Value::String(text.to_owned())),
                Err(_) => ("base64", Value::String(STANDARD.encode(bytes))),
            },
        };
        let mut object = serializer.serialize_struct("TypedValue", 2)?;
        object.serialize_field(TYPE, name)?;
        object.serialize_field(VALUE, &value)?;
        object.end()
    }
}

impl<'de> Deserialize<'de> for TypedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let (name, value) = typed(&map)
            .ok_or_else(|| D::Error::custom("a typed value has just __type__ and __value__"))?;
        Self::read(name, value).map_err(D::Error::custom)
    }
}

/// What `decimal.Decimal` takes as text: digits with point and exponent, infinity, NaN.
pub(super) fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    if ["inf", "infinity"].contains(&unsigned.as_str()) {
        return true;
    }
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(payload) = unsigned.strip_prefix("snan").or(unsigned.strip_prefix("nan")) {
        return is_digits(payload);
    }
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((&unsigned, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    whole.len() + fraction.len() > 0
        && !exponent.is_empty()
        && is_digits(whole)
        && is_digits(fraction)
        && is_digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::python_json;

    /// As kombu 5.7 writes them.
    const WRITTEN: [&str; 14] = [
        r#"{"__type__": "datetime", "__value__": "2020-01-02T03:04:05+00:00"}"#,
        r#"{"__type__": "datetime", "__value__": "2020-01-02T03:04:05.000600+05:30"}"#,
        r#"{"__type__": "datetime", "__value__": "0001-01-01T00:00:00-00:53:28"}"#,
        r#"{"__type__": "datetime", "__value__": "2020-01-02T03:04:05"}"#,
        r#"{"__type__": "date", "__value__": "2020-01-02"}"#,
        r#"{"__type__": "time", "__value__": "03:04:05"}"#,
        r#"{"__type__": "time", "__value__": "03:04:05.000001-08:00"}"#,
        r#"{"__type__": "decimal", "__value__": "1.50"}"#,
        r#"{"__type__": "decimal", "__value__": "-1E+30"}"#,
        r#"{"__type__": "decimal", "__value__": "NaN"}"#,
        r#"{"__type__": "decimal", "__value__": "-Infinity"}"#,
        r#"{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}"#,
        r#"{"__type__": "bytes", "__value__": "abc"}"#,
        r#"{"__type__": "base64", "__value__": "/wA="}"#,
    ];

    #[test]
    fn a_typed_value_goes_out_as_it_came() {
        for text in WRITTEN {
            let value: TypedValue = serde_json::from_str(text).unwrap();
            assert_eq!(python_json::to_string(&value).unwrap(), text);
            assert_eq!(check(&serde_json::from_str(text).unwrap()), Ok(()));
        }
    }

    #[test]
    fn what_kombu_cannot_read_is_refused_however_deep() {
        for (text, complaint) in [
            (r#"{"__type__": "moon", "__value__": 1}"#, "__type__ \"moon\" is unknown"),
            (r#"{"__type__": 7, "__value__": 1}"#, "__type__ 7 is unknown"),
            (r#"{"__type__": "datetime", "__value__": "noon"}"#, "a datetime has another"),
            (r#"{"__type__": "date", "__value__": 5}"#, "a date has another"),
            (r#"{"__type__": "time", "__value__": "25:00"}"#, "a time has another"),
            (r#"{"__type__": "decimal", "__value__": "1,5"}"#, "a decimal has another"),
            (r#"{"__type__": "decimal", "__value__": "."}"#, "a decimal has another"),
            (r#"{"__type__": "uuid", "__value__": "5"}"#, "a uuid has another"),
            (r#"{"__type__": "bytes", "__value__": null}"#, "a bytes has another"),
            (r#"{"__type__": "base64", "__value__": "?"}"#, "a base64 has another"),
        ] {
            let value = json!([{"deep": [serde_json::from_str::<Value>(text).unwrap()]}]);
            let error = check(&value).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{error}");
        }
    }

    #[test]
    fn a_mapping_with_other_keys_too_is_a_mapping() {
        assert_eq!(check(&json!({"__type__": "moon"})), Ok(()));
        assert_eq!(check(&json!({"__type__": "moon", "__value__": 1, "x": 2})), Ok(()));
    }
}
