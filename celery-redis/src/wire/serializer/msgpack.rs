//! `MessagePack`, as msgpack-python reads it with kombu's options.

use rmp::Marker;

use super::json_text::JsonText;
use super::{Serializer, SerializerError};
use crate::wire::typed_json::TypedValue;

pub(super) fn to_json(body: &[u8], limit: usize) -> Result<Vec<u8>, SerializerError> {
    let mut reader = Reader { rest: body, json: JsonText::new(limit) };
    reader.value()?;
    if reader.rest.is_empty() {
        Ok(reader.json.into_bytes())
    } else {
        Err(malformed(format!("{} bytes follow it", reader.rest.len())))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    json: JsonText,
}

impl<'a> Reader<'a> {
    /// One value with everything in it; how deep is bounded by [`JsonText`].
    fn value(&mut self) -> Result<(), SerializerError> {
        let [marker] = self.array()?;
        match Marker::from_u8(marker) {
            Marker::Null => self.json.null(),
            Marker::True => self.json.bool(true),
            Marker::False => self.json.bool(false),
            Marker::FixPos(value) => self.integer(value),
            Marker::FixNeg(value) => self.integer(value),
            Marker::U8 => self.array().map(u8::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::U16 => self.array().map(u16::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::U32 => self.array().map(u32::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::U64 => self.array().map(u64::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::I8 => self.array().map(i8::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::I16 => self.array().map(i16::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::I32 => self.array().map(i32::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::I64 => self.array().map(i64::from_be_bytes).and_then(|int| self.integer(int)),
            Marker::F32 => {
                let value = f32::from_be_bytes(self.array()?);
                self.json.float(value.into())
            }
            Marker::F64 => {
                let value = f64::from_be_bytes(self.array()?);
                self.json.float(value)
            }
            Marker::FixStr(length) => self.text(length.into()),
            Marker::Str8 => self.length8().and_then(|length| self.text(length)),
            Marker::Str16 => self.length16().and_then(|length| self.text(length)),
            Marker::Str32 => self.length32().and_then(|length| self.text(length)),
            Marker::Bin8 => self.length8().and_then(|length| self.bytes(length)),
            Marker::Bin16 => self.length16().and_then(|length| self.bytes(length)),
            Marker::Bin32 => self.length32().and_then(|length| self.bytes(length)),
            Marker::FixArray(length) => self.list(length.into()),
            Marker::Array16 => self.length16().and_then(|length| self.list(length)),
            Marker::Array32 => self.length32().and_then(|length| self.list(length)),
            Marker::FixMap(length) => self.mapping(length.into()),
            Marker::Map16 => self.length16().and_then(|length| self.mapping(length)),
            Marker::Map32 => self.length32().and_then(|length| self.mapping(length)),
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => {
                Err(SerializerError::NotPlain { what: "an extension type".to_owned() })
            }
            Marker::Reserved => Err(malformed("the byte c1 stands for nothing".to_owned())),
        }
    }

    fn integer(&mut self, value: impl Into<i128>) -> Result<(), SerializerError> {
        self.json.integer(&value.into().to_string())
    }

    fn text(&mut self, length: usize) -> Result<(), SerializerError> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| malformed("a string is not UTF-8".to_owned()))?;
        self.json.text(text)
    }

    fn bytes(&mut self, length: usize) -> Result<(), SerializerError> {
        let bytes = self.take(length)?.to_vec();
        self.json.typed(&TypedValue::Bytes(bytes))
    }

    fn list(&mut self, length: usize) -> Result<(), SerializerError> {
        self.json.begin_list()?;
        for _ in 0..length {
            self.value()?;
        }
        self.json.end()
    }

    fn mapping(&mut self, length: usize) -> Result<(), SerializerError> {
        self.json.begin_mapping()?;
        for _ in 0..length {
            let key = self.rest.first().copied().map(Marker::from_u8);
            if !matches!(
                key,
                Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32)
            ) {
                // msgpack-python's strict_map_key takes bytes too, which JSON does not.
                return Err(SerializerError::NotPlain {
                    what: "a mapping with a key that is no string".to_owned(),
                });
            }
            self.value()?;
            self.value()?;
        }
        self.json.end()
    }

    fn length8(&mut self) -> Result<usize, SerializerError> {
        self.array().map(|[length]: [u8; 1]| length.into())
    }

    fn length16(&mut self) -> Result<usize, SerializerError> {
        self.array().map(|length| u16::from_be_bytes(length).into())
    }

    fn length32(&mut self) -> Result<usize, SerializerError> {
        let length = u32::from_be_bytes(self.array()?);
        usize::try_from(length).map_err(|_| cut_off())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SerializerError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], SerializerError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn cut_off() -> SerializerError {
    malformed("it ends in the middle of a value".to_owned())
}

fn malformed(detail: String) -> SerializerError {
    SerializerError::Malformed { serializer: Serializer::Msgpack, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> Result<String, String> {
        to_json(bytes, 1000)
            .map(|json| String::from_utf8(json).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_those_that_python_reads() {
        for (bytes, expected) in [
            (&b"\x93\x92\x02\x03\x80\xc0"[..], "[[2, 3], {}, null]"),
            (b"\x81\xa1k\x92\xc3\xc2", r#"{"k": [true, false]}"#),
            (
                b"\x94\xff\xcd\xff\xff\xd3\x80\0\0\0\0\0\0\0\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
                "[-1, 65535, -9223372036854775808, 18446744073709551615]",
            ),
            (b"\x92\xca\x3f\x80\0\0\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "[1.0, 0.1]"),
            (b"\x91\xa3caf", r#"["caf"]"#),
            (
                b"\x92\xc4\x02ab\xc4\x01\xff",
                r#"[{"__type__": "bytes", "__value__": "ab"}, {"__type__": "base64", "__value__": "/w=="}]"#,
            ),
        ] {
            assert_eq!(json(bytes).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_python_does_not_read_or_json_does_not_hold_is_refused() {
        for (bytes, complaint) in [
            (&b""[..], "ends in the middle"),
            (b"\x92\x01", "ends in the middle"),
            (b"\xdd\xff\xff\xff\xff\x01", "ends in the middle"),
            (b"\xdb\xff\xff\xff\xffab", "ends in the middle"),
            (b"\x01\x02", "1 bytes follow it"),
            (b"\xc1", "c1 stands for nothing"),
            (b"\xa1\xff", "a string is not UTF-8"),
            (b"\xd6\xff\0\0\0\0", "holds an extension type"),
            (b"\x81\x01\x02", "a key that is no string"),
            (b"\xcb\x7f\xf0\0\0\0\0\0\0", "holds the float inf"),
            (&[0x91; 200], "deeper than 100 levels"),
        ] {
            let error = json(bytes).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
        let long = [&b"\xda\x07\xd0"[..], &[b'x'; 2000]].concat();
        assert_eq!(
            json(&long).unwrap_err(),
            "the body is longer than the 1000 bytes of JSON that are accepted here"
        );
    }
}
