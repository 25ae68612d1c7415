//! JSON texts without their long strings, which are found by wider instructions than a parser has.
//!
//! A message of a megabyte is mostly one string. What is left of it without that is read as any
//! other JSON, and the string is put back into what was read.

use memchr::{memchr, memchr2, memmem};
use serde_json::Value;

/// Texts from this size on are worth a look.
const LARGE: usize = 32 << 10;
/// Strings from this size on are taken out.
const LONG: usize = 4 << 10;
/// What stands for a string begins with this, which nothing else that is left begins with.
const MARK: char = '\0';
/// The mark in JSON.
const ESCAPED_MARK: &str = "\\u0000";

/// A text whose long strings are taken out.
pub(super) struct Skeleton<'a> {
    /// JSON, if the whole text is.
    pub(super) text: String,
    /// Whether they are text is not known yet.
    strings: Vec<&'a [u8]>,
}

impl<'a> Skeleton<'a> {
    /// What is left of a text; `None` for one that is small, has few long strings, or has none that
    /// ends.
    pub(super) fn of(json: &'a [u8]) -> Option<Self> {
        if json.len() < LARGE {
            return None;
        }
        let mut left = Vec::with_capacity(LONG);
        let mut strings = Vec::new();
        let mut rest = json;
        while let Some(start) = memchr(b'"', rest) {
            let (before, string) = (&rest[..=start], &rest[start + 1..]);
            left.extend_from_slice(before);
            let plain = memchr2(b'"', b'\\', string)?;
            let end = end_of_string(string, plain)?;
            let (inside, behind) = (&string[..end], &string[end + 1..]);
            if plain == end && end >= LONG && !is_key(behind) {
                left.extend_from_slice(format!("{ESCAPED_MARK}{}", strings.len()).as_bytes());
                strings.push(inside);
            } else {
                left.extend_from_slice(inside);
            }
            left.push(b'"');
            if left.len() > json.len() / 4 {
                return None;
            }
            rest = behind;
        }
        left.extend_from_slice(rest);
        let text = String::from_utf8(left).ok()?;
        let marks = memmem::find_iter(text.as_bytes(), ESCAPED_MARK).count();
        (marks == strings.len()).then_some(Self { text, strings })
    }

    /// Whether a piece of the text is as it was.
    pub(super) fn is_whole(piece: &str) -> bool {
        memmem::find(piece.as_bytes(), ESCAPED_MARK.as_bytes()).is_none()
    }

    /// The only string that was taken out, if this was read in its place. It has no escapes; [`text_of`]
    /// tells whether it is one at all.
    pub(super) fn only(&self, read: &str) -> Option<&'a [u8]> {
        self.taken(read).filter(|_| self.strings.len() == 1)
    }

    fn taken(&self, read: &str) -> Option<&'a [u8]> {
        self.strings.get(read.strip_prefix(MARK)?.parse::<usize>().ok()?).copied()
    }

    /// Puts the strings back; `None` where one of them is no text.
    pub(super) fn restore(&self, value: &mut Value) -> Option<()> {
        match value {
            Value::String(string) => {
                if let Some(taken) = self.taken(string) {
                    text_of(taken)?.clone_into(string);
                }
                Some(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.restore(item)),
            // None of the keys is taken out.
            Value::Object(entries) => {
                entries.values_mut().try_for_each(|value| self.restore(value))
            }
            _ => Some(()),
        }
    }
}

/// Where the string ends whose first quotation mark or backslash is at `at`.
fn end_of_string(string: &[u8], mut at: usize) -> Option<usize> {
    while *string.get(at)? == b'\\' {
        // Whatever is escaped, its first byte ends nothing.
        let from = at + 2;
        at = from + memchr2(b'"', b'\\', string.get(from..)?)?;
    }
    Some(at)
}

/// Whether a string is a key by what stands behind it.
fn is_key(behind: &[u8]) -> bool {
    behind.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// The text of a string without escapes; control characters are to be escaped.
pub(super) fn text_of(inside: &[u8]) -> Option<&str> {
    let least = inside.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    std::str::from_utf8(inside).ok().filter(|_| least >= b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn long(character: &str) -> String {
        character.repeat(LARGE / character.len())
    }

    fn read(json: &str) -> Option<Value> {
        let skeleton = Skeleton::of(json.as_bytes())?;
        assert!(skeleton.text.len() < json.len() / 4);
        let mut value = serde_json::from_str(&skeleton.text).unwrap();
        skeleton.restore(&mut value)?;
        Some(value)
    }

    #[test]
    fn strings_that_are_taken_out_are_put_back() {
        let value = json!({
            "a": [1, long("x"), {"b": long("\u{fc}\u{1f600}")}],
            "\\\"": ["", "\"\\", "\u{1}", long("y,:[]{}")],
        });
        assert_eq!(read(&value.to_string()), Some(value));
    }

    #[test]
    fn long_keys_and_strings_with_escapes_stay() {
        let key = "k".repeat(LONG);
        let json = format!(r#"{{"{key}" : "{}", "e": "{}\n"}}"#, long("x"), "z".repeat(LONG));
        let value = read(&json).unwrap();
        assert_eq!(value[&key], long("x"));
        assert_eq!(value["e"], format!("{}\n", "z".repeat(LONG)));
    }

    #[test]
    fn what_this_is_not_for_is_left_to_the_parser() {
        let x = long("x");
        for (json, reason) in [
            (format!(r#"["{}"]"#, "x".repeat(LONG)), "small"),
            (format!("[{}1]", "\"a\", ".repeat(LARGE)), "no long string"),
            (format!(r#"["{x}"#), "unfinished"),
            (format!(r#"["{x}\"#), "unfinished escape"),
            (format!(r#"["{x}", "\u00000"]"#), "something like what stands for a string"),
        ] {
            assert!(Skeleton::of(json.as_bytes()).is_none(), "{reason}");
        }
        assert_eq!(read(&format!("[\"{x}\n\"]")), None, "control character");
        let broken = [&b"[\""[..], &[0xff; LARGE], b"\"]"].concat();
        let skeleton = Skeleton::of(&broken).unwrap();
        let mut value = serde_json::from_str(&skeleton.text).unwrap();
        assert_eq!(skeleton.restore(&mut value), None);
    }
}
