//! Python's pickle, restricted to plain data.
//!
//! A pickle is a program for a stack machine. [`machine`] runs its opcodes, without any that could
//! import or call: of the names that a pickle may refer to it knows those of plain data alone
//! ([`global`]), and what such a name makes of its arguments is written here, in Rust. Every other
//! name is refused before anything is done with it. [`write`] turns what is left on the stack into
//! JSON.

mod global;
mod machine;
mod reader;
mod write;

use std::mem::size_of;

use chrono_tz::Tz;
use global::Global;

use super::{Serializer, SerializerError};
use crate::wire::isoformat::UtcOffset;
use crate::wire::typed_json::TypedValue;

pub(super) fn to_json(body: &[u8], limit: usize) -> Result<Vec<u8>, SerializerError> {
    // An opcode is one byte and may make one value. So many fit into the memory that the limit
    // stands for, several times over.
    let most_nodes = (limit / size_of::<Node>()).saturating_mul(4).max(1 << 16);
    let (nodes, root) = machine::Machine::new(body, most_nodes).run()?;
    write::to_json(&nodes, root, limit)
}

/// A value by its place among all values of the pickle; several may refer to one.
type Id = u32;

/// A value of the stack machine.
#[derive(Debug)]
enum Node {
    None,
    Bool(bool),
    Integer(Integer),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
    Typed(Box<TypedValue>),
    /// `datetime.timedelta`, as an offset from UTC needs it.
    TimeDelta(chrono::TimeDelta),
    /// `datetime.timezone`.
    TimeZone(UtcOffset),
    /// `zoneinfo.ZoneInfo`.
    ZoneInfo(Tz),
    /// A `uuid.UUID` that has not been given its number.
    UuidToBe,
    Global(Global),
    /// A value of which only the kind matters, because JSON has none such.
    Foreign(&'static str),
}

impl Node {
    /// Bytes of a text, which whoever reads it copies.
    fn text_length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }
}

/// An integer of up to 128 bits; longer ones are refused where they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Integer {
    is_negative: bool,
    magnitude: u128,
}

impl From<i64> for Integer {
    fn from(value: i64) -> Self {
        Self { is_negative: value < 0, magnitude: value.unsigned_abs().into() }
    }
}

impl Integer {
    /// The value, if it has 64 bits.
    fn as_i64(self) -> Option<i64> {
        let magnitude = i128::try_from(self.magnitude).ok()?;
        i64::try_from(if self.is_negative { -magnitude } else { magnitude }).ok()
    }
}

fn malformed(detail: impl Into<String>) -> SerializerError {
    SerializerError::Malformed { serializer: Serializer::Pickle, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(pickle: &[u8]) -> Result<String, String> {
        to_json(pickle, 10_000)
            .map(|json| String::from_utf8(json).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_but_plain_data_is_let_in_and_what_was_wanted_is_named() {
        for (pickle, name) in [
            (&b"cos\nsystem\n(S'true'\ntR."[..], "os.system"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "posix.system"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
            (
                b"\x80\x04\x8c\x08datetime\x8c\x12datetime.__class__\x93.",
                "datetime.datetime.__class__",
            ),
            (b"cbuiltins\ngetattr\n(czoneinfo\nZoneInfo\nVfrom_file\ntR.", "builtins.getattr"),
            (b"cbuiltins\ngetattr\n(cdatetime\ndate\nV_unpickle\ntR.", "builtins.getattr"),
            (b"\x80\x02ccopyreg\n__newobj__\n.", "copyreg.__newobj__"),
            (b"(S'true'\nios\nsystem\n.", "opcode S"),
            (b"(ios\nsystem\n.", "opcode i"),
            (b"Pabc\n.", "opcode P"),
            (b"\x82\x01.", "opcode \\x82"),
        ] {
            let error = json(pickle).unwrap_err();
            assert!(error.starts_with(&format!("the pickle names {name}, ")), "{error}");
        }
    }

    #[test]
    fn a_value_that_refers_to_itself_ends() {
        // [].append(itself)
        let list = b"\x80\x04]\x94h\x00a.";
        assert_eq!(json(list).unwrap_err(), "the body is nested deeper than 100 levels");
    }

    #[test]
    fn a_value_that_doubles_itself_ends() {
        // A list of two of the list before it, forty times.
        let mut bomb = b"\x80\x04]\x94".to_vec();
        for memo in 0..40 {
            bomb.extend([b']', 0x94, b'h', memo, b'a', b'h', memo, b'a']);
        }
        bomb.push(b'.');
        assert!(json(&bomb).unwrap_err().starts_with("the body is longer than"));
    }

    #[test]
    fn more_values_than_memory_is_meant_for_are_refused() {
        let bomb = [&vec![b']'; 1 << 20][..], b"."].concat();
        assert!(json(&bomb).unwrap_err().contains("more than"), "{:?}", json(&bomb));
    }

    #[test]
    fn bytes_that_are_no_pickle_are_refused() {
        for (pickle, complaint) in [
            (&b""[..], "it ends before its end"),
            (b"N", "it ends before its end"),
            (b".", "the stack is empty"),
            (b"e.", "there is no mark"),
            (b"Na.", "the stack is empty"),
            (b"N(a.", "the stack is empty"),
            (b"h\x05.", "nothing was stored as 5"),
            (b"\x80\x06N.", "protocol 6"),
            (b"N0.", "the stack is empty"),
            (b"]K\x01K\x02s.", "no mapping"),
            (b"\x8c\xff.", "it ends before its end"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", "it ends before its end"),
            (b"I12x\n.", "no integer"),
            (b"NR.", "the stack is empty"),
            (b"N)R.", "the pickle calls what cannot be called"),
            (b"\xfe.", "\\xfe is no opcode"),
        ] {
            let error = json(pickle).unwrap_err();
            assert!(error.contains(complaint), "{}: {error}", pickle.escape_ascii());
        }
    }
}
