//! A JSON list that keeps the bytes it arrived with, and of which the last element can be taken.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The text of a list, read no further than where a list ends.
///
/// The rest of a chain is one: its next step is the last element, and what comes after that goes
/// out as it came in. A step therefore costs what its bytes cost to copy, however many follow it.
#[derive(Debug, Clone)]
pub struct RawList(Box<RawValue>);

/// All elements of a list but the last, as text.
#[derive(Debug, Clone, Copy)]
pub struct AllButLast<'a>(&'a str);

impl RawList {
    /// Keeps a list; `None` for any other value.
    pub(super) fn new(list: &RawValue) -> Option<Self> {
        list.get().starts_with('[').then(|| Self(list.to_owned()))
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.split_last().is_none()
    }

    /// The last element's JSON text, and all before it.
    pub fn split_last(&self) -> Option<(&str, AllButLast<'_>)> {
        let text = self.0.get();
        let inside = text.strip_suffix(']')?;
        let (start, others) = match last_comma(inside) {
            Some(comma) => (comma + 1, text[..comma].trim_ascii_end()),
            None => (1, "["),
        };
        let last = inside[start..].trim_ascii();
        (!last.is_empty()).then_some((last, AllButLast(others)))
    }

    /// Every element as a value, null where one cannot be read.
    pub fn values(&self) -> Vec<Value> {
        values(self.0.get())
    }
}

impl Serialize for RawList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl AllButLast<'_> {
    /// Number of bytes of the list's text.
    pub(super) fn len(&self) -> usize {
        self.0.len() + 1
    }

    /// Writes the list.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.0.as_bytes());
        text.push(b']');
    }

    /// Every element as a value, null where one cannot be read.
    pub fn values(&self) -> Vec<Value> {
        values(&format!("{}]", self.0))
    }
}

fn values(list: &str) -> Vec<Value> {
    let elements: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    elements
        .into_iter()
        .map(|element| serde_json::from_str(element.get()).unwrap_or_default())
        .collect()
}

/// Where the comma before the last element stands in a list's text without its closing bracket.
///
/// It is looked for from the end, so that only the last element is walked through. The text is JSON:
/// backwards, too, it is clear where a string begins, because inside of one every quotation mark
/// follows an odd number of backslashes, and before one there is none.
fn last_comma(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let (mut at, mut depth) = (bytes.len(), 0_usize);
    while at > 0 {
        at -= 1;
        match bytes[at] {
            b'"' => at = start_of_string(bytes, at),
            b'}' | b']' => depth += 1,
            b'{' | b'[' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the string begins that ends with the quotation mark at `end`.
fn start_of_string(bytes: &[u8], end: usize) -> usize {
    let mut at = end;
    loop {
        let Some(before) = bytes[..at].iter().rposition(|byte| *byte == b'"') else { return 0 };
        let escapes = bytes[..before].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return before;
        }
        at = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn list(text: &str) -> RawList {
        RawList::new(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    fn written(others: AllButLast<'_>) -> String {
        let mut text = Vec::new();
        others.write(&mut text);
        assert_eq!(text.len(), others.len());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_left_keeps_its_bytes() {
        for (text, last, others) in [
            ("[1]", "1", "[]"),
            ("[ 1.0e5 ,\t\"a\\u00e9\" ,\n{ } ]", "{ }", "[ 1.0e5 ,\t\"a\\u00e9\"]"),
            (r#"["a", "],[\\\"{", "b\\"]"#, r#""b\\""#, r#"["a", "],[\\\"{"]"#),
            (r#"[{"a": [1, 2]}, [{"b": "\"],"}]]"#, r#"[{"b": "\"],"}]"#, r#"[{"a": [1, 2]}]"#),
            ("[123456789012345678901234567890, null]", "null", "[123456789012345678901234567890]"),
        ] {
            let list = list(text);
            let (found, rest) = list.split_last().unwrap();
            assert_eq!((found, written(rest).as_str()), (last, others));
            assert!(!list.is_empty());
        }
        assert!(list("[]").is_empty() && list("[ \n]").is_empty());
    }

    #[test]
    fn only_a_list_is_one() {
        for text in ["{}", "\"[]\"", "1", "null"] {
            assert!(RawList::new(&RawValue::from_string(text.to_owned()).unwrap()).is_none());
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"["\\,\[\]{}:a\n ]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((r#"["\\,\[\]{}]{0,4}"#, inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_last_element_is_found_whatever_the_elements_are(
            elements in prop::collection::vec(any_json(), 0..6),
            is_pretty: bool,
        ) {
            let value = json!(elements);
            let text = match is_pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let list = list(&text);
            prop_assert_eq!(&list.values(), &elements);
            match (list.split_last(), elements.split_last()) {
                (None, None) => {}
                (Some((last, others)), Some((expected, before))) => {
                    prop_assert_eq!(&serde_json::from_str::<Value>(last).unwrap(), expected);
                    prop_assert_eq!(others.values(), before);
                    let others: Value = serde_json::from_str(&written(others)).unwrap();
                    prop_assert_eq!(others, json!(before));
                }
                (found, _) => prop_assert!(false, "{:?} of {}", found, text),
            }
        }
    }
}
