//! What a task returned, as JSON. Long strings are written by wider instructions than a serialiser
//! has, which looks at each of their bytes.

use serde::Serialize;
use serde::ser::{
    Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::value::RawValue;

/// Strings from this size on are looked at block by block.
const LONG: usize = 4 << 10;
/// A block stays in the processor's nearest cache while it is looked at twice and copied.
const BLOCK: usize = 8 << 10;
/// By this name `serde_json` knows a text that is JSON already (its `RawValue`), and copies it.
const RAW: &str = "$serde_json::private::RawValue";

/// The bytes that `serde_json` writes for a value.
///
/// # Errors
///
/// Where the value itself cannot be JSON: a map with keys that are not strings, or a `Serialize`
/// implementation that reports an error.
pub fn to_raw_value<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(&Part(value))
}

/// A value, or a part of one, whose long strings are written here.
struct Part<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Inside(serializer))
    }
}

/// A string between quotation marks, escaped.
fn quoted(text: &str) -> serde_json::Result<String> {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    let mut rest = text;
    while !rest.is_empty() {
        let (block, behind) = rest.split_at(rest.floor_char_boundary(BLOCK));
        if is_plain(block.as_bytes()) {
            json.push_str(block);
        } else {
            let escaped = serde_json::to_string(block)?;
            json.push_str(&escaped[1..escaped.len() - 1]);
        }
        rest = behind;
    }
    json.push('"');
    Ok(json)
}

/// Whether there is nothing to escape.
fn is_plain(block: &[u8]) -> bool {
    let least = block.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    least >= b' ' && memchr::memchr2(b'"', b'\\', block).is_none()
}

/// The serialiser that it is passed on to, or what that has begun.
struct Inside<S>(S);

/// Passes on what is no string and has no parts.
macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
            self.0.$method($($argument),*)
        })*
    };
}

/// Passes on the beginning of what has parts.
macro_rules! begin {
    ($($method:ident($($argument:ident: $type:ty),*) -> $parts:ident;)*) => {
        $(fn $method(self, $($argument: $type),*) -> Result<Self::$parts, S::Error> {
            self.0.$method($($argument),*).map(Inside)
        })*
    };
}

impl<S: Serializer> Serializer for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Inside<S::SerializeSeq>;
    type SerializeTuple = Inside<S::SerializeTuple>;
    type SerializeTupleStruct = Inside<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Inside<S::SerializeTupleVariant>;
    type SerializeMap = Inside<S::SerializeMap>;
    type SerializeStruct = Inside<S::SerializeStruct>;
    type SerializeStructVariant = Inside<S::SerializeStructVariant>;

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        if text.len() < LONG {
            return self.0.serialize_str(text);
        }
        let json = quoted(text).map_err(S::Error::custom)?;
        let mut raw = self.0.serialize_struct(RAW, 1)?;
        raw.serialize_field(RAW, &json)?;
        raw.end()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Part(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Part(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Part(value))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    pass_on! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    begin! {
        serialize_seq(length: Option<usize>) -> SerializeSeq;
        serialize_tuple(length: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> SerializeStructVariant;
    }
}

/// Parts that have no names.
macro_rules! items {
    ($($parts:ident::$method:ident;)*) => {
        $(impl<S: $parts> $parts for Inside<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), S::Error> {
                self.0.$method(&Part(item))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

items! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// Parts that have names.
macro_rules! fields {
    ($($parts:ident;)*) => {
        $(impl<S: $parts> $parts for Inside<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                field: &T,
            ) -> Result<(), S::Error> {
                // What is JSON already is not a string in it.
                if name == RAW {
                    return self.0.serialize_field(name, field);
                }
                self.0.serialize_field(name, &Part(field))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.0.skip_field(name)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: SerializeMap> SerializeMap for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Part(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn is_written_as_ever<T: Serialize>(value: &T) {
        let (ours, theirs) = (to_raw_value(value).unwrap(), serde_json::to_string(value).unwrap());
        assert!(ours.get() == theirs, "{theirs:.100} became {:.100}", ours.get());
    }

    /// Strings of all kinds around the sizes at which they are treated otherwise.
    fn strings() -> Vec<String> {
        let characters =
            ["x", "\u{fc}", "\u{20ac}", "\u{1f600}", "\"", "\\", "\n", "\u{7f}", "\u{1}"];
        let mut strings = Vec::new();
        for character in characters {
            for size in [LONG - 1, LONG, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 2] {
                strings.push(character.repeat(size.div_ceil(character.len())));
                // One at each end of the first block.
                for at in [0, BLOCK - 1, BLOCK] {
                    let before = "a".repeat(at);
                    strings.push(format!("{before}{character}{}", "z".repeat(size)));
                }
            }
        }
        strings
    }

    #[test]
    fn strings_are_written_as_ever_whatever_is_in_them() {
        for string in strings() {
            is_written_as_ever(&string);
        }
    }

    #[derive(Serialize)]
    enum Kind {
        Unit,
        Newtype(String),
        Tuple(String, f32),
        Struct { text: String, none: Option<String> },
    }

    #[derive(Serialize)]
    struct Everything {
        kinds: Vec<Kind>,
        tuple: (String, char, u128, i128),
        keys: BTreeMap<i32, Option<String>>,
        long_keys: BTreeMap<String, String>,
        value: Value,
        raw: Box<RawValue>,
        #[serde(flatten)]
        more: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<String>,
        floats: [f64; 3],
    }

    #[test]
    fn values_of_every_kind_are_written_as_ever() {
        let long = "long \"\n".repeat(BLOCK);
        is_written_as_ever(&Everything {
            kinds: vec![
                Kind::Unit,
                Kind::Newtype(long.clone()),
                Kind::Tuple(long.clone(), 0.1),
                Kind::Struct { text: long.clone(), none: None },
            ],
            tuple: (long.clone(), '"', u128::MAX, i128::MIN),
            keys: BTreeMap::from([(-7, Some(long.clone())), (8, None)]),
            long_keys: BTreeMap::from([(long.clone(), long.clone())]),
            value: json!({"a": [long, {"b": long}, 1, null, true, 2.5]}),
            raw: RawValue::from_string(format!("[\"{}\" ,  1e2]", "x".repeat(LONG))).unwrap(),
            more: json!({ "flat": long }),
            skipped: None,
            floats: [0.1, f64::NAN, 1e300],
        });
        is_written_as_ever(&());
        is_written_as_ever(&Some(&long));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        assert!(to_raw_value(&BTreeMap::from([((1, 2), "x".repeat(LONG))])).is_err());
    }
}
